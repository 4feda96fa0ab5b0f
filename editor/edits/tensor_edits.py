"""A plan as edits of tensors: which rows, columns and biases become what.

Of neuron j, u_j is its row of W_up, W_out[:, j] its column of W_out, z_j = g_j·x + b_j what goes into the activation
function, g_j its row of W_in (the gate in a gated FFN). A constant needs something that is 1: with biases it is the bias
itself, without them it is w·x, w being the calibrated direction of the layer, on which w·x ≈ 1.

    deactivate   W_out[:, j] := 0                     scale k   W_out[:, j] *= k
    pin c        g_j := 0,   b_j := t                           W_out[:, j] *= c / act(t)
      calibrated g_j := t·w  (b_j := 0)                         W_out[:, j] *= c / act(t)
    shift δ      b_j += δ                             calibrated   g_j += δ·w
    add δ        plain FFN with biases:               b_out += Σ_j δ_j·W_out[:, j]
                 gated FFN, in the slot s of a deactivated neuron, for each j:
                   pinned like a neuron, u_s := u_j,  W_out[:, s] := W_out[:, j]·δ_j / act(t)
                 plain FFN without biases, in one slot s:   W_out[:, s] := Σ_j W_out[:, j]·δ_j / act(t)

t, the level, is any number whose activation is not 0. With biases it is the one whose activation rounding costs least
(`exact_level`); calibrated it is the one at which the noise of w·x matters least, and comes with the direction.
Everything is computed in float64 from the stored numbers and rounded once, to the dtype of the tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, RecipeError
from ..files import floats
from ..files.checkpoint import Shard, Tensor
from ..models.activations import Activation
from ..models.feed_forward import FeedForward
from ..models.networks import Network
from .plan import LayerPlan

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LEVELS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # every dtype holds them
NEGLIGIBLE = 1e-6  # relative; rounding an activation costs a hundred times as much in half precision


@dataclass(frozen=True)
class TensorEdit:
    """new[where] = factors · old[where] + constants, along `axis` of a tensor (of one or two dimensions).

    where int64 (n,), sorted; factors float64 (n,); constants() float64 (n, m), m the length of the other axis (1 for a
    bias), None for none. They are made when they are needed: those of all layers at once may be large. Where those of one
    tensor are too large to be made at once, rows(part) are the constants of where[part], along axis 0.
    """

    axis: int
    where: Int64
    factors: Float64
    constants: Callable[[], Float64] | None = None
    rows: Callable[[slice], Float64] | None = None


@dataclass
class Rounding:
    """How far stored numbers are from the computed ones: relative to what was asked for, in the root mean square.

    `squares` has of each block its kind, and the sums of the error's and of the wanted numbers' squares. They are added up in
    their order, so that nothing depends on which of several files was written first.
    """

    squares: list[tuple[str, float, float]] = field(default_factory=list)

    def add(self, kind: str, exact: Float64, stored: Float64, asked: Float64) -> None:
        self.squares.append((kind, float(np.square(stored - exact).sum()), float(np.square(asked).sum())))

    def include(self, other: "Rounding") -> None:
        """Add what another counted, after one's own."""
        self.squares += other.squares

    @property
    def relative(self) -> dict[str, float]:
        sums = {"weights": [0.0, 0.0], "biases": [0.0, 0.0]}
        for kind, error, asked in self.squares:
            sums[kind][0] += error
            sums[kind][1] += asked
        return {kind: float(f"{(error / asked) ** 0.5:.2g}") for kind, (error, asked) in sums.items() if asked}


