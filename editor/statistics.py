"""Activation statistics: how often each neuron is active on text in each language, and how strongly.

Over the n_k counted tokens of language k, for neuron j of layer i (a_ij is the output of the activation function):

    active_count^k_ij = #{tokens: a_ij > 0}      int64, exact
    total^k_ij        = Σ a_ij                   float64

so that p^k_ij = active_count / n_k and m^k_ij = total / n_k. Both are additive. To make addition of the sums exact too,
and so independent of order, the sum over a batch is rounded to a multiple of 2⁻²⁰ before it is added: float64 holds such
numbers exactly up to 8·10⁹. Merging in any order, interrupted runs and any number of workers therefore give the same bits
(as long as the forward pass does: matrix products may round otherwise on another device, or with more threads).

Only the decoder's trunk runs; the logits are never computed. Recording hangs on the activation modules and costs a few
per cent of the forward pass.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .corpus import Packed
from .errors import OutputError, StatisticsError
from .families import trunk
from .output import replace_file

if TYPE_CHECKING:
    import torch

FORMAT = 1
METADATA = "monoglot_statistics"  # the key of the file's metadata
SUM_GRID = 2.0**20
BATCH_TOKENS = {"cpu": 2048, "cuda": 16384, "mps": 4096}  # what `batch_size=0` (auto) aims at
CPU_ROWS = 64  # a block that stays in the cache, and whose counts fit in 8 bits
SAVE_SECONDS = 20.0

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ModelInfo:
    """Which model statistics or neurons are of: its name, revision, family and shape, and `checkpoint.fingerprint`."""

    name: str
    revision: str | None
    model_type: str
    layers: int
    width: int
    fingerprint: str


@dataclass(frozen=True)
class Statistics:
    """Per language: counted tokens, active_count int64 (layers, width), total float64 (layers, width), and the sha256 of
    each text that went in.

    Loaded ones read an array from the file each time it is asked for: those of a large model in many languages take
    gigabytes, and are needed one at a time.
    """

    model: ModelInfo
    tokens: dict[str, int]
    active_count: Mapping[str, Int64]
    total: Mapping[str, Float64]
    texts: dict[str, tuple[str, ...]]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.tokens)

    def probability(self, language: str) -> Float64:
        """p^k_ij, (layers, width) in [0, 1]."""
        return self.active_count[language] / self.tokens[language]

    def mean(self, language: str) -> Float64:
        """m^k_ij, (layers, width)."""
        return self.total[language] / self.tokens[language]


def save(statistics: Statistics, path: Path) -> None:
    """Write statistics as safetensors, aside first and renamed at the end. The same statistics give the same bytes."""
    from safetensors.numpy import save as serialise

    arrays: dict[str, npt.NDArray[Any]] = {}
    for language in statistics.languages:
        arrays[f"{language}.active_count"] = statistics.active_count[language]
        arrays[f"{language}.total"] = statistics.total[language]
    head = {
        "version": FORMAT,
        "model": vars(statistics.model),
        "tokens": statistics.tokens,
        "texts": statistics.texts,
        "settings": statistics.settings,
    }
    # one key: safetensors writes several in an order that differs from run to run
    replace_file(path, serialise(arrays, metadata={METADATA: json.dumps(head)}))


def load(path: Path) -> Statistics:
    """Read a statistics file. Raises StatisticsError when it is not one, is damaged, or of an unknown format."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StatisticsError(f"there is no statistics file {path}. Make one with `monoglot detect`.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise StatisticsError(f"{path} is not a statistics file. Make one with `monoglot detect`.")
            head = json.loads(metadata[METADATA])
            if head["version"] != FORMAT:
                raise StatisticsError(
                    f"{path} has format {head['version']}, this version reads {FORMAT}. "
                    "Upgrade monoglot, or run `monoglot detect` again."
                )
            model, tokens = ModelInfo(**head["model"]), dict(head["tokens"])
            texts = {language: tuple(head["texts"][language]) for language in tokens}
            for language, count in tokens.items():
                if not isinstance(count, int) or count < 1:
                    raise ValueError(f"{language} has {count} tokens")
                for name, dtype in ((f"{language}.active_count", "I64"), (f"{language}.total", "F64")):
                    found = file.get_slice(name)
                    if (found.get_dtype(), found.get_shape()) != (dtype, [model.layers, model.width]):
                        raise ValueError(f"{name} is {found.get_dtype()} of shape {found.get_shape()}")
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise StatisticsError(f"{path} is damaged ({error}). Run `monoglot detect` again.") from None
    return Statistics(
        model, tokens, _Arrays(path, "active_count", tokens), _Arrays(path, "total", tokens), texts, head["settings"]
    )


