"""Parameter variation: how much each neuron's weights changed when the model was tuned on one language.

    v^k_ij = ‖θ^k_ij − θ_ij‖₂ / ‖θ_ij‖₂

θ_ij is all that is neuron (i, j)'s alone in the feed-forward network: its row of the input projection (gate and up where
there are two), with its input biases where the family has them (ours), and its column of the output projection. Where a
tuned checkpoint is stored with fewer digits than the base, the base is rounded to them first, so that what was not
touched counts as unchanged (ours). A neuron all of whose weights are 0 has v = 0 if they stayed 0, else ∞.

It works on the files, a block of rows at a time, and never builds a model: beside the sums (8 bytes a neuron and
language) it holds a block of the base and one of each tuned checkpoint's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError, ModelError, StatisticsError
from ...files import floats
from ...files.checkpoint import Shard, Tensor
from ...models.feed_forward import FeedForward, Located
from ...models.identity import ModelInfo
from ...models.target import Target, model_info

BLOCK = 2**20  # numbers

Float64 = npt.NDArray[np.float64]
Place = tuple[Shard, Tensor]
Progress = Callable[[str, int, int], None]  # what, layers done, layers in all


@dataclass(frozen=True)
class Variation:
    """v^k_ij of a base model: relative[language], float64 (layers, width)."""

    model: ModelInfo
    relative: dict[str, Float64]

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.relative)


class Part(NamedTuple):
    """A tensor of a layer's feed-forward network in which neuron j is number at + j along `axis`."""

    projection: str
    kind: str
    axis: int
    at: int = 0


def vary(base: Target, tuned: Mapping[str, Target], progress: Progress | None = None) -> Variation:
    """Measure the variation of `base` in copies of it that were tuned on one language each.

    Raises StatisticsError for fewer than two languages, ModelError for a copy of another family or shape, or one that was
    not tuned at all, CheckpointError for a tensor that is missing, or holds NaN or infinity.
    """
    if len(tuned) < 2:
        raise StatisticsError("a language's neurons are found against other languages: tune the model on at least two.")
    for language, target in tuned.items():
        _check_alike(base, language, target)
    if any(each.network.interleaved for each in base.feed_forward.located):
        raise ModelError(
            "the variation of parameters is not read where gate and up are interleaved. Use another method."
        )
    model = model_info(base)
    layers = [_places(base, tuned, layer) for layer in range(len(model.networks))]
    shape = model.shape
    size = np.zeros(shape)
    change = {language: np.zeros(shape) for language in tuned}
    sizes, changes = model.split(size), {language: model.split(own) for language, own in change.items()}
    for layer, (parts, block) in enumerate(zip(layers, model.networks, strict=True)):
        for part, place, places in parts:
            for rows in _blocks(part, place[1], block.width):
                _add(part, rows, place, places, sizes[layer], {k: own[layer] for k, own in changes.items()})
        if progress:
            progress("", layer + 1, len(layers))
    for language, target in tuned.items():
        if not change[language].any():
            raise ModelError(
                f"{target.source.folder} ({language}) was not tuned: its feed-forward networks are those of "
                f"{base.source.folder}. Give a copy that was tuned on text in {language}."
            )
    with np.errstate(divide="ignore", invalid="ignore"):  # where all weights are 0
        relative = {
            language: np.sqrt(own / size, out=np.zeros(shape), where=own > 0) for language, own in change.items()
        }
    return Variation(model, relative)


def _check_alike(base: Target, language: str, target: Target) -> None:
    def shape(one: FeedForward) -> str:
        return f"{one.model_type} with {one.layers} layers of {one.width} neurons and d = {one.hidden}"

    alike = target.feed_forward.networks == base.feed_forward.networks
    if not alike or shape(target.feed_forward) != shape(base.feed_forward):
        raise ModelError(
            f"{target.source.folder} ({language}) is {shape(target.feed_forward)}, the base is "
            f"{shape(base.feed_forward)}. Give copies of the base that were tuned on one language each."
        )


def _parts(located: Located) -> Iterator[Part]:
    network, rows = located.network, 1 - located.network.neuron_axis
    into = [(network.into, 0), *([(network.into, located.block.width)] if network.fused else [])]  # gate half first
    for projection, at in [*into, *([(network.up, 0)] if network.up else [])]:
        yield Part(projection, "weight", rows, at)
        yield Part(projection, "bias", 0, at)
    yield Part(network.out, "weight", network.neuron_axis)


