"""An adapter whose rank has a limit: the neurons that matter most stay, and what is left out is counted.

A server holds so many numbers for each adapter, and so has a highest rank. In a layer that needs more, neurons are taken in
the order of what their edit changes in what the network writes, as far as the file and the statistics say it:

    |Δa_j| · ‖u_j‖ · ‖W_out[:, j]‖        |Δa_j| = |factor_j − 1| · m_j + |constant_j| + |shift_j|,   ‖u_j‖ = 1 in a plain one

m_j is the mean activation in neurons.json, the largest of the languages that the neuron is of; 1 where there is none.
A neuron that `add` adds to needs a slot; the slot of one that is left out stays deactivated.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import RecipeError
from ..models.target import Target
from ..neurons.neurons import Neurons
from .carriers import Carried
from .low_rank import by_rows_of_up, ranks
from .plan import LayerPlan, Plan
from .request import HIGHEST_RANKS, RANK_LIMIT
from .tensor_edits import Float64, Int64, LayerTensors, slots_needed


@dataclass(frozen=True)
class Fitted:
    """A plan that fits a rank: what is carried out, its rank, the rank without a limit, and how many neurons it lost.

    `left_out` counts by language; one that is of several counts for each.
    """

    carried: Carried
    rank: int
    needed: int
    left_out: dict[str, int]


def fitted(target: Target, what: Carried, neurons: Neurons, max_rank: int | None) -> Fitted:
    """Fit a plan to a highest rank; None: to the highest that servers take, and whoever needs more has to say so.

    Raises RecipeError for a rank below 1, and without one where more is needed, saying which languages need how much.
    """
    if max_rank is not None and max_rank < 1:
        raise RecipeError(f"`max_rank` is {max_rank}; the smallest rank is 1.")
    named = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    every = [LayerTensors(target.feed_forward, number, named) for number in range(len(what.plan.layers))]
    beside = [_of_vectors(what, number, tensors) for number, tensors in enumerate(every)]
    needs = [_rank(layer, tensors) + more for layer, tensors, more in zip(what.plan.layers, every, beside, strict=True)]
    needed = max(needs)
    if max_rank is None and needed > RANK_LIMIT:
        raise RecipeError(_too_much(target, what, neurons, needs))
    limit = max_rank or RANK_LIMIT
    layers = [
        layer if need <= limit else _cut(layer, tensors, _sizes(layer, tensors, neurons, number), limit - more)
        for number, (layer, tensors, need, more) in enumerate(zip(what.plan.layers, every, needs, beside, strict=True))
    ]
    left_out = {
        language: sum(
            int(np.isin(np.setdiff1d(before.neurons, after.neurons), own).sum())
            for before, after, own in zip(what.plan.layers, layers, neurons.indices[language], strict=True)
        )
        for language in what.plan.edited
    }
    edited = {language: count - left_out[language] for language, count in what.plan.edited.items()}
    plan = Plan(tuple(layers), edited, what.plan.kept)
    rank = max(_rank(layer, tensors) + more for layer, tensors, more in zip(layers, every, beside, strict=True))
    if not rank:
        raise RecipeError(f"with `max_rank` {limit} no edit fits; the smallest that any edit takes here is larger.")
    return Fitted(replace(what, plan=plan), rank, needed, left_out)


def _rank(layer: LayerPlan, tensors: LayerTensors) -> int:
    return max(ranks(layer, tensors.network, rows_of_up=by_rows_of_up(tensors)).values(), default=0)


def _of_vectors(what: Carried, number: int, tensors: LayerTensors) -> int:
    """Return the rank that vectors add to a block: each has a row of gate and up, and a column, in the slot of a neuron."""
    count = sum(vector.block == number for vector in what.vectors)
    return count * (2 if tensors.network.fused else 1)


def _too_much(target: Target, what: Carried, neurons: Neurons, needs: list[int]) -> str:
    worst = int(np.argmax(needs))
    place = target.feed_forward.networks[worst].name
    over = sum(need > RANK_LIMIT for need in needs)
    chosen = what.plan.layers[worst].neurons
    own = {language: int(np.isin(chosen, neurons.indices[language][worst]).sum()) for language in what.plan.edited}
    most = ", ".join(f"{language} {count}" for language, count in sorted(own.items(), key=lambda each: -each[1]))
    servers = ", ".join(f"{name} to {highest}" for name, highest in HIGHEST_RANKS.items())
    return (
        f"the adapter would have rank {needs[worst]}, {needs[worst] - RANK_LIMIT} more than servers take ({servers}): layer "
        f"{place} needs it, by neurons of {most}; {over} layer{'s are' if over > 1 else ' is'} over the limit. Edit fewer "
        f"languages, or set `max_rank` to {RANK_LIMIT}, which leaves out the neurons that matter least; a higher one is for "
        "servers without a limit."
    )


def _sizes(layer: LayerPlan, tensors: LayerTensors, neurons: Neurons, number: int) -> Float64:
    """Return what the edit of each neuron changes in what the network writes, float64 (n,)."""
    mean = np.zeros(len(layer.neurons))
    known = neurons.values.get("mean", {})
    for language, values in known.items():
        own = neurons.indices[language][number]
        there = np.isin(own, layer.neurons)
        where = np.searchsorted(layer.neurons, own[there])
        mean[where] = np.maximum(mean[where], np.abs(values[number][there]))
    mean = mean if known else np.ones(len(mean))
    change = np.abs(layer.factors - 1) * mean + np.abs(layer.constants) + np.abs(layer.shifts)
    network = tensors.network
    written = np.linalg.norm(tensors.take(tensors.out, network.neuron_axis, layer.neurons), axis=1)
    if network.gated:
        rows = network.row_of(layer.neurons, tensors.width, up=True)
        written = written * np.linalg.norm(tensors.take(str(tensors.up), 1 - network.neuron_axis, rows), axis=1)
    sizes: Float64 = change * written
    return sizes


def _cut(layer: LayerPlan, tensors: LayerTensors, sizes: Float64, limit: int) -> LayerPlan:
    """Keep as many of the largest as fit."""
    order = np.argsort(-sizes, kind="stable")
    few, many = 0, len(order)  # so many fit, so many do not
    while many - few > 1:
        middle = (few + many) // 2
        if _rank(_with_slots(layer, tensors, order, middle), tensors) <= limit:
            few = middle
        else:
            many = middle
    return _with_slots(layer, tensors, order, few)


def _with_slots(layer: LayerPlan, tensors: LayerTensors, order: Int64, count: int) -> LayerPlan:
    """Return the first `count` of the neurons, and as many that are deactivated as `add` needs the slots of."""
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[:count]] = True
    kept = layer.take(chosen)
    missing = slots_needed(kept, tensors.network, biased=False) - len(kept.freed)
    spare = order[~chosen[order] & np.isin(layer.neurons[order], layer.freed)]
    chosen[spare[: max(0, missing)]] = True
    return layer.take(chosen)