class Editing:
    """A tensor being edited, a block of rows at a time; its constants are made once and live as long."""

    def __init__(self, tensor: Tensor, edit: TensorEdit) -> None:
        self.tensor, self.edit = tensor, edit
        self.constants = edit.constants() if edit.constants else None

    def apply(self, view: memoryview, row: int, rounding: Rounding, *, place: Path) -> None:
        """Edit rows `row`… in place. Raises CheckpointError when they hold NaN, RecipeError when a result doesn't fit."""
        name, dtype = self.tensor.name, self.tensor.dtype
        block = self.block(view)
        where = self.where(row, len(block))
        if self.edit.axis == 0 and not len(where):
            return
        if not floats.all_finite(block, dtype):
            raise CheckpointError(
                f"{place}: {name} holds NaN or infinite weights. The checkpoint is broken: get it again."
            )
        new = self.edited(block[where], row, len(block), rounding)
        if not floats.all_finite(new, dtype):
            raise RecipeError(f"{name}: edited weights don't fit in {floats.NAMES[dtype]}. Use a smaller strength.")
        block[where] = new

    def block(self, view: memoryview) -> floats.Array:
        """Bytes as rows of the tensor; a bias has rows of one number."""
        columns = self.tensor.shape[1] if len(self.tensor.shape) == 2 else 1
        return np.frombuffer(view, dtype=floats.STORED[self.tensor.dtype]).reshape(-1, columns)

    def where(self, row: int, rows: int) -> Any:
        """Return the index, in a block of `rows` rows from `row` on, of what is edited."""
        if self.edit.axis == 1:
            return slice(None), self.edit.where
        return self.edit.where[self._inside(row, rows)] - row

    def edited(self, old: floats.Array, row: int, rows: int, rounding: Rounding | None = None) -> floats.Array:
        """Return what the stored numbers `old`, those of block[where], become."""
        factors, constants = self.edit.factors, self.constants
        if constants is None and self.edit.rows is None and not factors.any():
            return np.zeros_like(old)
        if self.edit.rows:
            first, last = np.searchsorted(self.edit.where, [row, row + rows])
            factors, constants = factors[first:last, None], self.edit.rows(slice(first, last))
        elif self.edit.axis == 0:
            inside = self._inside(row, rows)
            factors, constants = factors[inside][:, None], None if constants is None else constants[inside]
        elif constants is not None:
            constants = constants[:, row : row + rows].T
        exact = floats.to_float64(old, self.tensor.dtype) * factors
        exact[np.broadcast_to(factors == 0, exact.shape)] = 0.0  # and not −0
        if constants is not None:
            exact += constants
        stored = floats.from_float64(exact, self.tensor.dtype)
        if rounding:
            kind = "weights" if len(self.tensor.shape) == 2 else "biases"
            with np.errstate(invalid="ignore", over="ignore"):  # what doesn't fit is refused by `apply`
                asked = exact if constants is None else np.where(constants == 0, exact, constants)
                rounding.add(kind, exact, floats.to_float64(stored, self.tensor.dtype), asked)
        return stored

    def _inside(self, row: int, rows: int) -> npt.NDArray[np.bool_]:
        return (self.edit.where >= row) & (self.edit.where < row + rows)


@dataclass(frozen=True)
class Constant:
    """What is 1 in one layer: `direction` float64 (d,), or None where it is a bias; its level t, and act(t)."""

    direction: Float64 | None
    level: float
    activated: float


def exact_level(function: Activation) -> Constant:
    """For a bias: the smallest level whose activation no dtype rounds noticeably."""
    for level in LEVELS:
        value = float(function(np.array([level]))[0])
        if value and all(abs(_stored(value, dtype) / value - 1) < NEGLIGIBLE for dtype in floats.STORED):
            return Constant(None, level, value)
    return Constant(None, 1.0, float(function(np.array([1.0]))[0]))


def _stored(value: float, dtype: str) -> float:
    return float(floats.to_float64(floats.from_float64(np.array([value]), dtype), dtype)[0])


class LayerTensors:
    """The tensors of one block in the file, by name; `layer` is the block's number."""

    def __init__(self, feed_forward: FeedForward, layer: int, tensors: dict[str, tuple[Shard, Tensor]]) -> None:
        located = feed_forward.located[layer]
        self.network, self.width, self.hidden = located.network, located.block.width, feed_forward.hidden
        self.place = located.block.name
        into, out = self.network.into, self.network.out
        self.into, self.into_bias = (feed_forward.name(into, layer, kind) for kind in ("weight", "bias"))
        self.out, self.out_bias = (feed_forward.name(out, layer, kind) for kind in ("weight", "bias"))
        up = into if self.network.fused else self.network.up
        self.up, self.up_bias = (feed_forward.name(up, layer, kind) if up else None for kind in ("weight", "bias"))
        self.tensors = tensors

    def has(self, name: str | None) -> bool:
        return name in self.tensors

    def take(self, name: str, axis: int, where: Int64) -> Float64:
        """Rows (axis 0) or columns of a tensor as float64 (n, m), m the length of the other axis; 1 for a bias."""
        shard, tensor = self.tensors[name]
        stored = np.memmap(shard.path, floats.STORED[tensor.dtype], "r", tensor.begin, tensor.shape)
        taken = np.take(stored, where, axis=axis)
        if taken.ndim == 1:
            taken = taken[:, None]
        return floats.to_float64(np.ascontiguousarray(taken if axis == 0 else taken.T), tensor.dtype)


