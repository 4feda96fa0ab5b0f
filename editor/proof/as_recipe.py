"""The difference of two checkpoints as a recipe, where it is one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..edits.byte_edits import ByteEdit
from ..edits.carriers import Carried, carried
from ..edits.layout import layout
from ..edits.recipe import Edit, Recipe
from ..edits.tensor_edits import Editing
from ..errors import ModelError
from ..files import floats
from ..files.streams import Place, row_blocks
from ..models.source import Source
from ..models.target import Target, model_info, open_target
from ..neurons.neurons import Neurons
from .difference import Difference, Float64

OPEN = 4  # units in the last place of a float64 that an end which doesn't belong to an interval is moved by

DIGITS = 17  # of a factor, at most: those of a float64

METHOD = "difference"  # how the neurons of such a recipe were found


@dataclass(frozen=True)
class Said:
    """The difference as a recipe with its neurons, or the reason why it isn't one."""

    recipe: Recipe | None = None
    neurons: Neurons | None = None
    reason: str = ""


def as_recipe(a: Source, b: Source, found: Difference) -> Said:
    """Find the recipe that makes the weights of `b` from `a`, byte for byte: it has been carried out and compared.

    Its languages are groups of neurons: `deactivated`, and `scaled-K` for each factor. A constant in a bias or in an input
    projection is not recognised, and is a reason. Raises ModelError when a checkpoint can't be read.
    """
    if not found.weights:
        return Said(reason="the weights are the same")
    if found.only[0] or found.only[1] or found.other_form:
        return Said(reason="they don't have the same tensors")
    try:
        target = open_target(a)
        other = open_target(b).checkpoint
    except ModelError as error:
        return Said(reason=str(error).rstrip("."))
    if target.quantised:
        return Said(reason=f"the weights are quantised ({target.quantised}), in which neurons are not recognised")
    outputs = {tensor.name: layer for layer, (_, tensor) in enumerate(target.feed_forward.outputs)}
    if others := [each.name for each in found.changed if each.name not in outputs]:
        what = " (constants in biases are not recognised)" if others[0].endswith(".bias") else ""
        return Said(reason=f"{others[0]} changed, which is no output of a feed-forward network{what}")
    theirs = {tensor.name: (shard, tensor) for shard, tensor in other.tensors()}
    layers: dict[int, _Factors] = {}
    for each in found.changed:
        layer = outputs[each.name]
        layers[layer] = _factors(
            target.feed_forward.outputs[layer],
            theirs[each.name],
            target.feed_forward.located[layer].network.neuron_axis,
        )
        if layers[layer].problem:
            return Said(reason=f"{each.name}: {layers[layer].problem}")
    recipe, neurons = _group(target, layers)
    reason = _disproof(target, recipe, neurons, theirs)
    return Said(reason=reason) if reason else Said(recipe, neurons)


@dataclass
class _Factors:
    """The factors of one layer's neurons, each of shape (d_ff,).

    They say whether a neuron changed, whether all of it is +0 in the other, and the factors that explain it, from `low` to
    `high`.
    """

    changed: npt.NDArray[np.bool_]
    zero: npt.NDArray[np.bool_]
    low: Float64
    high: Float64
    problem: str = ""

    def check(self, what: str) -> None:
        scaled = self.changed & ~self.zero
        if bad := np.flatnonzero(scaled & ~(self.low <= self.high)).tolist():
            self.problem = f"{what} {bad[0]} is neither zero nor the old one times a factor ({len(bad)} such ones)"


def _factors(ours: Place, theirs: Place, axis: int) -> _Factors:
    tensor = ours[1]
    width, dtype = tensor.shape[axis], tensor.dtype
    found = _Factors(
        np.zeros(width, np.bool_), np.ones(width, np.bool_), np.full(width, -math.inf), np.full(width, math.inf)
    )
    for (row, one), (_, other) in zip(row_blocks(ours), row_blocks(theirs), strict=True):
        old, new = (np.frombuffer(view, floats.STORED[dtype]).reshape(-1, tensor.shape[1]) for view in (one, other))
        if axis == 0:  # neurons as columns, whatever the file has
            where = slice(row, row + len(old))
            old, new = np.ascontiguousarray(old.T), np.ascontiguousarray(new.T)
        else:
            where = slice(None)
        bits = f"u{old.itemsize}"
        unequal = (old.view(bits) != new.view(bits)).any(axis=0)
        if not (floats.all_finite(old, dtype) and floats.all_finite(new, dtype)):
            found.problem = "it holds NaN or infinity"
            return found
        found.changed[where] |= unequal
        found.zero[where] &= ~new.view(bits).any(axis=0)
        low, high = _interval(old, new, dtype)
        found.low[where], found.high[where] = np.maximum(found.low[where], low), np.minimum(found.high[where], high)
    found.check("row" if axis == 0 else "column")
    return found


