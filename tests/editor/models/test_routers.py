"""The biases of routers: which families have them, and which are refused.

The reference is the checkpoint that transformers writes of each family.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support import tiny
from support.tiny import MIXED, MIXTURES

from monoglot.editor.errors import ModelError
from monoglot.editor.models.routers import BIAS, BIASES, bias_of
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target

pytestmark = pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) < 5, reason="experts run in one module from transformers 5 on"
)


def opened(folder: Path) -> Target:
    return open_target(resolve(str(folder)))


@pytest.mark.parametrize("model_type", [*MIXTURES, *MIXED])
def test_the_table_is_what_transformers_writes(saved: Callable[..., Path], model_type: str) -> None:
    """A number for each expert, in each layer that has experts, under this name and no other."""
    target = opened(saved(model_type, **MIXED.get(model_type, {})))
    shapes = {tensor.name: tensor.shape for _, tensor in target.checkpoint.tensors()}
    layers = {each.block.layer for each in target.feed_forward.located if each.block.expert}
    named = {target.feed_forward.router_bias(layer) for layer in layers}
    if bias_of(model_type) is None:
        assert named == {None}
        assert not any(BIAS.search(name) for name in shapes)
    else:
        assert {name for name in shapes if BIAS.search(name)} == named
        assert {shapes[str(name)][-1] for name in named} == {tiny.EXPERTS}


def test_every_family_of_the_table_is_a_mixture() -> None:
    assert {name for names in BIASES.values() for name in names} <= MIXTURES.keys()


@pytest.mark.parametrize(
    ("model_type", "config", "name", "reason"),
    [
        ("qwen3_moe", {}, "mlp.gate.e_score_correction_bias", "qwen3_moe models have none there"),
        ("mixtral", {}, "block_sparse_moe.gate.bias", "mixtral models have none there"),
        ("granitemoe", {}, "block_sparse_moe.router.layer.bias", "granitemoe models have none there"),
        ("deepseek_v3", {}, "mlp.gate.bias", "deepseek_v3 models have none there"),
        ("lfm2_moe", {"use_expert_bias": False}, None, "its config says that use_expert_bias is false"),
    ],
)
def test_a_bias_that_is_not_asked_for_is_refused(
    saved: Callable[..., Path], model_type: str, config: dict[str, bool], name: str | None, reason: str, tmp_path: Path
) -> None:
    base = shutil.copytree(saved(model_type), tmp_path / "base")
    tiny.edit_config(base, **config)
    if name:
        tensors = load_file(base / "model.safetensors") | {f"model.layers.1.{name}": torch.ones(tiny.EXPERTS)}
        save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"holds a bias of a router, model\.layers\.1\..*, but {reason}"):
        opened(base)


def test_a_dense_model_has_no_router(saved: Callable[..., Path]) -> None:
    """A tensor there is none of a router's: `locate` looks for parts that it doesn't know."""
    assert opened(saved("llama")).feed_forward.router_bias(1) is None
