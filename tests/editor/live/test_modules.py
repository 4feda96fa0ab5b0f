"""Hooks hang where the tensors of the model say: one module a layer, with the widths of the config."""

from pathlib import Path

import pytest
import torch

from monoglot.editor.errors import ModelError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, input_modules, trunk
from monoglot.editor.models.families import family_of


def test_one_activation_and_one_input_a_layer(model: Path) -> None:
    """What passes there has the widths that the weights have, and an input times its gate's weight is what is activated."""
    live = load_model(model)
    acts, inputs = (
        activation_modules(live, family_of({"model_type": "llama"})),
        input_modules(live, family_of({"model_type": "llama"})),
    )
    assert len(acts) == len(inputs) == live.config.num_hidden_layers
    seen: dict[str, list[torch.Tensor]] = {"a": [], "x": []}
    for act, into in zip(acts, inputs, strict=True):
        act.register_forward_hook(lambda module, args, output: seen["a"].append(output))
        into.register_forward_hook(lambda module, args, output: seen["x"].append(args[0]))
    with torch.no_grad():
        live(torch.tensor([[7, 8, 9]]))
    for layer, a, x in zip(live.model.layers, seen["a"], seen["x"], strict=True):
        assert a.shape[-1] == live.config.intermediate_size
        assert x.shape[-1] == live.config.hidden_size
        torch.testing.assert_close(a, torch.nn.functional.silu(x @ layer.mlp.gate_proj.weight.T))


def test_the_trunk_has_no_output_layer(model: Path) -> None:
    live = load_model(model)
    assert trunk(live) is live.model


def test_a_model_of_another_family_has_no_such_modules(model: Path) -> None:
    with pytest.raises(ModelError, match=r"builds LlamaForCausalLM without .*Install a version"):
        activation_modules(load_model(model), family_of({"model_type": "gpt2"}))