def _places(base: Target, tuned: Mapping[str, Target], layer: int) -> list[tuple[Part, Place, dict[str, Place]]]:
    """Find a layer's tensors in all files, and check them."""
    found = []
    for part in _parts(base.feed_forward.located[layer]):
        place = _find(base, part, layer)
        places = {language: _find(target, part, layer) for language, target in tuned.items()}
        if place is None and part.kind == "weight":
            raise CheckpointError(f"{base.source.folder} has no {_name(base, part, layer)}. Download it again.")
        if place is not None:
            found.append((part, place, {k: _alike(base, place, target, k, part, layer) for k, target in tuned.items()}))
        elif more := [language for language, own in places.items() if own]:
            raise ModelError(
                f"{tuned[more[0]].source.folder} ({more[0]}) has {_name(tuned[more[0]], part, layer)}, which the base has "
                "not. Give copies of the base that were tuned on one language each."
            )
    return found


def _name(target: Target, part: Part, layer: int) -> str:
    return target.feed_forward.name(part.projection, layer, part.kind)


def _find(target: Target, part: Part, layer: int) -> Place | None:
    return target.checkpoint.find(_name(target, part, layer))


def _alike(base: Target, place: Place, target: Target, language: str, part: Part, layer: int) -> Place:
    """Find the tensor of a tuned checkpoint that answers to the base's."""
    found = _find(target, part, layer)
    if found is None:
        raise CheckpointError(
            f"{target.source.folder} ({language}) has no {_name(target, part, layer)}, which the base has. Save it again."
        )
    if found[1].shape != place[1].shape:
        raise ModelError(
            f"{target.source.folder} ({language}): {found[1].name} has shape {list(found[1].shape)}, that of the base "
            f"{list(place[1].shape)}. Give copies of the base that were tuned on one language each."
        )
    for folder, tensor in ((base.source.folder, place[1]), (target.source.folder, found[1])):
        if tensor.dtype not in floats.STORED:
            raise ModelError(
                f"{folder}: {tensor.name} is stored as {tensor.dtype}; monoglot reads float32, float16 and bfloat16. "
                "Use the unquantised checkpoint."
            )
    return found


def _blocks(part: Part, tensor: Tensor, width: int) -> Iterator[range]:
    """Yield the rows that hold neurons, a block at a time."""
    first, last = (part.at, part.at + width) if part.axis == 0 else (0, tensor.shape[0])
    step = max(1, BLOCK // max(1, tensor.shape[1] if len(tensor.shape) == 2 else 1))
    for row in range(first, last, step):
        yield range(row, min(row + step, last))


def _add(
    part: Part, rows: range, base: Place, tuned: Mapping[str, Place], size: Float64, change: Mapping[str, Float64]
) -> None:
    """Add the squares of some rows to those of the neurons, all (width,)."""
    theta = _read(base, rows)
    _add_squares(part, rows, theta, size)
    for language, place in tuned.items():
        dtype = place[1].dtype
        rounded = theta if dtype == base[1].dtype else floats.to_float64(floats.from_float64(theta, dtype), dtype)
        _add_squares(part, rows, _read(place, rows) - rounded, change[language])


def _read(place: Place, rows: range) -> Float64:
    """Read some rows of a tensor, (rows, columns); a bias has one column."""
    shard, tensor = place
    columns = tensor.shape[1] if len(tensor.shape) == 2 else 1
    dtype = np.dtype(floats.STORED[tensor.dtype])
    begin = tensor.begin + rows.start * columns * dtype.itemsize
    stored = np.memmap(shard.path, dtype, "r", begin, (len(rows), columns))
    if not floats.all_finite(stored, tensor.dtype):
        raise CheckpointError(f"{shard.path}: {tensor.name} holds NaN or infinite weights. The checkpoint is broken.")
    return floats.to_float64(stored, tensor.dtype)


def _add_squares(part: Part, rows: range, values: Float64, sums: Float64) -> None:
    squares = np.square(values)
    if part.axis == 0:
        sums[rows.start - part.at : rows.stop - part.at] += squares.sum(axis=1)
    else:
        sums += squares.sum(axis=0)[part.at : part.at + len(sums)]
