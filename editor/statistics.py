"""Activation statistics: how often each neuron is active on text in each language, and how strongly.

Over the n_k counted tokens of language k, for neuron j of layer i (a_ij is the output of the activation function):

    active_count^k_ij = #{tokens: a_ij > 0}      int64, exact
    total^k_ij        = Σ a_ij                   float64

so that p^k_ij = active_count / n_k and m^k_ij = total / n_k. Both are additive. To make addition of the sums exact too,
and so independent of order, the sum over a batch is rounded to a multiple of 2⁻²⁰ before it is added: float64 holds such
numbers exactly up to 8·10⁹. Merged files, interrupted runs and any number of workers therefore give the same bits.

Only the decoder's trunk runs; the logits are never computed. Recording hangs on the activation modules and costs a few
per cent of the forward pass.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .corpus import Packed
from .errors import OutputError, StatisticsError
from .output import replace_file

if TYPE_CHECKING:
    import torch

FORMAT = 1
SUM_GRID = 2.0**20
BATCH_TOKENS = {"cpu": 2048, "cuda": 16384, "mps": 4096}  # what `batch_size=0` (auto) aims at
CPU_ROWS = 128  # a block that stays in the cache, and whose counts fit in 8 bits
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
    each text that went in."""

    model: ModelInfo
    tokens: dict[str, int]
    active_count: dict[str, Int64]
    total: dict[str, Float64]
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
    """Write statistics as safetensors, aside first and renamed at the end."""
    from safetensors.numpy import save as serialise

    arrays: dict[str, npt.NDArray[Any]] = {}
    for language in statistics.languages:
        arrays[f"{language}.active_count"] = statistics.active_count[language]
        arrays[f"{language}.total"] = statistics.total[language]
    metadata = {
        "format": "monoglot statistics",
        "version": str(FORMAT),
        "model": json.dumps(vars(statistics.model), sort_keys=True),
        "tokens": json.dumps(statistics.tokens),
        "texts": json.dumps(statistics.texts),
        "settings": json.dumps(statistics.settings, sort_keys=True),
    }
    replace_file(path, serialise(arrays, metadata=metadata))


