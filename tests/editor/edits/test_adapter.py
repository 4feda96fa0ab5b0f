"""Adapters, against the checkpoint with the same edits: in a plain second implementation of LoRA, and in PEFT where it is
installed."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import packed_models, tiny
from support.adapted import ADDED, MERGED, apart, peft_agrees
from support.packed_writers import FORMATS
from support.redirected import REDIRECTS, vocabulary_of

from monoglot.editor.edits.adapter import bake_adapter
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.script_edit import ScriptEdit
from monoglot.editor.errors import ModelError, OutputError, RecipeError
from monoglot.editor.files.companions import ADAPTER_WEIGHTS as WEIGHTS
from monoglot.editor.live.adapted import attach
from monoglot.editor.live.load import load_model
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import NONE, Neurons

OFF = Recipe(Base("tiny"), (Edit("off", "deactivate"), Edit("half", "scale", 0.5)), "edit")
# a family of each layout
QUICK = (
    "llama",
    "llama+mlp_bias",
    "gemma3_text",
    "phi3",
    "gpt2",
    "falcon",
    "opt",
    "mpt",
    "gemma3",
    "qwen2_moe",
    "nemotron_h",
)


def make(folder: Path, case: str, *, dtype: str = "float32") -> Target:
    model_type, config = tiny.CASES[case] if case in tiny.CASES else tiny.Case(case, {})
    tiny.need(model_type)
    return open_target(resolve(str(tiny.save_model(folder / "base", model_type, dtype=dtype, **config))))


def neurons_for(target: Target) -> Neurons:
    """As `tiny.to_steer`, none in experts."""
    blocks = target.feed_forward.networks
    drawn = tiny.to_steer(len(blocks), min(block.width for block in blocks))
    nothing = np.zeros(0, np.int64)
    return Neurons(
        {
            language: tuple(nothing if b.expert else own for b, own in zip(blocks, layers, strict=True))
            for language, layers in drawn.indices.items()
        },
        {
            "mean": {
                language: tuple(nothing.astype(float) if b.expert else v for b, v in zip(blocks, values, strict=True))
                for language, values in drawn.values["mean"].items()
            }
        },
    )


def by_hand(base: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """LoRA as its paper has it, merged: W + (alpha / r)·B A, or its transpose where a module keeps W as (in, out)."""
    config = json.loads((folder / "adapter_config.json").read_text())
    found = load_file(folder / WEIGHTS)
    model = copy.deepcopy(base)
    modules = dict(model.named_modules())
    for key, a in found.items():
        if ".lora_A." in key:
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            module = modules.get(name) or modules[name.replace("model.language_model.", "model.")]
            change = (config["lora_alpha"] / config["r"]) * (
                found[key.replace("lora_A", "lora_B")].double() @ a.double()
            )
            change = change.T if config["fan_in_fan_out"] else change
            with torch.no_grad():
                module.weight.copy_((module.weight.double() + change).to(module.weight.dtype))
    return model


@pytest.mark.parametrize("case", [
    case if case in QUICK else pytest.param(case, marks=pytest.mark.slow)
    for case in (*tiny.CASES, *tiny.DENSE_WRAPPERS, "qwen2_moe", "deepseek_v3", "nemotron_h", "jamba")
])  # fmt: skip
def test_switching_off_and_scaling_do_what_the_checkpoint_does(case: str, tmp_path: Path) -> None:
    target = make(tmp_path, case)
    neurons = neurons_for(target)
    bake(target, neurons, OFF, tmp_path / "baked")
    made = bake_adapter(target, neurons, OFF, tmp_path / "adapter").manifest.adapter
    assert made and made.dtype == "F32"
    base, baked = load_model(tmp_path / "base", device="cpu"), load_model(tmp_path / "baked", device="cpu")
    assert apart(base, baked) > tiny.MOVED
    assert apart(by_hand(base, tmp_path / "adapter"), baked) < MERGED
    assert apart(attach(base, tmp_path / "adapter"), baked) < ADDED


@pytest.mark.parametrize("op", ["pin", "add", "shift", "all"])
@pytest.mark.parametrize("case", ["llama", "gemma3_text", "phi3", "nemotron", "qwen3", "mpt", "falcon", "glm4"])
def test_constants_do_what_the_calibrated_checkpoint_does(case: str, op: str, tmp_path: Path) -> None:
    target = make(tmp_path, case)
    neurons, recipe, directions = neurons_for(target), tiny.recipe(op, "calibrated"), tiny.by_hand(target)
    bake(target, neurons, recipe, tmp_path / "baked", calibration=directions)
    bake_adapter(target, neurons, recipe, tmp_path / "adapter", calibration=directions)
    base, baked = load_model(tmp_path / "base", device="cpu"), load_model(tmp_path / "baked", device="cpu")
    assert apart(base, baked) > tiny.MOVED
    assert apart(by_hand(base, tmp_path / "adapter"), baked) < MERGED
    assert apart(attach(base, tmp_path / "adapter"), baked) < ADDED


@pytest.mark.parametrize("case", ["llama", "qwen3", "mpt", "phi3"])
def test_vectors_after_a_layer_are_one_rank(case: str, tmp_path: Path) -> None:
    target = make(tmp_path, case)
    hidden = target.feed_forward.hidden
    value = np.random.default_rng(5).normal(0, 1, hidden)
    counts = replace(vocabulary_of(target), vectors={("xx", 1): value})
    recipe = Recipe(Base("tiny"), (Edit("xx", "vector", 2.0, point=1),), carrier="calibrated")
    directions = tiny.by_hand(target)
    bake(target, NONE, recipe, tmp_path / "baked", calibration=directions, vocabulary=counts)
    made = bake_adapter(
        target, NONE, recipe, tmp_path / "adapter", calibration=directions, vocabulary=counts
    ).manifest.adapter
    assert made and made.rank == (2 if case == "phi3" else 1)
    base, baked = load_model(tmp_path / "base", device="cpu"), load_model(tmp_path / "baked", device="cpu")
    assert apart(base, baked) > tiny.MOVED
    assert apart(by_hand(base, tmp_path / "adapter"), baked) < MERGED
    assert apart(attach(base, tmp_path / "adapter"), baked) < ADDED


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what PEFT calls in transformers
@pytest.mark.parametrize("case", ["llama", "gpt2", "qwen2_moe", "gemma3_text", "phi3", "falcon", "gemma3"])
def test_peft_merged_and_unmerged_does_too(case: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    target = make(tmp_path, case)
    neurons = neurons_for(target)
    bake(target, neurons, OFF, tmp_path / "baked")
    bake_adapter(target, neurons, OFF, tmp_path / "adapter")
    peft_agrees(peft, tmp_path)


def test_what_is_switched_off_is_stored_as_the_base_stores_it_and_merges_to_zeros(tmp_path: Path) -> None:
    target = make(tmp_path, "llama", dtype="bfloat16")
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"),), "edit")
    made = bake_adapter(target, neurons_for(target), recipe, tmp_path / "adapter").manifest
    assert made.adapter and made.adapter.dtype == "BF16" and made.rounding == {}
    base = load_model(tmp_path / "base", device="cpu", dtype="bfloat16")
    merged = by_hand(base, tmp_path / "adapter")
    for number, layer in enumerate(neurons_for(target).indices["off"]):
        name = f"model.layers.{number}.mlp.up_proj.weight"
        was, now = base.state_dict()[name], merged.state_dict()[name]
        assert not now[layer].any() and was[layer].any()
        others = np.setdiff1d(np.arange(tiny.WIDTH), layer)
        assert torch.equal(now[others], was[others])


def test_what_is_added_at_run_time_leaves_other_neurons_alone(tmp_path: Path) -> None:
    target = make(tmp_path, "qwen3", dtype="bfloat16")
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"),), "edit")
    bake_adapter(target, neurons_for(target), recipe, tmp_path / "adapter")
    base = load_model(tmp_path / "base", device="cpu", dtype="bfloat16")
    up = base.model.layers[0].mlp.up_proj
    x = torch.randn(7, tiny.HIDDEN, generator=torch.Generator().manual_seed(0)).bfloat16()
    before = up(x)
    attach(base, tmp_path / "adapter")
    after, off = up(x), torch.from_numpy(neurons_for(target).indices["off"][0])
    others = torch.from_numpy(np.setdiff1d(np.arange(tiny.WIDTH), off.numpy()))
    assert torch.equal(after[:, others], before[:, others])
    assert after[:, off].abs().max() <= before[:, off].abs().max() / 250  # what bfloat16 leaves


def test_the_same_gives_the_same_bytes_and_names_no_path(tmp_path: Path) -> None:
    target = make(tmp_path, "llama")
    neurons = neurons_for(target)
    files = []
    for name in ("first", "second"):
        bake_adapter(target, neurons, OFF, tmp_path / name)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert not any(str(tmp_path).encode() in data for data in files[0].values())
    config = json.loads(files[0]["adapter_config.json"])
    assert config["r"] == config["lora_alpha"] == 9  # deactivated and scaled in one layer
    assert config["bias"] == "none" and not {"rank_pattern", "alpha_pattern"} & config.keys()
    shapes = {name: one.shape for name, one in load_file(tmp_path / "first" / WEIGHTS).items()}
    assert {shape[0 if ".lora_A." in name else 1] for name, shape in shapes.items()} == {9}


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_a_file_of_the_trunk_alone_is_named_as_the_whole_model_is(prefix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    target = make(tmp_path, "gpt2")
    path = tmp_path / "base" / "model.safetensors"
    tensors = {name.replace("transformer.", prefix, 1): one for name, one in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    target = open_target(resolve(str(tmp_path / "base")))
    bake_adapter(target, neurons_for(target), OFF, tmp_path / "adapter")
    assert {name.split(".h.")[0] for name in load_file(tmp_path / "adapter" / WEIGHTS)} == {
        "base_model.model.transformer"
    }


def refused(target: Target, folder: Path, recipe: Recipe, **arguments: object) -> str:
    with pytest.raises(RecipeError) as caught:
        bake_adapter(target, neurons_for(target), recipe, folder, **arguments)  # type: ignore[arg-type]
    assert not folder.exists()
    return str(caught.value)


@pytest.mark.parametrize("recipe", [
    Recipe(Base("tiny"), (Edit("off", "deactivate"), *REDIRECTS)),
    Recipe(Base("tiny"), (Edit("fr", "vector", 1.0, point="embedding"),)),
])  # fmt: skip
def test_edits_of_tables_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    target = make(tmp_path, "llama")
    message = refused(target, tmp_path / "out", recipe, vocabulary=vocabulary_of(target))
    assert "nothing that an adapter can do" in message and "Bake a checkpoint" in message


def test_a_silenced_script_is_refused(tmp_path: Path) -> None:
    target = make(tmp_path, "llama")
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"),), scripts=(ScriptEdit("Han", "silence"),))
    assert "can't silence a script" in refused(target, tmp_path / "out", recipe)


def test_constants_in_biases_are_refused(tmp_path: Path) -> None:
    target = make(tmp_path, "gpt2")
    assert "can't carry constants in biases" in refused(target, tmp_path / "out", tiny.recipe("pin"))
    other = make(tmp_path / "other", "llama")
    assert "the recipe asks for" in refused(other, tmp_path / "out", tiny.recipe("pin", "flag"))


def test_a_vector_behind_a_norm_is_refused(tmp_path: Path) -> None:
    target = make(tmp_path, "qwen3")
    counts = replace(vocabulary_of(target), vectors={("xx", 1): np.ones(tiny.HIDDEN)})
    recipe = Recipe(Base("tiny"), (Edit("xx", "vector", 2.0, point=1),), carrier="flag")
    assert "the recipe asks for" in refused(target, tmp_path / "out", recipe, vocabulary=counts)


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    packed, _ = packed_models.save(tmp_path, next(iter(FORMATS)))
    target = open_target(resolve(str(packed)))
    neurons = tiny.to_steer(packed_models.LAYERS, packed_models.WIDTH)
    with pytest.raises(RecipeError, match="what an adapter subtracts"):
        bake_adapter(target, neurons, OFF, tmp_path / "out")


def test_an_adapter_in_place_of_a_model_is_told(tmp_path: Path) -> None:
    target = make(tmp_path, "llama")
    bake_adapter(target, neurons_for(target), OFF, tmp_path / "adapter")
    with pytest.raises(ModelError, match="is an adapter"):
        open_target(resolve(str(tmp_path / "adapter")))


def test_an_adapter_that_is_there_is_replaced_when_that_is_asked_and_it_is_monoglots(tmp_path: Path) -> None:
    target = make(tmp_path, "llama")
    bake_adapter(target, neurons_for(target), OFF, tmp_path / "adapter")
    with pytest.raises(OutputError, match="exists"):
        bake_adapter(target, neurons_for(target), OFF, tmp_path / "adapter")
    bake_adapter(target, neurons_for(target), OFF, tmp_path / "adapter", force=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "adapter_config.json").write_text("{}")
    with pytest.raises(OutputError, match="was not made by monoglot"):
        bake_adapter(target, neurons_for(target), OFF, tmp_path / "theirs", force=True)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    make(tmp_path, "llama")
    path = tmp_path / "base" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][:] = math.nan
    save_file(tensors, path, metadata={"format": "pt"})
    target = open_target(resolve(str(tmp_path / "base")))
    assert "doesn't fit" in refused(target, tmp_path / "out", OFF)
