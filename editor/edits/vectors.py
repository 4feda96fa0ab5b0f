"""Vectors after a layer: where the constant that is added to the residual stream lives in the file.

What is wanted after layer l is h + k·v. The layer's feed-forward network puts out y, which a family adds to h as it is,
times a factor, or behind a norm (see `models.residual`); so into y goes

    k·v / factor      exact
    c = r·k·v / g     behind a norm with the weight g, r being the mean root mean square of y on text; the norm's weight is
                      multiplied by √(1 + (rms(c)/r)²), so that what the layer said before keeps its size: approximate

by a bias of the output projection, in the file or new, or by a neuron that is on for every token, with w·x ≈ 1 (see
`calibration`): a spare one, or else the one whose weights are smallest. In the slot s of that neuron

    gate row t·w, up row w, W_out[:, s] := c / act(t)         plain: in row t·w, W_out[:, s] := c / act(t)
"""

from collections.abc import Sequence

import numpy as np

from ..errors import ModelError, RecipeError
from ..files import floats
from ..models.activations import functions
from ..models.residual import Route, route_of
from ..models.target import Target
from ..neurons.neurons import Neurons
from ..statistics.vocabulary import Vocabulary
from .byte_edits import refuse_slot
from .layer_vector import LayerVector
from .plan import Plan
from .recipe import EMBEDDING, VECTOR, Edit, Recipe
from .tensor_edits import Constant, Float64, LayerTensors, TensorEdit

SMALLEST_WEIGHT = 1e-3  # of a norm's largest: below, what it multiplies with cannot be divided by


def in_layers(recipe: Recipe) -> tuple[Edit, ...]:
    """Return the edits that add a vector after a layer, on every token or on those of one language."""
    return (*(edit for edit in recipe.vectors if edit.point != EMBEDDING), *recipe.readers)


def layer_vectors(
    target: Target, recipe: Recipe, vocabulary: Vocabulary, plan: Plan, neurons: Neurons, *, biased: bool
) -> tuple[LayerVector, ...]:
    """Say what is added after which layer, and by what. `biased` says that the carrier has biases.

    Raises RecipeError for a layer that there is not, a language of which nothing is known there, and a layer without a
    neuron to spare.
    """
    try:
        route = route_of(target)
    except ModelError as error:
        raise RecipeError(f"{target.source.name}: {error}") from None
    wanted: dict[int, Float64] = {}
    for edit in (edit for edit in in_layers(recipe) if edit.op == VECTOR):
        layer = int(str(edit.point))
        amount = float(edit.strength or 0) * _vector(target, vocabulary, edit.language, layer)
        wanted[layer] = wanted.get(layer, np.zeros(len(amount))) + amount
    made = [
        _carried(target, layer, value, route, vocabulary, plan, neurons, biased)
        for layer, value in sorted(wanted.items())
    ]
    for edit in recipe.readers:
        slots = [int(str(each.slot)) for each in made if each.layer == edit.point and each.slot is not None]
        made.append(_reading(target, edit, route, vocabulary, plan, neurons, slots))
    return tuple(made)


def _reading(
    target: Target, edit: Edit, route: Route, vocabulary: Vocabulary, plan: Plan, neurons: Neurons, slots: Sequence[int]
) -> LayerVector:
    """Say what the neuron of a language that is redirected in a layer adds."""
    layer = int(str(edit.point))
    if layer >= target.feed_forward.layers:
        raise RecipeError(
            f"{edit.language} is to be redirected after layer {layer}; the last one is {target.feed_forward.layers - 1}."
        )
    if route.norm:
        raise RecipeError(
            f"{target.source.name} has a norm behind its feed-forward networks, so what one neuron adds depends on the "
            "others. Redirect its tokens: leave `point` out."
        )
    reader, known = vocabulary.readers.get((edit.language, layer)), vocabulary.languages
    if reader is None or vocabulary.residual is None or edit.to not in known:
        raise RecipeError(
            f"the vocabulary has no reader of {edit.language} at layer {layer}, or no centres of {edit.language} and "
            f"{edit.to} there. Count the tokens with `layers` and `readers`, which run the model."
        )
    centres = vocabulary.residual.centres[:, layer].astype(np.float64)
    value = float(edit.strength or 0) * (centres[known.index(str(edit.to))] - centres[known.index(edit.language)])
    if not value.any():
        raise RecipeError(
            f"{edit.language} and {edit.to} have the same centre after layer {layer}. Is it the same text twice?"
        )
    block, tensors = _block(target, layer)
    refuse_slot(target, block)
    slot = _slot(tensors, block, plan, neurons, slots)
    activated = float(functions(target)[block](np.array([reader.level]))[0])
    return LayerVector(
        layer,
        block,
        value,
        value / route.factor,
        slot,
        gate=reader.gate,
        up=reader.up,
        level=reader.level,
        activated=activated,
    )


