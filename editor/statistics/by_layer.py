"""Recording layer by layer: the same statistics of a model that is never whole in memory (see `live.layered`).

All contexts go through a layer, in the batches that the whole model would be given, and what is recorded of it hangs on the
modules of this one layer. So counts are those of the whole model, and sums differ by no more than the order in which a sum
of floats is taken. What a layer gave is kept beside the hidden states: an interrupted run goes on at the layer where it
stopped.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..live.layered import Layered, State
from ..live.memory import plan_layers
from ..live.modules import activation_modules, input_modules
from ..live.skeleton import Skeleton
from ..live.states import States, scratch_folder
from ..models.families import Family
from ..models.identity import ModelInfo
from ..text.tokens import Packed
from ..version import versions
from .language_sums import TokenCounts
from .moments import Moments
from .per_text import Piece, pieces
from .recorder import BATCH_TOKENS, Progress, Recorder, Recording, batch_at, inside
from .residual_sums import ResidualSums, outputs_by_layer
from .resume import Arrays
from .sample import Keeper, Taken, require_finite, sample_of, taken_rows
from .statistics import Int64, Statistics
from .sums import MOMENTS, add_up, result, workers, zeros

SECOND = f"inputs.{MOMENTS[0]}"  # of the sums the one that grows with the square of the width


@dataclass(frozen=True)
class Batch:
    """Contexts of a language from number `at` on, (contexts, length); or, of no language, held-out text that is sampled."""

    ids: Int64
    language: str = ""
    at: int = 0
    taken: Taken | None = None


def collect_by_layer(
    skeleton: Skeleton,
    family: Family,
    info: ModelInfo,
    texts: Mapping[str, Packed],
    *,
    batch_size: int = 0,
    settings: Mapping[str, Any] | None = None,
    quantiles: bool = False,
    per_text: bool = False,
    held_out: Mapping[str, Packed] | None = None,
    tokenizer: Any = None,
    counted: Mapping[str, TokenCounts] | None = None,
    scratch: Path | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Return what `recorder.collect` returns of the whole model.

    With `held_out` (and its `tokenizer`) the inputs of the networks are recorded too, with what is `counted` of the texts
    the residual stream (see `language_sums`). `memory` is what the process may take in all, by default what is available;
    hidden states beyond it, and what a run needs to go on where it was interrupted, lie in the folder `scratch`. Under
    torch.distributed each worker reads the whole model, and takes every N-th batch.

    Raises StatisticsError when an activation is NaN or infinite or a GPU's memory is too small for a batch, ModelError when
    there is no room for one layer, OutputError when there is none for hidden states.
    """
    rank, world = workers()
    if scratch is not None and world > 1:
        scratch = scratch.with_name(f"{scratch.name}-{rank}")
    batch_tokens = BATCH_TOKENS.get(skeleton.device.type, 2048)
    key = {"model": info.to_data(), "texts": {name: one.sha256 for name, one in texts.items()}, "world": world,
           "settings": dict(settings or {}), "batch": [batch_size, batch_tokens], "device": skeleton.device.type,
           "versions": versions(), "quantiles": quantiles, "per_text": per_text, "lean": not counted,
           "held_out": {name: one.sha256 for name, one in (held_out or {}).items()}}  # fmt: skip
    taken = taken_rows(held_out) if held_out else []
    batches = [
        *_batches(texts, batch_size, batch_tokens, rank, world),
        *(Batch(one.context[None], taken=one) for one in taken),
    ]
    run = _Run(
        Layered(skeleton, family),
        family,
        info,
        texts,
        quantiles=quantiles,
        per_text=per_text,
        taken=taken,
        lean=not counted,
    )
    largest = max((batch.ids.size for batch in batches), default=1)
    ahead, left = plan_layers(run.layered, largest, memory)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder(scratch)) if scratch is not None else None
        if folder is not None and SECOND in run.sums:
            run.sums[SECOND] = on_disk(run.sums[SECOND], folder / "moments")
        states = stack.enter_context(closing(States(folder, key)))
        states.resume()
        run.go(batches, states, ahead=ahead, memory=left, progress=progress)
    sample = sample_of(run.x, held_out, taken, tokenizer) if held_out else None
    if world > 1:
        add_up(run.sums)
    return result(info, texts, run.sums, settings, sample, counted)


