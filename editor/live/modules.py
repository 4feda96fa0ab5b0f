"""Modules of a running model that hooks are attached to: the trunk, the activations, the inputs of the networks."""

import re
from dataclasses import replace
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
    """Return the modules of a live transformers model whose outputs are a_j, (…, d_ff), one per layer, in order."""
    pattern = re.compile(rf"(.*\.)?{family.layer_pattern}\.{re.escape(family.activation)}")
    named = trunk(model).named_modules()
    modules = {int(match["layer"]): module for name, module in named if (match := pattern.fullmatch(name))}
    if not modules or sorted(modules) != list(range(len(modules))):
        raise ModelError(
            f"the installed transformers builds {type(model).__name__} without {family.layer}.{family.activation}. "
            "Install a version that monoglot was tested with (see its constraints.txt)."
        )
    return [modules[layer] for layer in range(len(modules))]


def input_modules(model: Any, family: Family) -> list[Any]:
    """Return the modules of a live transformers model whose inputs are what the feed-forward network reads.

    They are (…, d), one per layer, in order: the first projection, `family.into`.
    """
    return activation_modules(model, replace(family, activation=family.into))
