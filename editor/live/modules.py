"""Modules of a running model that hooks are attached to: the trunk, the activations, the inputs of the networks."""

import re
from functools import partial
from typing import Any

from ..errors import ModelError
from ..models.families import Family


def trunk(model: Any) -> Any:
    """Return the text decoder of a live transformers model, without the output layer.

    Where transformers 4 knows no decoder (GPT-2, BLOOM, GPT-NeoX, …) its `get_decoder` returns the model itself, and the
    decoder is its base model.
    """
    decoder = model.get_decoder()
    return getattr(model, "base_model", model) if decoder is model else decoder


def activation_modules(model: Any, family: Family) -> list[Any]:
    """The modules of a live transformers model whose outputs are a_j, (…, d_ff), one per layer, in order."""
    if family.inline:
        _add_activations(trunk(model), family)
    return _modules(model, family, family.activation)


def input_modules(model: Any, family: Family) -> list[Any]:
    """The modules of a live transformers model whose inputs are what the feed-forward network reads, (…, d), one per
    layer, in order: its first projection, `family.into`."""
    return _modules(model, family, family.into)


def _modules(model: Any, family: Family, place: str) -> list[Any]:
    pattern = re.compile(rf"(.*\.)?{family.layer_pattern}\.{re.escape(place)}")
    named = trunk(model).named_modules()
    modules = {int(match["layer"]): module for name, module in named if (match := pattern.fullmatch(name))}
    if not modules or sorted(modules) != list(range(len(modules))):
        raise ModelError(
            f"the installed transformers builds {type(model).__name__} without {family.layer}.{place}. "
            "Install a version that monoglot was tested with (see its constraints.txt)."
        )
    return [modules[layer] for layer in range(len(modules))]


def _add_activations(decoder: Any, family: Family) -> None:
    """Give every feed-forward network of a family that computes its activation function inline a module that does it, so
    that hooks have a place. The network computes what it did."""
    from transformers.activations import ACT2FN

    place, _, name = family.activation.rpartition(".")
    pattern = re.compile(rf"(.*\.)?{family.layer_pattern}\.{re.escape(place)}")
    into, up, out = ((path or "").rpartition(".")[2] for path in (family.into, family.up, family.out))

    def forward(network: Any, x: Any) -> Any:
        a = getattr(network, name)(getattr(network, into)(x))
        return getattr(network, out)(a * getattr(network, up)(x) if up else a)

    for module in [module for path, module in decoder.named_modules() if pattern.fullmatch(path)]:
        if not hasattr(module, name):
            setattr(module, name, ACT2FN[family.function.removeprefix("=")])
            module.forward = partial(forward, module)
