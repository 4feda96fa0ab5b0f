"""Neurons of experts switched off in quantised mixtures: bytes of the chosen experts only, and the model that runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support import packed_models
from support.packed_models import EXPERTS, HIDDEN, WIDTH, changed_bytes

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CheckpointError, RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.proof.rebuild import open_base, rebuild

IDS = torch.tensor([[5, 17, 200, 3, 42, 99, 250, 11], [9, 9, 120, 77, 31, 2, 66, 280]])
pytestmark = pytest.mark.skipif(
    int(transformers.__version__.partition(".")[0]) < 5, reason="experts run in one module from transformers 5 on"
)
FORMATS = ("fp8-blocks", "fp4-deepseek", "gptq-4", "awq", "ct-int4-group", "fp4-nvfp4", "mlx-5")


def target_of(folder: Path) -> Target:
    return open_target(resolve(str(folder)))


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(IDS).logits


def neurons(target: Target) -> Neurons:
    """Some neurons of every second block; of no other."""
    chosen = tuple(
        np.array([0, 3, block.width - 1] if number % 2 == 0 else [], np.int64)
        for number, block in enumerate(target.feed_forward.networks)
    )
    return Neurons({"zh": chosen}, {"mean": {"zh": tuple(np.ones(len(each)) for each in chosen)}})


def proved(packed: Path, twin: Path, out: Path) -> tuple[Target, dict[str, list[int]]]:
    """Bake, prove the bytes, compare with hooks in floats; returns what changed."""
    target = target_of(packed)
    found = neurons(target)
    made = bake(target, found, Recipe(target.base, (Edit("zh", "deactivate"),)), out)
    assert not verify_bytes(out, target, found).problems
    base, ours, floats = load_model(packed), load_model(out), load_model(twin)
    torch.testing.assert_close(logits(base), logits(floats), rtol=1e-4, atol=1e-4)
    modules = activation_modules(base, target.feed_forward.family)
    with steered(modules, made.carried.plan):
        hooked = logits(base)
    torch.testing.assert_close(logits(ours), hooked, rtol=1e-5, atol=1e-5)
    assert (logits(base) - hooked).abs().max() > 1e-3
    again = rebuild(out, open_base(made.manifest, str(packed), beside=out), out.parent / "again")
    assert not again.differ and "model.safetensors" in again.same
    return target, changed_bytes(packed, out)


@pytest.mark.parametrize("name", FORMATS)
def test_one_tensor_an_expert(tmp_path: Path, name: str) -> None:
    packed, twin = packed_models.save(tmp_path, name, "qwen3_moe")
    target, changed = proved(packed, twin, tmp_path / "out")
    assert [block.part for block in target.feed_forward.networks] == ["0", "1", "2", ""]
    modules = {tensor.rpartition(".")[0] for tensor in changed}
    assert modules == {f"model.layers.0.mlp.experts.{expert}.up_proj" for expert in (0, 2)}


def test_gpt_oss_in_mxfp4(tmp_path: Path) -> None:
    """The gate's row of the chosen experts and its bias; computed here from the layout alone."""
    packed, twin = packed_models.save_gpt_oss(tmp_path)
    target, changed = proved(packed, twin, tmp_path / "out")
    width = WIDTH // 2
    allowed: dict[str, set[int]] = {}
    for number, block in enumerate(target.feed_forward.networks):
        name = f"model.layers.{block.layer}.mlp.experts.gate_up_proj"
        for neuron in (0, 3, width - 1) if number % 2 == 0 else ():
            row = int(block.part) * 2 * width + 2 * neuron
            allowed.setdefault(f"{name}_blocks", set()).update(range(row * HIDDEN // 2, (row + 1) * HIDDEN // 2))
            allowed.setdefault(f"{name}_bias", set()).update(range(row * 4, (row + 1) * 4))
    assert len(target.feed_forward.networks) == 2 * EXPERTS and set(changed) == set(allowed)
    for name, offsets in changed.items():
        assert set(offsets) <= allowed[name]


def test_constants_are_refused_in_experts_too(tmp_path: Path) -> None:
    packed, _ = packed_models.save_gpt_oss(tmp_path)
    target = target_of(packed)
    edit = Edit("zh", "pin", strength=1.0, value="mean")
    with pytest.raises(RecipeError, match=r"quantised \(MXFP4 \(groups of 32\)\): only deactivate is exact"):
        bake(target, neurons(target), Recipe(target.base, (edit,)), tmp_path / "out")


def test_an_expert_without_its_scales(tmp_path: Path) -> None:
    packed, _ = packed_models.save(tmp_path, "fp8-blocks", "qwen3_moe")
    path = packed / "model.safetensors"
    raw = path.read_bytes()
    name = b"layers.0.mlp.experts.1.up_proj.weight_scale_inv"
    assert name in raw
    path.write_bytes(raw.replace(name, re.sub(b"_inv$", b"_odd", name)))
    with pytest.raises(CheckpointError, match=r"experts\.1\.up_proj should have weight_scale_inv"):
        target_of(packed)