def _vector(target: Target, vocabulary: Vocabulary, language: str, layer: int) -> Float64:
    if layer >= target.feed_forward.layers:
        raise RecipeError(
            f"the vector of {language} is to be added after layer {layer}; the last one is {target.feed_forward.layers - 1}."
        )
    if (language, layer) in vocabulary.vectors:
        found = vocabulary.vectors[language, layer]
    elif vocabulary.residual is None or language not in vocabulary.ids:
        known = f"it has {', '.join(vocabulary.languages)}" if vocabulary.ids else "it has none"
        what = f"no vector of {language} after layer {layer}" if vocabulary.residual else "no centres after the layers"
        raise RecipeError(
            f"the vocabulary has {what} ({known}). Count the tokens with `layers`, which runs the model, or give a `vector`."
        )
    elif len(vocabulary.ids) < 2:
        raise RecipeError(f"the vocabulary has text in {language} alone, so nothing tells {language} from others.")
    else:
        found = vocabulary.residual.vector(vocabulary.languages.index(language), layer)
    if len(found) != target.feed_forward.hidden:
        raise RecipeError(
            f"the vector of {language} has {len(found)} numbers, and the residual stream of {target.source.name} "
            f"{target.feed_forward.hidden}. It is of another model."
        )
    if not found.any():
        raise RecipeError(f"the vector of {language} after layer {layer} is nothing but zeros.")
    return found


def _carried(
    target: Target, layer: int, value: Float64, route: Route, vocabulary: Vocabulary, plan: Plan, neurons: Neurons,
    biased: bool,
) -> LayerVector:  # fmt: skip
    feed_forward = target.feed_forward
    block, tensors = _block(target, layer)
    norm, gain, added = None, 1.0, value / route.factor
    if route.norm:
        norm = f"{feed_forward.prefix}{feed_forward.family.layer.format(layer)}.{route.norm}.weight"
        added, gain = _behind(target, tensors, norm, layer, value, route, vocabulary)
    slot = None
    if not (biased or tensors.has(tensors.out_bias)):
        refuse_slot(target, block)
        slot = _slot(tensors, block, plan, neurons)
    return LayerVector(layer, block, value, added, slot, norm, route.offset, gain)


def _block(target: Target, layer: int) -> tuple[int, LayerTensors]:
    """Return the number of a layer's one network, and its tensors."""
    feed_forward = target.feed_forward
    blocks = [number for number, each in enumerate(feed_forward.located) if each.block.layer == layer]
    if len(blocks) != 1:
        raise RecipeError(
            f"layer {layer} of {target.source.name} has {len(blocks)} feed-forward networks, and a vector needs the one that "
            "every token goes through. Add it at the embedding."
        )
    named = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    return blocks[0], LayerTensors(feed_forward, blocks[0], named)


def _behind(
    target: Target, tensors: LayerTensors, norm: str, layer: int, value: Float64, route: Route, vocabulary: Vocabulary
) -> tuple[Float64, float]:
    """Return what goes into the network's output to be `value` behind the norm, and what its weight is multiplied with."""
    if not tensors.has(norm):
        raise RecipeError(f"{target.source.name} has no {norm}. Download the model again.")
    if vocabulary.residual is None or layer >= vocabulary.residual.layers:
        raise RecipeError(
            f"{target.source.name} has a norm behind its feed-forward networks, so what they put out on text has to be "
            "known: count the tokens with `layers`, which runs the model."
        )
    weight = tensors.take(norm, 0, np.arange(tensors.hidden))[:, 0] + route.offset
    if not np.abs(weight).min() > SMALLEST_WEIGHT * np.abs(weight).max():
        raise RecipeError(
            f"{norm} is nearly zero in places, so no vector gets through it there. Add the vector after another layer."
        )
    size = float(vocabulary.residual.rms[layer])
    added = size * value / weight
    return added, float(np.sqrt(1 + np.mean(added**2) / size**2))