def _interval(old: npt.NDArray[Any], new: npt.NDArray[Any], dtype: str) -> tuple[Float64, Float64]:
    """Of each column the factors k with round(k·old) = new, from lowest to highest; none where low > high.

    Half a step is rounded to the even number, so the ends belong to it where `new` is even: scaled by 1.5, many numbers lie
    on such an end, and one on each side leaves 1.5 alone.
    """
    w, v = floats.to_float64(old, dtype), floats.to_float64(new, dtype)
    below, above = (v + (_neighbour(new, dtype, up) - v) / 2 for up in (False, True))
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([below / w, above / w])
        low, high = ends.min(axis=0), ends.max(axis=0)
        odd = new.view(f"u{new.itemsize}") & 1 == 1
        low[odd] += OPEN * np.spacing(np.abs(low[odd]))
        high[odd] -= OPEN * np.spacing(np.abs(high[odd]))
    nothing = w == 0  # any factor makes it 0, none anything else
    low[nothing] = np.where(v[nothing] == 0, -math.inf, math.inf)
    high[nothing] = -low[nothing]
    return low.max(axis=0), high.min(axis=0)


def _neighbour(stored: npt.NDArray[Any], dtype: str, up: bool) -> Float64:
    """Return the next number of the dtype above or below each one; beyond the largest, as far as the last step."""
    size = stored.itemsize
    bits = stored.view(f"u{size}").astype(np.int64)
    sign = 1 << (8 * size - 1)
    ordered = np.where(bits & sign, sign - bits, bits)  # in the order of the numbers; −0 and +0 are both 0
    moved = ordered + (1 if up else -1)
    back = np.where(moved < 0, sign - moved, moved).astype(f"u{size}").view(np.dtype(floats.STORED[dtype]))
    values, own = floats.to_float64(back, dtype), floats.to_float64(stored, dtype)
    if np.isfinite(values).all():
        return values
    opposite = _neighbour(stored, dtype, not up)
    return np.where(np.isfinite(values), values, 2 * own - opposite)


def _group(target: Target, layers: Mapping[int, _Factors]) -> tuple[Recipe, Neurons]:
    """Neurons with the same factor, together; as few groups as the intervals allow."""
    count = len(target.feed_forward.networks)
    members: dict[str, list[list[int]]] = {}
    edits: list[Edit] = []

    def empty() -> list[list[int]]:
        return [[] for _ in range(count)]

    spans = []
    for layer, factors in layers.items():
        for neuron in np.flatnonzero(factors.changed).tolist():
            if factors.zero[neuron]:
                members.setdefault("deactivated", empty())[layer].append(neuron)
            else:
                spans.append((float(factors.high[neuron]), float(factors.low[neuron]), layer, neuron))
    if members:
        edits.append(Edit("deactivated", "deactivate"))
    for low, high, group in _stabbed(sorted(spans)):
        factor = shortest(low, high)
        name = f"scaled-{factor:g}"
        name = name if name not in members else f"scaled-{factor!r}"
        edits.append(Edit(name, "scale", factor))
        members[name] = empty()
        for layer, neuron in group:
            members[name][layer].append(neuron)
    indices = {name: tuple(np.array(sorted(own), np.int64) for own in each) for name, each in members.items()}
    neurons = Neurons(indices, {}, model_info(target), {"name": METHOD})
    return Recipe(target.base, tuple(edits)), neurons


def _stabbed(
    spans: Sequence[tuple[float, float, int, int]],
) -> Iterator[tuple[float, float, list[tuple[int, int]]]]:
    """Group intervals (high, low, …), in the order of their upper ends, into the fewest groups with a point in common.

    Yields (low, high) of what each group has in common, and its members.
    """
    at = 0
    while at < len(spans):
        high, low = spans[at][0], spans[at][1]
        group = []
        while at < len(spans) and max(low, spans[at][1]) <= high:
            low = max(low, spans[at][1])
            group.append(spans[at][2:])
            at += 1
        yield low, high, group


def shortest(low: float, high: float) -> float:
    """Return the number with the fewest digits from one number to another, the nearest to their middle.

    It lies inside where there is room, for a quotient may be off by a unit in the last place.
    """
    if math.isinf(low) or math.isinf(high):
        return min(max(0.0, low), high)
    inside = (low + OPEN * math.ulp(low), high - OPEN * math.ulp(high))
    low, high = inside if inside[0] < inside[1] else (low, high)
    middle = low + (high - low) / 2
    rounded = (float(f"{middle:.{digits}g}") for digits in range(1, DIGITS + 1))
    return next((number for number in rounded if low <= number <= high), middle)


def _disproof(target: Target, recipe: Recipe, neurons: Neurons, theirs: Mapping[str, Place]) -> str:
    """Why the recipe does not give the other's bytes, or nothing: it does."""
    what: Carried = carried(target, recipe, neurons)
    edits = layout(target, what).edits
    for shard, tensor in target.checkpoint.tensors():
        if tensor.name not in edits:
            continue
        edit = edits[tensor.name]
        if isinstance(edit, ByteEdit):
            return f"{tensor.name} is quantised"
        editing = Editing(tensor, edit)
        pairs = zip(row_blocks((shard, tensor)), row_blocks(theirs[tensor.name]), strict=True)
        for (row, view), (_, other) in pairs:
            block = editing.block(view)
            where = editing.where(row, len(block))
            block[where] = editing.edited(block[where], row, len(block))
            if view != other:
                return f"{tensor.name} has numbers that no factor gives"
    return ""
