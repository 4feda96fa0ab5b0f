"""The controls: as many neurons, tokens moved as far and vectors as long as an edit's, drawn with a seed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..models.identity import Block, blocks_of
from .plan import LayerPlan, Plan

if TYPE_CHECKING:
    from .layer_vector import LayerVector
    from .redirect import Redirection


def random_redirection(redirection: "Redirection", seed: int = 0) -> "Redirection":
    """Return the control: the same tokens moved as far, in directions drawn with a seed."""
    drawn = np.random.default_rng(seed).normal(size=redirection.moves.shape)
    lengths = np.linalg.norm(redirection.moves, axis=1, keepdims=True)
    return replace(redirection, moves=drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * lengths)


def random_vectors(vectors: "Sequence[LayerVector]", seed: int = 0) -> "list[LayerVector]":
    """Return the control: vectors as long, after the same layers, in directions drawn with a seed."""
    generator = np.random.default_rng(seed)
    made = []
    for vector in vectors:
        drawn = generator.normal(size=vector.value.shape)
        drawn *= np.linalg.norm(vector.value) / np.linalg.norm(drawn)
        made.append(replace(vector, value=drawn, added=drawn * np.linalg.norm(vector.added) / np.linalg.norm(drawn)))
    return made


def random_plan(plan: Plan, width: int, seed: int = 0, *, blocks: Sequence[Block] = ()) -> Plan:
    """Return the control: in every block as many neurons as the plan edits, with what the plan does to its own.

    They are drawn with a seed from those that the plan doesn't edit. `blocks` are the model's where they are not all
    `width` wide.
    """
    generator = np.random.default_rng(seed)
    layers = []
    for layer, block in zip(plan.layers, blocks_of(len(plan.layers), width, blocks), strict=True):
        others = np.setdiff1d(np.arange(block.width), layer.neurons)
        count = min(len(layer.neurons), len(others))
        drawn = np.sort(generator.choice(others, count, replace=False))
        dealt = generator.permutation(len(layer.neurons))[:count]
        layers.append(LayerPlan(drawn, layer.factors[dealt], layer.constants[dealt], layer.shifts[dealt]))
    return Plan(tuple(layers), {}, {})
