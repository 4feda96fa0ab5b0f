"""Edits of quantised weights: neurons that are switched off by writing zeros' codes, or zero scales, and nothing else.

In a gated network the row of W_up, and its bias, is cleared: u_j = 0 and so a_j·u_j = 0; where a_j is multiplied by u_j + 1
(gpt_oss), the gate's, as its a_j is 0 then. In a plain one it is the column of
W_out; where the format has no exact zero for a number amid its group, the row of W_in and its bias, as long as act(0) = 0.
What the formats can do, and which bytes that takes, is theirs to say (`files.packed`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ModelError, RecipeError
from ..files.checkpoint import Tensor
from ..files.packed import Edits, Matrix, Run, is_packed, plain_matrix, write
from ..models.activations import functions
from ..models.embedding import table_of
from ..models.target import Target
from .plan import LayerPlan
from .tensor_edits import Editing, Int64, Rounding, TensorEdit

ONLY_DEACTIVATE = (
    "only deactivate is exact there, and every other operation would have to quantise anew. Bake it into the model that was "
    "quantised, then quantise the result"
)


@dataclass(frozen=True)
class ByteEdit:
    """Bits of a tensor that are written, those of so many neurons."""

    runs: tuple[Run, ...]
    neurons: int


class ByteEditing:
    """A tensor whose bytes are being written, a block of rows at a time."""

    def __init__(self, tensor: Tensor, edit: ByteEdit) -> None:
        self.tensor, self.edit = tensor, edit
        self.row_bytes = (tensor.end - tensor.begin) // max(1, tensor.shape[0])

    def apply(self, view: memoryview, row: int, rounding: Rounding, *, place: Path) -> None:
        """Edit rows `row`… in place."""
        write(self.edit.runs, np.frombuffer(view, np.uint8), row * self.row_bytes)


def editing(tensor: Tensor, edit: TensorEdit | ByteEdit) -> Editing | ByteEditing:
    """Return what carries an edit out on a tensor."""
    return ByteEditing(tensor, edit) if isinstance(edit, ByteEdit) else Editing(tensor, edit)


def is_packed_layer(target: Target, number: int) -> bool:
    """Whether any weight of a layer's feed-forward network is stored in codes."""
    return any(is_packed(matrix) for matrix in _weights(target, number).values())


def refuse_others(target: Target, layers: tuple[LayerPlan, ...]) -> None:
    """Raise RecipeError when something else than deactivation is asked of a quantised layer."""
    table = "; or take redirect, or vector at the embedding, which edit its table of token embeddings alone"
    for number, layer in enumerate(layers):
        if len(layer.freed) < len(layer.neurons) and is_packed_layer(target, number):
            raise RecipeError(
                f"the weights of {target.source.name}'s feed-forward networks are quantised ({target.quantised}): "
                f"{ONLY_DEACTIVATE}{table if table_of(target) else ''}."
            )


def refuse_slot(target: Target, block: int) -> None:
    """Raise RecipeError when a neuron of a quantised layer would have to hold what is added after it."""
    if is_packed_layer(target, block):
        layer = target.feed_forward.located[block].block.layer
        offered = ", or at the embedding" if table_of(target) else ""
        raise RecipeError(
            f"the weights of layer {layer} of {target.source.name} are quantised ({target.quantised}) and it has no bias at "
            "its output, so nothing there can hold a vector exactly. Add it after a layer that is not "
            f"quantised{offered}; or bake it into the model that was quantised, then quantise the result."
        )


def of_packed_layer(layer: LayerPlan, target: Target, number: int) -> dict[str, ByteEdit]:
    """Name of each tensor to edit -> its edit. Raises ModelError where a format has no exact zero there."""
    block, network, _ = target.feed_forward.located[number]
    weights = _weights(target, number)
    neurons = layer.freed
    if network.gated:
        up = network.into if network.fused else str(network.up)
        cleared = network.row_of(neurons, block.width, up=not network.interleaved)
        return _rows(target, weights, up, number, cleared)
    try:
        return _of(weights[network.out].clear_columns(neurons.tolist()), len(neurons))
    except ModelError:
        if float(functions(target)[number](np.zeros(1))[0]) != 0:
            raise
        return _rows(target, weights, network.into, number, neurons)


def _rows(
    target: Target, weights: Mapping[str, Matrix], projection: str, number: int, rows: Int64
) -> dict[str, ByteEdit]:
    """Rows of a projection, and their numbers in its bias if it has one."""
    edits = _of(weights[projection].clear_rows(rows.tolist()), len(rows))
    if bias := target.checkpoint.find(target.feed_forward.name(projection, number, "bias")):
        module = _module(target, projection, number)
        edits |= _of(plain_matrix(module, {"bias": bias}, "bias").clear_rows(rows.tolist()), len(rows))
    return edits


def _of(edits: Edits, neurons: int) -> dict[str, ByteEdit]:
    return {name: ByteEdit(tuple(runs), neurons) for name, runs in edits.items()}


def _weights(target: Target, number: int) -> dict[str, Matrix]:
    """Return the weights of a layer, by projection."""
    projections = target.feed_forward.located[number].network.projections
    named = {each: _module(target, each, number) for each in projections}
    return {each: target.weights[module] for each, module in named.items() if module in target.weights}


def _module(target: Target, projection: str, number: int) -> str:
    return target.feed_forward.name(projection, number).removesuffix(".weight")