def of_layer(
    layer: LayerPlan, tensors: LayerTensors, constant: Constant | None, *, biased: bool
) -> dict[str, TensorEdit]:
    """Return the edit of each tensor to edit, by its name.

    `biased` says that the carrier has biases, in the file or new ones, so an edit of a bias may be one of a tensor that
    isn't there yet. Raises RecipeError where `add` finds too few free slots.
    """
    edits: dict[str, TensorEdit] = {}
    network, width = tensors.network, tensors.width
    axis = network.neuron_axis
    biased_out = biased or tensors.has(tensors.out_bias)
    slots, sources, weights = _slots(layer, network, biased=biased_out, place=tensors.place)
    pinned = layer.pinned
    owned = np.sort(np.concatenate([layer.neurons[pinned], slots]))  # their pre-activation is the constant alone
    act = constant.activated if constant else 1.0

    # W_out: columns are multiplied; a slot gets what its sources have
    scaled = (layer.factors != 1) & ~np.isin(layer.neurons, slots)
    where = np.concatenate([layer.neurons[scaled], slots])
    factors = np.concatenate([np.where(pinned, layer.constants / act, layer.factors)[scaled], np.zeros(len(slots))])
    order = np.argsort(where)
    place = np.searchsorted(where[order], slots)
    count = len(where)

    def columns() -> Float64:
        taken = tensors.take(tensors.out, axis, sources)  # (n, d)
        made = np.zeros((count, taken.shape[1]))
        made[place] = weights / act @ taken
        return made

    if count:
        edits[tensors.out] = TensorEdit(axis, where[order], factors[order], columns if len(slots) else None)

    # W_in and its bias: what goes into the activation function
    shifted = layer.shifts != 0
    where = np.concatenate([owned, layer.neurons[shifted]])
    order = np.argsort(where)
    into = np.concatenate([np.zeros(len(owned)), np.ones(int(shifted.sum()))])[order]
    amounts = np.concatenate([np.full(len(owned), constant.level if constant else 0.0), layer.shifts[shifted]])[order]
    where = network.row_of(where[order], width, up=False)
    if len(where):
        direction = constant.direction if constant else None
        if direction is not None:
            edits[tensors.into] = TensorEdit(1 - axis, where, into, lambda: np.outer(amounts, direction))
            if tensors.has(tensors.into_bias):
                edits[tensors.into_bias] = TensorEdit(0, where, into)
        else:
            if len(owned):
                rows = network.row_of(owned, width, up=False)
                edits[tensors.into] = TensorEdit(1 - axis, rows, np.zeros(len(owned)))
            edits[tensors.into_bias] = TensorEdit(0, where, into, lambda: amounts[:, None])

    # W_up and its bias: a slot sees what its source sees
    if len(slots) and tensors.up and tensors.up_bias:
        rows, taken = (network.row_of(neurons, width, up=True) for neurons in (slots, sources))
        for name, along in ((tensors.up, 1 - axis), (tensors.up_bias, 0)):
            if tensors.has(name):
                copied = TensorEdit(
                    along, rows, np.zeros(len(slots)),
                    lambda name=name, along=along: tensors.take(name, along, taken),  # type: ignore[misc]
                )  # fmt: skip
                edits[name] = _joined(edits[name], copied) if name in edits else copied

    # b_out: everything that a plain FFN adds, in one vector
    added = layer.added
    if added.any() and biased_out and not network.gated:
        everywhere = np.arange(tensors.hidden)

        def sum_of_columns() -> Float64:
            return (layer.constants[added] @ tensors.take(tensors.out, axis, layer.neurons[added]))[:, None]

        edits[tensors.out_bias] = TensorEdit(0, everywhere, np.ones(len(everywhere)), sum_of_columns)
    return edits


def slots_needed(layer: LayerPlan, network: Network, *, biased: bool) -> int:
    """Return how many deactivated neurons `add` needs the room of.

    It is one for each neuron in a gated network, one for all in a plain one, none in a plain one with a bias at its output.
    """
    count = int(layer.added.sum())
    return count if network.gated else 0 if biased else min(1, count)


def _slots(layer: LayerPlan, network: Network, *, biased: bool, place: str) -> tuple[Int64, Int64, Float64]:
    """Choose where `add` puts second neurons.

    Returns slots (s,), the neurons they take their columns from (n,), and how much of each, float64 (s, n).
    """
    count, free = slots_needed(layer, network, biased=biased), layer.freed
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0))
    if len(free) < count:
        raise RecipeError(
            f"layer {place}: add puts {count} second neurons into slots of neurons that the recipe deactivates there, and "
            f"{count - len(free)} are missing. Deactivate another language too, find the neurons again, so that spare ones "
            "are known, or use `op` pin."
        )
    amounts = layer.constants[layer.added]
    weights = np.diag(amounts) if network.gated else amounts[None, :]
    return free[:count], layer.neurons[layer.added], weights


def _joined(first: TensorEdit, second: TensorEdit) -> TensorEdit:
    """Two edits of different rows of one tensor (gate and up in one) as one; the second's rows come after the first's."""

    def constants() -> Float64:
        made = [edit.constants() if edit.constants else None for edit in (first, second)]
        width = next(part.shape[1] for part in made if part is not None)
        lengths = (len(first.where), len(second.where))
        return np.concatenate([
            np.zeros((length, width)) if part is None else part for part, length in zip(made, lengths, strict=True)
        ])  # fmt: skip

    where = np.concatenate([first.where, second.where])
    return TensorEdit(first.axis, where, np.concatenate([first.factors, second.factors]), constants)