def on_disk(zeros: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Return zeros that lie in a file, so that the system can take their memory back; `zeros` where there is no room for it.

    The file has no name any more, and goes when nothing holds the array.
    """
    if not hasattr(os, "posix_fallocate"):  # pragma: no cover  # Windows, where a file that is open keeps its name
        return zeros
    try:
        with path.open("w+b") as file:
            path.unlink()
            os.posix_fallocate(file.fileno(), 0, max(1, zeros.nbytes))  # so that a full disk is seen here
            return np.memmap(file, zeros.dtype, "r+", shape=zeros.shape)
    except OSError:
        return zeros


def _batches(texts: Mapping[str, Packed], batch_size: int, batch_tokens: int, rank: int, world: int) -> Iterator[Batch]:
    """Yield the batches that the whole model would be given."""
    for name, packed in texts.items():
        at = 0
        while at < len(packed.contexts):
            size = batch_size or max(1, batch_tokens // len(packed.contexts[0]))
            batch = batch_at(packed.contexts, at, size)
            if (at // size) % world == rank:
                yield Batch(batch, name, at)
            at += len(batch)


class _Run:
    """One run: `sums` are added to, layer by layer, `x` is what each layer read at the rows that are sampled."""

    def __init__(
        self,
        layered: Layered,
        family: Family,
        info: ModelInfo,
        texts: Mapping[str, Packed],
        *,
        quantiles: bool,
        per_text: bool,
        taken: Sequence[Taken],
        lean: bool,
    ) -> None:
        self.layered, self.info, self.texts = layered, info, texts
        model = layered.skeleton.model
        acts = activation_modules(model, family)
        readers = input_modules(model, family) if taken else []
        layers, number_of = range(len(layered.layers)), layered.number_of()
        self._acts = [[act for act in acts if number_of[act] == layer] for layer in layers]
        self._first = [sum(map(len, self._acts[:layer])) for layer in layers]
        self._reader = {number_of[reader]: (number, reader) for number, reader in enumerate(readers)}
        self._pieces: dict[str, list[Piece]] = {name: pieces(one) if per_text else [] for name, one in texts.items()}
        self._outputs = outputs_by_layer(model, family, len(layers))
        hidden = int(model.config.get_text_config().hidden_size)
        self.sums = zeros(
            info, texts, quantiles=quantiles, pieces=self._pieces if per_text else None, hidden=hidden if taken else None,
            residual=None if lean else (len(layers), hidden, bool(self._outputs)),
        )  # fmt: skip
        self.x: list[Any] = [None for _ in readers]

    def go(
        self, batches: Sequence[Batch], states: States, *, ahead: bool, memory: int, progress: Progress | None
    ) -> None:
        """Run every layer that is not done."""
        import torch

        layers = len(self.layered.layers)
        tokens = {
            number: batch.ids.size - len(batch.ids) * self.texts[batch.language].skip
            for number, batch in enumerate(batches) if batch.language
        }  # fmt: skip
        whole = sum(tokens.values())
        done = whole * states.done
        for layer in range(states.done):
            self._take(layer, states.kept(layer))
        with self.layered.running(), torch.inference_mode():
            for layer in self.layered.each(states.done, ahead=ahead):
                keeper = Keeper()
                for name, own in _by_language(batches):
                    with ExitStack() as attached:
                        recorders: list[Recording] = []
                        if name:
                            recorders = [
                                *self._recorders(layer, name), *self._moments(layer, name), *self._residual(layer, name)
                            ]  # fmt: skip
                            for one in recorders:
                                attached.enter_context(one.attached())
                        elif layer in self._reader:
                            attached.enter_context(keeper.attached(self._reader[layer][1]))
                        for number, batch in own:
                            self._start(recorders, keeper, batch)
                            after = self._run(layer, batch, states.get(number))
                            for one in recorders:
                                one.commit()
                            if layer == 0 and number == 0:
                                size = after.size * sum(batch.ids.size for batch in batches) // batch.ids.size
                                states.expect(size, memory)
                            states.put(number, after)
                            if name:
                                done += tokens[number]
                                if progress:
                                    progress(f"{name}, layer {layer + 1} of {layers}", done // layers, whole)
                if layer in self._reader:
                    self.x[self._reader[layer][0]] = require_finite(keeper.result())
                states.keep(layer, self._gave(layer))
                states.turn()

    def _run(self, layer: int, batch: Batch, before: State | None) -> State:
        import torch

        device = self.layered.skeleton.device
        try:
            ids = torch.from_numpy(batch.ids)
            return self.layered.run(ids, layer, before.on(device) if before else None)
        except torch.cuda.OutOfMemoryError:
            raise StatisticsError(
                f"out of memory on {device} with {len(batch.ids)} contexts of {batch.ids.shape[1]} tokens at once. Try a "
                "smaller `batch_size` or `context`."
            ) from None

    def _start(self, recorders: "Sequence[Recording]", keeper: Keeper, batch: Batch) -> None:
        count, length = batch.ids.shape
        for one in recorders:
            one.start(count, length, self.texts[batch.language].skip)
            if isinstance(one, Recorder):
                one.texts = inside(self._pieces[batch.language], batch.at, count)
        if batch.taken:
            keeper.rows = batch.taken.rows

    def _part(self, layer: int) -> slice:
        """Return where a layer's blocks are among all."""
        return slice(self._first[layer], self._first[layer] + len(self._acts[layer]))

    def _view(self, name: str, layer: int) -> Any:
        """Return a layer's part of one of the sums."""
        array, part = self.sums[name], self._part(layer)
        kind = name.rpartition(".")[2]
        if kind == "residual":  # the embedding's row goes with the first layer
            return array[layer + 1 if layer else 0 : layer + 2]
        if kind == "output_size":
            return array[layer : layer + 1]
        if kind == "read":
            number = self._reader[layer][0] if layer in self._reader else len(array)
            return array[number : number + 1]
        if kind != "routed" and self.info.blocks:
            widths = [block.width for block in self.info.blocks]
            part = slice(sum(widths[: part.start]), sum(widths[: part.stop]))
        return array[:, part] if kind == "per_text" else array[part]

    def _recorders(self, layer: int, name: str) -> list[Recorder]:
        """Make the recorder of a layer for a language; none where the layer has no feed-forward network."""
        if not self._acts[layer]:
            return []

        def own(kind: str) -> Any:
            return self._view(f"{name}.{kind}", layer) if f"{name}.{kind}" in self.sums else None

        recorder = Recorder(
            self._acts[layer], self.info.width, self.layered.skeleton.device, own("histogram"), own("per_text"),
            blocks=self.info.blocks[self._part(layer)],
        )  # fmt: skip
        recorder.first = self._first[layer]
        recorder.active_count, recorder.total = own("active_count"), own("total")  # added to in place
        recorder.routed = own("routed") if self.info.mixture else recorder.routed
        return [recorder]

    def _moments(self, layer: int, name: str) -> list[Moments]:
        if layer not in self._reader:
            return []
        number, reader = self._reader[layer]
        second, first, begin = (self.sums[f"inputs.{kind}"][number : number + 1] for kind in MOMENTS)
        own = self._view(f"{name}.read", layer) if f"{name}.read" in self.sums else None
        moments = Moments([reader], second, first, begin, own)
        moments.number = number
        return [moments]

    def _residual(self, layer: int, name: str) -> list[ResidualSums]:
        if f"{name}.residual" not in self.sums:
            return []
        outputs = {layer: self._outputs[layer]} if self._outputs else {}
        residual, size = self.sums[f"{name}.residual"], self.sums.get(f"{name}.output_size")
        return [ResidualSums({layer: self.layered.layers[layer]}, outputs, residual, size)]

    def _gave(self, layer: int) -> Arrays:
        """Return what a layer gave: its part of all sums."""
        given: Arrays = {name: self._view(name, layer) for name in self.sums if not name.startswith("inputs.")}
        if layer in self._reader:
            number, _ = self._reader[layer]
            given |= {f"inputs.{kind}": self.sums[f"inputs.{kind}"][number] for kind in MOMENTS}
            given["inputs.sample"] = self.x[number]
        return given

    def _take(self, layer: int, given: Arrays) -> None:
        """Take in what a layer gave an earlier run."""
        if layer in self._reader:
            number, _ = self._reader[layer]
            for kind in MOMENTS:
                self.sums[f"inputs.{kind}"][number] = given[f"inputs.{kind}"]
            self.x[number] = given["inputs.sample"]
        for name in self.sums:
            if not name.startswith("inputs."):
                np.copyto(self._view(name, layer), given[name])


def _by_language(batches: Sequence[Batch]) -> Iterator[tuple[str, list[tuple[int, Batch]]]]:
    """Yield the batches of each language with their numbers."""
    for name in dict.fromkeys(batch.language for batch in batches):
        yield name, [(number, batch) for number, batch in enumerate(batches) if batch.language == name]