class _Arrays(Mapping[str, Any]):
    """One kind of array of a statistics file, per language, each read when it is asked for and not kept."""

    def __init__(self, path: Path, kind: str, languages: Iterable[str]) -> None:
        self.path, self.kind, self._languages = path.absolute(), kind, tuple(languages)

    def __getitem__(self, language: str) -> npt.NDArray[Any]:
        from safetensors import SafetensorError, safe_open

        if language not in self._languages:
            raise KeyError(language)
        try:
            with safe_open(self.path, framework="numpy") as file:
                array: npt.NDArray[Any] = file.get_tensor(f"{language}.{self.kind}")
        except (SafetensorError, OSError) as error:
            raise StatisticsError(f"{self.path} was changed while it was read ({error}). Run it again.") from None
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._languages)

    def __len__(self) -> int:
        return len(self._languages)


def merge(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of the union of the texts, in any order the same.

    Raises StatisticsError when they are of different models, or when a text is in two of them.
    """
    first = min((part.model for part in parts), key=lambda model: (model.name, model.revision or ""))
    tokens: dict[str, int] = {}
    active: dict[str, Int64] = {}
    total: dict[str, Float64] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for part in parts:
        if part.model.fingerprint != first.fingerprint:
            raise StatisticsError(
                f"statistics of different models can't be added: those of {first.name} ({first.fingerprint[:12]}…) and of "
                f"{part.model.name} ({part.model.fingerprint[:12]}…)."
            )
        for language in part.languages:
            if set(part.texts[language]) & set(texts.get(language, ())):
                raise StatisticsError(
                    f"the same {language} text is in two of the files, and would count twice. Leave one of them out."
                )
            if language in tokens:
                tokens[language] += part.tokens[language]
                active[language] = active[language] + part.active_count[language]
                total[language] = total[language] + part.total[language]
                texts[language] = tuple(sorted(texts[language] + part.texts[language]))
            else:
                tokens[language] = part.tokens[language]
                active[language], total[language] = part.active_count[language], part.total[language]
                texts[language] = part.texts[language]
    order = sorted(tokens)
    settings = parts[0].settings if all(part.settings == parts[0].settings for part in parts) else {}
    return Statistics(
        first,
        {language: tokens[language] for language in order},
        {language: active[language] for language in order},
        {language: total[language] for language in order},
        {language: texts[language] for language in order},
        settings,
    )


class Recorder:
    """Adds up what the activation modules put out, batch by batch.

    `active_count` int64 and `total` float64, both (layers, width), on the CPU; a batch is summed where the model is
    (in float64, on MPS, which has none, in float32).
    """

    def __init__(self, modules: Sequence[Any], width: int, device: "torch.device") -> None:
        import torch

        shape, exact = (len(modules), width), torch.float32 if device.type == "mps" else torch.float64
        self.modules = modules
        self.active_count = np.zeros(shape, np.int64)
        self.total = np.zeros(shape, np.float64)
        self._count = torch.zeros(shape, dtype=torch.int64, device=device)
        self._sum = torch.zeros(shape, dtype=exact, device=device)
        self._block = torch.empty(CPU_ROWS, width, dtype=torch.float64)
        self._positive = np.empty((CPU_ROWS, width), np.bool_)
        self._shape = (0, 0)
        self._skip = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._hook(layer)) for layer, module in enumerate(self.modules)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def start(self, batch: int, length: int, skip: int) -> None:
        """Before a forward pass on (batch, length) tokens of which the first `skip` positions don't count."""
        self._shape, self._skip = (batch, length), skip
        self._count.zero_()
        self._sum.zero_()

    def commit(self) -> None:
        """After it: add the batch, its sums rounded to the grid.

        Raises StatisticsError when an activation was NaN or infinite: NaN > 0 is false, so it would pass for inactive.
        """
        total = self._sum.cpu().numpy().astype(np.float64)
        if not (finite := np.isfinite(total).all(axis=1)).all():
            layer = int(np.argmin(finite))
            raise StatisticsError(
                f"layer {layer} puts out NaN or infinity ({int((~np.isfinite(total[layer])).sum()):,} of its neurons). "
                "Try --dtype float32; if it stays, the checkpoint is broken."
            )
        self.active_count += self._count.cpu().numpy()
        self.total += np.round(total * SUM_GRID) / SUM_GRID

    def _hook(self, layer: int) -> Callable[[Any, Any, "torch.Tensor"], None]:
        count, total = self._count[layer], self._sum[layer]

        def record(module: Any, inputs: Any, output: "torch.Tensor") -> None:
            contexts = output.detach().reshape(*self._shape, output.shape[-1])[:, self._skip :]  # (batch, counted, F)
            if contexts.device.type == "cpu":
                for context in contexts:
                    self._record_blocks(context, count, total)
            else:
                count.add_((contexts > 0).sum((0, 1)))
                total.add_(contexts.sum((0, 1), dtype=total.dtype))

        return record

    def _record_blocks(self, activation: "torch.Tensor", count: "torch.Tensor", total: "torch.Tensor") -> None:
        """The same in blocks that stay in the cache, counted in numpy: several times as fast on a CPU."""
        import torch

        block, values, positive = self._block, self._block.numpy(), self._positive
        counts, sums = count.numpy(), total.numpy()
        for rows in torch.split(activation, CPU_ROWS):
            n = len(rows)
            block[:n].copy_(rows)
            np.greater(values[:n], 0, out=positive[:n])
            counts += np.add.reduce(positive[:n].view(np.uint8), axis=0, dtype=np.uint8)
            sums += np.add.reduce(values[:n], axis=0)


Progress = Callable[[str, int, int], None]  # language, tokens done of all languages, tokens in all


def collect(
    model: Any,
    modules: Sequence[Any],
    info: ModelInfo,
    texts: Mapping[str, Packed],
    *,
    batch_size: int = 0,
    settings: Mapping[str, Any] | None = None,
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Run the trunk of `model` over every context of every language and record its neurons.

    `modules` are `families.activation_modules(model, …)`. `batch_size` contexts go through at a time; 0 chooses one, and
    halves it when a GPU runs out of memory. With `resume_file`, progress is saved there every 20 s and taken up from
    there; the file is removed at the end. Under torch.distributed each worker takes every N-th batch and all return the
    same sum. Settings that change the result (dtype, context) belong into `settings`: a resume file of others is ignored.

    Raises StatisticsError when an activation is NaN or infinite, and when even the smallest batch doesn't fit.
    """
    import torch

    device = next(model.parameters()).device
    decoder = trunk(model)
    rank, world = _workers()
    batch_tokens = BATCH_TOKENS.get(device.type, 2048)
    key = {"model": vars(info), "texts": {name: packed.sha256 for name, packed in texts.items()}, "world": world,
           "settings": dict(settings or {}), "batch": [batch_size, batch_tokens], "device": device.type}  # fmt: skip
    if resume_file and world > 1:
        resume_file = resume_file.with_name(f"{resume_file.name}-{rank}")
    state = _Resume(resume_file, key, dict.fromkeys(texts, (info.layers, info.width)), batch_tokens)
    whole = sum(packed.tokens for packed in texts.values())
    done = sum(
        len(context) - packed.skip for name, packed in texts.items() for context in packed.contexts[: state.done[name]]
    )
    for name, packed in texts.items():
        recorder = Recorder(modules, info.width, device)
        recorder.active_count, recorder.total = state.active_count[name], state.total[name]  # added to in place
        longest = len(packed.contexts[0]) if packed.contexts else 1
        with recorder.attached(), torch.inference_mode():
            while state.done[name] < len(packed.contexts):
                at, size = state.done[name], batch_size or max(1, state.batch_tokens // longest)
                batch = _batch(packed.contexts, at, size)
                if (at // size) % world == rank:
                    try:
                        _forward(decoder, torch.from_numpy(batch).to(device), recorder, packed.skip)
                    except torch.cuda.OutOfMemoryError:
                        if size == 1 or batch_size or world > 1:  # workers must agree on the batches
                            raise StatisticsError(
                                f"out of memory on {device} with {len(batch)} contexts of {longest} tokens at once. "
                                "Try a smaller --batch-size or --context."
                            ) from None
                        torch.cuda.empty_cache()
                        state.batch_tokens = size // 2 * longest
                        continue
                    except KeyboardInterrupt:  # nearly all the time is spent here, and here the sums are whole
                        state.save()
                        raise
                    recorder.commit()
                state.done[name] = at + len(batch)
                done += batch.size - packed.skip * len(batch)
                if progress:
                    progress(name, done, whole)
                if state.due():
                    state.save()
    if world > 1:
        _add_up(state)
    state.remove()
    return Statistics(
        info,
        {name: packed.tokens for name, packed in texts.items()},
        state.active_count,
        state.total,
        {name: (packed.sha256,) for name, packed in texts.items()},
        dict(settings or {}),
    )


def _batch(contexts: Sequence[Int64], at: int, size: int) -> Int64:
    """Up to `size` contexts from `at` on, all of one length (only the last context can be shorter)."""
    group = contexts[at : at + size]
    if len(group[-1]) != len(group[0]):
        group = group[:-1]
    return np.stack(group)  # (batch, length)


def _forward(decoder: Any, ids: "torch.Tensor", recorder: Recorder, skip: int) -> None:
    recorder.start(ids.shape[0], ids.shape[1], skip)
    decoder(input_ids=ids, use_cache=False)


def _workers() -> tuple[int, int]:
    """(rank, world size): (0, 1) unless torch.distributed runs."""
    if "RANK" not in os.environ:
        return 0, 1
    import torch.distributed as dist

    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def _add_up(state: "_Resume") -> None:
    """Over all workers, on the CPU: the arrays are small and Apple's GPUs have no float64."""
    import torch
    import torch.distributed as dist

    for arrays in (state.active_count, state.total):
        for array in arrays.values():
            try:
                dist.all_reduce(torch.from_numpy(array))  # in place
            except RuntimeError:
                raise StatisticsError("another worker has stopped; its own message says why.") from None


class _Resume:
    """What a run has so far: per language the contexts done and the sums, and where to keep them.

    `key` says what the sums are of; a file with another key, or one that can't be read, is ignored.
    """

    def __init__(
        self, path: Path | None, key: dict[str, Any], shapes: dict[str, tuple[int, int]], batch_tokens: int
    ) -> None:
        self.path = path
        self.key = json.dumps(key, sort_keys=True)
        self.batch_tokens = batch_tokens  # what a batch may hold; halved when memory runs out
        self.done = dict.fromkeys(shapes, 0)
        self.active_count = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        self.total = {name: np.zeros(shape, np.float64) for name, shape in shapes.items()}
        self.saved, self.cost = time.monotonic(), 0.0
        if path and path.is_file():
            self._load(path)

    def _load(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                state = json.loads((file.metadata() or {})["state"])
                if state["key"] != self.key or state["done"].keys() != self.done.keys():
                    return
                begun = [name for name, done in state["done"].items() if done]
                active_count = {name: file.get_tensor(f"{name}.active_count") for name in begun}
                total = {name: file.get_tensor(f"{name}.total") for name in begun}
        except (SafetensorError, KeyError, ValueError, OSError):
            return
        # only now that all of it could be read: half a state would count the other half twice
        self.active_count |= active_count
        self.total |= total
        self.done, self.batch_tokens = state["done"], state["batch_tokens"]

    def due(self) -> bool:
        """Every 20 s, or less often where saving takes long: it may cost a twentieth of the time."""
        return self.path is not None and time.monotonic() - self.saved >= max(SAVE_SECONDS, 20 * self.cost)

    def save(self) -> None:
        from safetensors.numpy import save as serialise

        if self.path is None:
            return
        started = time.monotonic()
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name in (name for name, done in self.done.items() if done):
            arrays[f"{name}.active_count"], arrays[f"{name}.total"] = self.active_count[name], self.total[name]
        state = {"key": self.key, "done": self.done, "batch_tokens": self.batch_tokens}
        try:
            replace_file(self.path, serialise(arrays, metadata={"state": json.dumps(state)}))
        except OutputError:
            self.path = None  # progress that can't be kept must not end the run
        self.saved = time.monotonic()
        self.cost = self.saved - started

    def remove(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)
