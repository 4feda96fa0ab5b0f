"""Edits of weights as low-rank matrices: what an adapter (LoRA) adds to the weights of a base that stays as it is.

An edit of n rows or columns of W is a matrix of rank n at most, ΔW = B·A, which a server adds at run time as x·Aᵀ·Bᵀ:

    row j of W         A_i = what the row changes by,   B_i = e_j          a column the other way round
    row j times k      A_i = W[j, :],                   B_i = (k − 1)·e_j

In a gated network without biases the neurons that are switched off, scaled or pinned are rows of W_up: h_j = a_j·u_j, so
u_j → k·u_j does what W_out[:, j] → k·W_out[:, j] does. And what arithmetic at run time leaves of a number that should be 0
then stays inside that neuron, where a column of W_out would leave a little of it in every number that the network writes.
With u_j = 0 the product is exact: A holds the row as it is stored, B −1.

Rows that are all multiples of one (what `shift` adds to W_in) have rank 1 together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..models.networks import Network
from .plan import LayerPlan
from .tensor_edits import Constant, Float64, Int64, LayerTensors, TensorEdit, of_layer, slots_needed

ALIKE = 1e-12  # relative: rows that are multiples of each other up to float64's rounding


@dataclass(frozen=True)
class LowRank:
    """ΔW = b @ a of a weight of (outputs, inputs): a float64 (r, inputs), b float64 (outputs, r)."""

    a: Float64
    b: Float64

    @property
    def rank(self) -> int:
        return len(self.a)

    def padded(self, rank: int) -> "LowRank":
        """Return the same with so many rows in a and columns in b, the new ones zeros."""
        more = rank - self.rank
        return LowRank(np.pad(self.a, ((0, more), (0, 0))), np.pad(self.b, ((0, 0), (0, more))))


def by_rows_of_up(tensors: LayerTensors) -> bool:
    """Whether neurons are switched off, scaled and pinned by their rows of W_up, and not by their columns of W_out."""
    return tensors.network.gated and not tensors.has(tensors.up_bias)


def edits_of(layer: LayerPlan, tensors: LayerTensors, constant: Constant | None) -> dict[str, tuple[TensorEdit, ...]]:
    """Return the edits of each weight of a layer, by its name, as an adapter makes them.

    They are those that `of_layer` makes, with the factors of W_out's columns as factors of W_up's rows where that does
    the same. Raises RecipeError where `add` finds too few free slots.
    """
    edits: dict[str, tuple[TensorEdit, ...]] = {
        name: (edit,) for name, edit in of_layer(layer, tensors, constant, biased=False).items()
    }
    if tensors.up is None or tensors.out not in edits or not by_rows_of_up(tensors):
        return edits
    network, (edit,) = tensors.network, edits.pop(tensors.out)
    slots = layer.freed[: slots_needed(layer, network, biased=tensors.has(tensors.out_bias))]
    filled = np.isin(edit.where, slots)
    if filled.any() and (constants := edit.constants):
        made = TensorEdit(edit.axis, edit.where[filled], edit.factors[filled], lambda: constants()[filled])
        edits[tensors.out] = (made,)
    if not filled.all():
        rows = network.row_of(edit.where[~filled], tensors.width, up=True)
        factors = TensorEdit(1 - network.neuron_axis, rows, edit.factors[~filled])
        edits[tensors.up] = (*edits.get(tensors.up, ()), factors)
    return edits


def ranks(layer: LayerPlan, network: Network, *, rows_of_up: bool) -> dict[str, int]:
    """Return the rank that each projection of a layer needs, from the plan alone."""
    slots = slots_needed(layer, network, biased=False)
    scaled = int((layer.factors != 1).sum())
    into = int(layer.pinned.sum()) + slots + bool(np.any(layer.shifts))
    if not rows_of_up:
        up = slots if network.gated else 0
        out = scaled
    else:
        up, out = scaled, slots
    first = {network.into: into + (up if network.fused else 0)}
    own = {str(network.up): up} if network.up else {}
    return {name: rank for name, rank in {**first, **own, network.out: out}.items() if rank}


def low_rank(
    edits: Iterable[TensorEdit], tensors: LayerTensors, name: str, shape: tuple[int, int], *, transposed: bool
) -> LowRank:
    """Return edits of a weight as one product; `shape` is that of the weight as stored, (inputs, outputs) if `transposed`."""
    outputs, inputs = shape[::-1] if transposed else shape
    parts = [LowRank(np.zeros((0, inputs)), np.zeros((outputs, 0)))]  # no edit is rank 0
    for edit in edits:
        parts += _parts(edit, tensors, name, (outputs, inputs), transposed=transposed)
    return LowRank(np.concatenate([part.a for part in parts]), np.concatenate([part.b for part in parts], axis=1))


def _parts(
    edit: TensorEdit, tensors: LayerTensors, name: str, shape: tuple[int, int], *, transposed: bool
) -> Iterable[LowRank]:
    rows = (edit.axis == 0) != transposed
    old = tensors.take(name, edit.axis, edit.where)  # (n, m)
    factors = edit.factors - 1
    if edit.constants is None:
        yield _one_hot(edit.where, factors, old, shape, rows=rows)
        return
    constants = edit.constants()
    alone = edit.factors == 1  # nothing of the old numbers changes
    if alone.any() and (found := _multiples(constants[alone])):
        amounts, vector = found
        along = np.zeros((1, shape[0 if rows else 1]))
        along[0, edit.where[alone]] = amounts
        yield LowRank(vector[None], along.T) if rows else LowRank(along, vector[:, None])
    else:
        alone[:] = False
    if not alone.all():
        rest = ~alone
        changes = old[rest] * factors[rest, None] + constants[rest]
        yield _one_hot(edit.where[rest], np.ones(len(changes)), changes, shape, rows=rows)


def _one_hot(where: Int64, weights: Float64, vectors: Float64, shape: tuple[int, int], *, rows: bool) -> LowRank:
    """Return what adds weights[i]·vectors[i] to row (or column) where[i]."""
    hot = np.zeros((len(where), shape[0 if rows else 1]))
    hot[np.arange(len(where)), where] = weights
    return LowRank(vectors, np.ascontiguousarray(hot.T)) if rows else LowRank(hot, np.ascontiguousarray(vectors.T))


def _multiples(rows: Float64) -> tuple[Float64, Float64] | None:
    """Return amounts (n,) and a row whose multiples by them the rows are, None where they are not."""
    vector = rows[0]
    place = int(np.argmax(np.abs(vector)))
    if not vector[place]:
        return None
    amounts = rows[:, place] / vector[place]
    return (amounts, vector) if np.allclose(rows, np.outer(amounts, vector), rtol=ALIKE, atol=0) else None
