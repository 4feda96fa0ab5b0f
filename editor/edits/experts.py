"""Experts that are switched off: the router's bias is set so far down that no token is sent to them.

    b_e := −2¹⁴        for each expert e that is switched off

Every dtype holds that number, and no score comes near it. No matrix changes, and an expert that stays on computes what it
did; tokens that went to one that is off go to the next best. That is exact: what is off has no part in any result. It needs a
router with a bias, and enough experts that stay on: a token takes a fixed number of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import RecipeError
from ..files.checkpoint import Shard, Tensor
from ..models.families import text_config
from ..models.feed_forward import FeedForward
from ..models.routers import taken_by_a_token
from ..models.target import Target
from .tensor_edits import TensorEdit

FAR_DOWN = -(2.0**14)
# config keys: how many groups of experts there are
GROUPS = ("n_group", "num_expert_group")
DTYPES = ("F32", "F16", "BF16")
Experts = Sequence[tuple[int, int]]  # (layer, expert)


def check_experts(target: Target, experts: Experts) -> None:
    """Raise RecipeError when these experts of a model can't be switched off."""
    if not experts:
        return
    found, name = target.feed_forward, target.source.name
    if why := refusal(found):
        raise RecipeError(f"no expert of {name} can be switched off: {why}.")
    tensors = {tensor.name: tensor for _, tensor in target.checkpoint.tensors()}
    config = text_config(target.checkpoint.config)
    taken = taken_by_a_token(config)
    for layer in sorted({layer for layer, _ in experts}):
        count = sum(each.block.expert for each in found.located if each.block.layer == layer)
        off = {expert for at, expert in experts if at == layer}
        if not off < set(range(count)):
            wrong = sorted(off - set(range(count)))
            raise RecipeError(
                f"there is no expert {layer}.{wrong[0]}: layer {layer} of {name} has {count or 'none'}."
                if wrong
                else f"all {count} experts of layer {layer} would be switched off. Leave at least {taken} on."
            )
        if (on := reachable(config, count, off)) < taken:
            raise RecipeError(
                f"{len(off)} of {count} experts of layer {layer} would be switched off: then a token may find {on}, and it "
                f"goes to {taken}. Switch fewer off."
            )
        bias = found.router_bias(layer)
        tensor = tensors.get(str(bias))
        if tensor is None or tensor.dtype not in DTYPES or tensor.shape[-1:] != (count,):
            raise RecipeError(f"{name} has no bias of {count} floats for the router of layer {layer}: {bias}.")


def refusal(found: FeedForward) -> str | None:
    """Say why no expert of a model can be switched off; None: they can."""
    if not found.mixture:
        return "it is no mixture of experts"
    if found.router_bias(0) is None:
        return (
            f"routers of {found.model_type} models have no bias, and without one a matrix would have to change. Deactivate "
            "the neurons of a language instead"
        )
    return None


def reachable(config: Mapping[str, Any], count: int, off: set[int]) -> int:
    """Return how many experts that stay on every token finds: all, or those of the groups that it may choose from."""
    groups, chosen = next((config[key] for key in GROUPS if key in config), None), config.get("topk_group")
    if not isinstance(groups, int) or not isinstance(chosen, int) or groups < 2 or count % groups:
        return count - len(off)
    size = count // groups
    on = sorted(size - sum(expert // size == group for expert in off) for group in range(groups))
    return sum(on[:chosen])


def edits_of(target: Target, experts: Experts, tensors: Mapping[str, tuple[Shard, Tensor]]) -> dict[str, TensorEdit]:
    """Return the edits of routers' biases, by name."""
    made = {}
    for layer in sorted({layer for layer, _ in experts}):
        name = str(target.feed_forward.router_bias(layer))
        where = np.array(sorted(expert for at, expert in experts if at == layer), np.int64)
        axis = len(tensors[name][1].shape) - 1
        down = np.full((len(where), 1), FAR_DOWN)
        made[name] = TensorEdit(axis, where, np.zeros(len(where)), lambda down=down: down)  # type: ignore[misc]
    return made