def _slot(tensors: LayerTensors, block: int, plan: Plan, neurons: Neurons, others: Sequence[int] = ()) -> int:
    """Choose the neuron that makes room: a spare one, else the one with the smallest weights; none of the `others`."""
    taken = np.union1d(plan.layers[block].neurons, np.array(others, np.int64))
    spare = neurons.spare[block] if neurons.spare else np.zeros(0, np.int64)
    if len(free := spare[~np.isin(spare, taken)]):
        return int(free[-1])  # `add` takes them from the other end
    every, axis = np.arange(tensors.width), tensors.network.neuron_axis
    out = np.square(tensors.take(tensors.out, axis, every)).sum(axis=1)
    rows = tensors.network.row_of(every, tensors.width, up=bool(tensors.up))
    name = tensors.up or tensors.into
    into = np.square(tensors.take(name, 1 - axis, rows)).sum(axis=1)
    size = out * into
    size[taken] = np.inf
    if not np.isfinite(size).any():
        raise RecipeError(f"{tensors.place}: every neuron is edited, so none is left to carry a vector.")
    return int(np.argmin(size))


def of_vector(vector: LayerVector, tensors: LayerTensors, constant: Constant | None) -> dict[str, TensorEdit]:
    """Return the edit of each tensor to edit, by its name."""
    edits: dict[str, TensorEdit] = {}
    everywhere = np.arange(tensors.hidden)
    if vector.norm is not None:
        moved = np.full((tensors.hidden, 1), vector.offset * (vector.gain - 1))
        edits[vector.norm] = TensorEdit(0, everywhere, np.full(tensors.hidden, vector.gain), lambda: moved)
    if vector.slot is None:
        edits[tensors.out_bias] = TensorEdit(0, everywhere, np.ones(tensors.hidden), lambda: vector.added[:, None])
        return edits
    gate, ups, activated = _rows(vector, tensors, constant)
    slot, axis, nothing = np.array([vector.slot]), tensors.network.neuron_axis, np.zeros(1)
    edits[tensors.out] = TensorEdit(axis, slot, nothing, lambda: vector.added[None] / activated)
    into = tensors.network.row_of(slot, tensors.width, up=False)
    edits[tensors.into] = TensorEdit(1 - axis, into, nothing, lambda: gate[None])
    if tensors.has(tensors.into_bias):
        edits[tensors.into_bias] = TensorEdit(0, into, nothing)
    if tensors.up and tensors.up_bias:
        up = tensors.network.row_of(slot, tensors.width, up=True)
        row = TensorEdit(1 - axis, up, nothing, lambda: ups[None])
        edits[tensors.up] = merged(edits[tensors.up], row) if tensors.up in edits else row
        if tensors.has(tensors.up_bias):
            bias = TensorEdit(0, up, nothing)
            edits[tensors.up_bias] = merged(edits[tensors.up_bias], bias) if tensors.up_bias in edits else bias
    return edits


def _rows(vector: LayerVector, tensors: LayerTensors, constant: Constant | None) -> tuple[Float64, Float64, float]:
    """Return the gate row and the up row of the neuron that carries a vector, and its act(t)."""
    if vector.gate is not None and vector.up is not None:
        return vector.gate, vector.up, vector.activated
    if constant is None or constant.direction is None:
        raise RecipeError(f"{tensors.place}: a vector needs a calibrated direction there.")
    return constant.level * constant.direction, constant.direction, constant.activated


def merged(first: TensorEdit, second: TensorEdit) -> TensorEdit:
    """Make one edit of two of the same tensor, of other rows, or of the same rows without factors, whose constants add up."""
    where, place = np.unique(np.concatenate([first.where, second.where]), return_inverse=True)
    parts = ((first, place[: len(first.where)]), (second, place[len(first.where) :]))
    factors = np.ones(len(where))
    for edit, at in parts:
        factors[at] *= edit.factors

    def constants() -> Float64:
        made = [(edit.constants(), at) for edit, at in parts if edit.constants]
        total = np.zeros((len(where), made[0][0].shape[1]))
        for values, at in made:
            total[at] += values
        return total

    return TensorEdit(first.axis, where, factors, constants if first.constants or second.constants else None)


def check_finite(vectors: Sequence[LayerVector], dtype: str) -> None:
    """Raise RecipeError when a vector doesn't fit in the dtype of the checkpoint."""
    for vector in vectors:
        if not floats.all_finite(floats.from_float64(vector.added, dtype), dtype):
            raise RecipeError(
                f"the vector after layer {vector.layer} doesn't fit in {floats.NAMES[dtype]}. Use a smaller strength."
            )
