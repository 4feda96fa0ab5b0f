"""Modules of a running model that hooks are attached to: the trunk, the activations, the inputs of the networks."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ..errors import ModelError
from ..models.families import Family
from ..models.networks import EXPERTS, Network
from .experts import activations


def trunk(model: Any) -> Any:
    """Return the text decoder of a live transformers model, without the output layer.

    Where transformers 4 knows no decoder (GPT-2, BLOOM, GPT-NeoX, …) its `get_decoder` returns the model itself, and the
    decoder is its base model.
    """
    decoder = model.get_decoder()
    return getattr(model, "base_model", model) if decoder is model else decoder


def activation_modules(model: Any, family: Family) -> list[Any]:
    """Return the modules of a live transformers model whose outputs are a_j, (…, d_ff), one per block, in order.

    Of an expert they are (tokens, d_ff), of the tokens that it was given (see `experts`).
    """
    decoder = trunk(model)
    found: dict[tuple[int, int, int], Any] = {}
    for network in family.networks:
        if network.inline:
            _add_activations(decoder, family, network)
        order = 0 if not network.part else 1 if network.part != EXPERTS else 2
        for layer, module in _by_layer(decoder, family, network.activation).items():
            if network.part == EXPERTS:
                found |= {(layer, order, number): one for number, one in enumerate(activations(module))}
            else:
                found[layer, order, -1] = module
    layers = {layer for layer, _, _ in found}
    if not found or (not family.gaps and layers != set(range(len(layers)))):
        raise _other_layout(model, family, family.activation)
    return [found[key] for key in sorted(found)]


class RouterBiases(Mapping[int, Any]):
    """What routers of a live model add to the scores of experts, (…, experts), by layer; none where they add nothing.

    Each is looked up when it is asked for: a model that runs layer by layer has others each time.
    """

    def __init__(self, model: Any, family: Family) -> None:
        pattern = re.compile(rf"(.*\.)?{family.layer_pattern}\..*(e_score_correction_bias|expert_bias|router\.bias)")
        decoder = trunk(model)
        self._modules = dict(decoder.named_modules())
        named = [*decoder.named_parameters(), *decoder.named_buffers()]
        self._names = {int(match["layer"]): name for name, _ in named if (match := pattern.fullmatch(name))}

    def __getitem__(self, layer: int) -> Any:
        place, _, name = self._names[layer].rpartition(".")
        return getattr(self._modules[place], name)

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def router_biases(model: Any, family: Family) -> RouterBiases:
    """Return the biases of a live model's routers."""
    return RouterBiases(model, family)


def input_modules(model: Any, family: Family) -> list[Any]:
    """Return the modules of a live transformers model whose inputs are what the feed-forward network reads, (…, d).

    There is one per layer that has a network, in order: its first projection, `family.into`.
    """
    modules = _by_layer(trunk(model), family, family.into)
    if not modules or (not family.gaps and sorted(modules) != list(range(len(modules)))):
        raise _other_layout(model, family, family.into)
    return [modules[layer] for layer in sorted(modules)]


def layer_modules(model: Any, family: Family) -> list[Any]:
    """Return the layers of a live transformers model, in order; what they put out is the residual stream, (B, T, d)."""
    pattern = re.compile(rf"(.*\.)?{family.layer_pattern}")
    found = {int(m["layer"]): each for name, each in trunk(model).named_modules() if (m := pattern.fullmatch(name))}
    if not found or sorted(found) != list(range(len(found))):
        raise _other_layout(model, family, "")
    return [found[layer] for layer in range(len(found))]


def output_modules(model: Any, family: Family, place: str = "") -> list[Any]:
    """Return the output projections of a live model's feed-forward networks, or what lies at `place`, one per layer.

    Raises ModelError where a layer has none, or a mixture of experts.
    """
    found = _by_layer(trunk(model), family, place or family.out)
    if not found or sorted(found) != list(range(len(found))):
        raise _other_layout(model, family, place or family.out)
    return [found[layer] for layer in range(len(found))]


def _by_layer(decoder: Any, family: Family, place: str) -> dict[int, Any]:
    pattern = re.compile(rf"(.*\.)?{family.layer_pattern}\.{re.escape(place)}")
    return {
        int(match["layer"]): module for name, module in decoder.named_modules() if (match := pattern.fullmatch(name))
    }


def _other_layout(model: Any, family: Family, place: str) -> ModelError:
    return ModelError(
        f"the installed transformers builds {type(model).__name__} without {family.layer}.{place}. "
        "Install a version that monoglot was tested with (see its constraints.txt)."
    )


def _add_activations(decoder: Any, family: Family, own: Network) -> None:
    """Give every feed-forward network of a family that computes its activation function inline a module that does it.

    So hooks have a place. The network computes what it did.
    """
    from transformers.activations import ACT2FN

    place, _, name = own.activation.rpartition(".")
    pattern = re.compile(rf"(.*\.)?{family.layer_pattern}\.{re.escape(place)}")
    into, up, out = ((path or "").rpartition(".")[2] for path in (own.into, own.up, own.out))

    def forward(network: Any, x: Any) -> Any:
        a = getattr(network, name)(getattr(network, into)(x))
        return getattr(network, out)(a * getattr(network, up)(x) if up else a)

    for module in [module for path, module in decoder.named_modules() if pattern.fullmatch(path)]:
        if hasattr(module, into) and not hasattr(module, name):
            setattr(module, name, ACT2FN[family.function.removeprefix("=")])
            module.forward = partial(forward, module)