def load(path: Path) -> Statistics:
    """Read a statistics file. Raises StatisticsError when it is not one, or of an unknown format."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StatisticsError(f"there is no statistics file {path}. Make one with `monoglot detect`.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != "monoglot statistics":
                raise StatisticsError(f"{path} is not a statistics file. Make one with `monoglot detect`.")
            if metadata.get("version") != str(FORMAT):
                raise StatisticsError(
                    f"{path} has format {metadata.get('version')}, this version reads {FORMAT}. "
                    "Upgrade monoglot, or run `monoglot detect` again."
                )
            tokens = json.loads(metadata["tokens"])
            return Statistics(
                ModelInfo(**json.loads(metadata["model"])),
                tokens,
                {language: file.get_tensor(f"{language}.active_count") for language in tokens},
                {language: file.get_tensor(f"{language}.total") for language in tokens},
                {language: tuple(hashes) for language, hashes in json.loads(metadata["texts"]).items()},
                json.loads(metadata["settings"]),
            )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise StatisticsError(f"{path} is damaged ({error}). Run `monoglot detect` again.") from None


def merge(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of the union of the texts, in any order the same.

    Raises StatisticsError when they are of different models, or when a text is in two of them.
    """
    first = parts[0]
    tokens: dict[str, int] = {}
    active: dict[str, Int64] = {}
    total: dict[str, Float64] = {}
    texts: dict[str, tuple[str, ...]] = {}
    for part in parts:
        if part.model.fingerprint != first.model.fingerprint:
            raise StatisticsError(
                f"statistics of different models can't be added: {first.model.name} and {part.model.name} differ."
            )
        for language in part.languages:
            if set(part.texts[language]) & set(texts.get(language, ())):
                raise StatisticsError(f"the same {language} text is in two of the files; it would count twice.")
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
    settings = first.settings if all(part.settings == first.settings for part in parts) else {}
    return Statistics(
        first.model,
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
        self._block = torch.empty(CPU_ROWS, width, dtype=exact, device=device)
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
        """After it: add the batch, its sums rounded to the grid."""
        self.active_count += self._count.cpu().numpy()
        self.total += np.round(self._sum.cpu().numpy().astype(np.float64) * SUM_GRID) / SUM_GRID

    def _hook(self, layer: int) -> Callable[[Any, Any, "torch.Tensor"], None]:
        count, total = self._count[layer], self._sum[layer]

        def record(module: Any, inputs: Any, output: "torch.Tensor") -> None:
            activation = output.detach().reshape(*self._shape, output.shape[-1])[:, self._skip :].flatten(0, 1)
            if activation.device.type == "cpu":
                self._record_blocks(activation, count, total)
            else:
                count.add_((activation > 0).sum(0))
                total.add_(activation.sum(0, dtype=total.dtype))

        return record

    def _record_blocks(self, activation: "torch.Tensor", count: "torch.Tensor", total: "torch.Tensor") -> None:
        """The same in blocks that stay in the cache: three times as fast on a CPU."""
        import torch

        for rows in torch.split(activation, CPU_ROWS):
            count += (rows > 0).view(torch.uint8).sum(0, dtype=torch.uint8)
            block = self._block[: len(rows)]
            block.copy_(rows)
            total += block.sum(0)


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
    """
    import torch

    device = next(model.parameters()).device
    trunk = model.get_decoder()
    rank, world = _workers()
    key = {"model": vars(info), "texts": {name: packed.sha256 for name, packed in texts.items()}, "world": world,
           "settings": dict(settings or {}), "batch_size": batch_size}  # fmt: skip
    if resume_file and world > 1:
        resume_file = resume_file.with_name(f"{resume_file.name}-{rank}")
    state = _Resume(resume_file, key, dict.fromkeys(texts, (info.layers, info.width)))
    whole = sum(packed.tokens for packed in texts.values())
    done = sum(
        len(context) - packed.skip for name, packed in texts.items() for context in packed.contexts[: state.done[name]]
    )
    for name, packed in texts.items():
        recorder = Recorder(modules, info.width, device)
        recorder.active_count, recorder.total = (
            state.active_count[name],
            state.total[name],
        )  # added to in place
        longest = len(packed.contexts[0]) if packed.contexts else 1
        size = state.batch_size or batch_size or max(1, BATCH_TOKENS.get(device.type, 2048) // longest)
        with recorder.attached(), torch.inference_mode():
            while state.done[name] < len(packed.contexts):
                at = state.done[name]
                batch = _batch(packed.contexts, at, size)
                if (at // size) % world == rank:
                    try:
                        _forward(trunk, torch.from_numpy(batch).to(device), recorder, packed.skip)
                    except torch.OutOfMemoryError:
                        if size == 1 or batch_size or world > 1:
                            raise
                        torch.cuda.empty_cache()
                        size //= 2
                        continue
                    recorder.commit()
                state.done[name] = at + len(batch)
                done += batch.size - packed.skip * len(batch)
                if progress:
                    progress(name, done, whole)
                if state.due():
                    state.save(size)
    if world > 1:
        _add_up(state, device)
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


def _forward(trunk: Any, ids: "torch.Tensor", recorder: Recorder, skip: int) -> None:
    recorder.start(ids.shape[0], ids.shape[1], skip)
    trunk(input_ids=ids, use_cache=False)


def _workers() -> tuple[int, int]:
    """(rank, world size): (0, 1) unless torch.distributed runs."""
    if "RANK" not in os.environ:
        return 0, 1
    import torch.distributed as dist

    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def _add_up(state: "_Resume", device: "torch.device") -> None:
    import torch
    import torch.distributed as dist

    for arrays in (state.active_count, state.total):
        for name, array in arrays.items():
            whole = torch.from_numpy(array).to(device)
            dist.all_reduce(whole)
            array[...] = whole.cpu().numpy()


class _Resume:
    """What a run has so far: per language the contexts done and the sums, and where to keep them."""

    def __init__(self, path: Path | None, key: dict[str, Any], shapes: dict[str, tuple[int, int]]) -> None:
        self.path = path
        self.key = json.dumps(key, sort_keys=True)
        self.batch_size = 0
        self.done = dict.fromkeys(shapes, 0)
        self.active_count = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        self.total = {name: np.zeros(shape, np.float64) for name, shape in shapes.items()}
        self.saved = time.monotonic()
        if path and path.is_file():
            self._load(path)

    def _load(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return
                for name in self.active_count:
                    self.active_count[name] = file.get_tensor(f"{name}.active_count")
                    self.total[name] = file.get_tensor(f"{name}.total")
                self.done = json.loads(metadata["done"])
                self.batch_size = int(metadata["batch_size"])
        except (SafetensorError, KeyError, ValueError, OSError):
            return

    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self.saved >= SAVE_SECONDS

    def save(self, batch_size: int) -> None:
        from safetensors.numpy import save as serialise

        if self.path is None:
            return
        arrays: dict[str, npt.NDArray[Any]] = {
            f"{name}.active_count": array for name, array in self.active_count.items()
        }
        arrays |= {f"{name}.total": array for name, array in self.total.items()}
        metadata = {"key": self.key, "done": json.dumps(self.done), "batch_size": str(batch_size)}
        try:
            replace_file(self.path, serialise(arrays, metadata=metadata))
        except OutputError:
            self.path = None  # progress that can't be kept must not end the run
        self.saved = time.monotonic()

    def remove(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)
