"""Adapters of mixtures, against the checkpoint with the same edits: added by hand to the base's file, and in PEFT where it
is installed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import hub_layouts, tiny
from support.adapted import ADDED, MERGED, apart, peft_agrees

from monoglot.editor.edits.adapter import bake_adapter
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import RecipeError
from monoglot.editor.files.companions import ADAPTER_WEIGHTS as WEIGHTS
from monoglot.editor.live.adapted import attach
from monoglot.editor.live.load import load_model
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import Neurons

OFF = Recipe(Base("tiny"), (Edit("off", "deactivate"), Edit("half", "scale", 0.5)), "edit")
QUICK = ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v3", "glm4v_moe")
# Mixtures whose files have experts one by one, with a gate each; the others' files have them stacked.
EACH = (
    *QUICK, "afmoe", "axk1", "axk2", "bailing_hybrid", "cohere2_moe", "deepseek_v2", "deepseek_v32", "dots1", "ernie4_5_moe",
    "exaone_moe", "flex_olmo", "flint", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "hunyuan_v1_moe", "hy_v3", "jamba",
    "lfm2_moe", "mellum", "minimax", "minimax_m2", "olmoe", "phimoe", "qwen3_5_moe_text", "qwen3_next", "solar_open",
)  # fmt: skip
EVERY, LAST = "every layer", "the last layer"


def make(folder: Path, model_type: str, **config: object) -> Target:
    tiny.need(model_type)
    tiny.need_5("mixtures are tried with transformers 5 and later")
    return open_target(resolve(str(tiny.save_model(folder / "base", model_type, **config))))


def neurons_in(target: Target, where: str) -> Neurons:
    """Two neurons of each language in experts and beside them; in the last layer, in all of its experts but one."""
    blocks = target.feed_forward.networks
    experts = [number for number, block in enumerate(blocks) if block.expert]
    last = [number for number in experts if blocks[number].layer == blocks[experts[-1]].layer]
    chosen = set(range(len(blocks))) if where == EVERY else set(last[1:])
    nothing = np.zeros(0, np.int64)
    drawn = np.random.default_rng(3)
    picked = [np.sort(drawn.choice(block.width, 4, replace=False)) for block in blocks]
    return Neurons({
        language: tuple(np.sort(own[part]) if number in chosen else nothing for number, own in enumerate(picked))
        for language, part in (("off", slice(0, 2)), ("half", slice(2, 4)))
    })  # fmt: skip


def by_hand(base: Path, adapter: Path, out: Path) -> torch.nn.Module:
    """W + B A for each matrix of the base's file that the adapter names, by the name that the file has for it."""
    found = load_file(adapter / WEIGHTS)
    tensors = load_file(base / "model.safetensors")
    for key, a in found.items():
        if ".lora_A." in key:
            name = key.removeprefix("base_model.model.").replace(".lora_A", "")
            change = found[key.replace("lora_A", "lora_B")].double() @ a.double()
            tensors[name] = (tensors[name].double() + change).to(tensors[name].dtype)
    shutil.copytree(base, out)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return load_model(out, device="cpu")


@pytest.mark.parametrize("case", ["qwen3_moe", "deepseek_v3", "mixtral", "olmoe"])
def test_published_files_with_experts_one_by_one_do_too(case: str, tmp_path: Path) -> None:
    """In two shards, with the layers that only draft tokens."""
    layout = hub_layouts.LAYOUTS[case]
    make(tmp_path, layout.model_type)
    hub = hub_layouts.as_on_the_hub(tmp_path / "base", layout, tmp_path / "hub")
    target = open_target(resolve(str(hub)))
    neurons = neurons_in(target, EVERY)
    bake(target, neurons, OFF, tmp_path / "baked")
    bake_adapter(target, neurons, OFF, tmp_path / "adapter")
    base, baked = load_model(hub, device="cpu"), load_model(tmp_path / "baked", device="cpu")
    assert apart(base, baked) > tiny.MOVED
    assert apart(attach(base, tmp_path / "adapter"), baked) < ADDED


@pytest.mark.parametrize("where", [EVERY, LAST])
@pytest.mark.parametrize("case", [
    case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in EACH
])  # fmt: skip
def test_experts_and_what_lies_beside_them_do_what_the_checkpoint_does(case: str, where: str, tmp_path: Path) -> None:
    target = make(tmp_path, case)
    neurons = neurons_in(target, where)
    bake(target, neurons, OFF, tmp_path / "baked")
    bake_adapter(target, neurons, OFF, tmp_path / "adapter")
    base, baked = load_model(tmp_path / "base", device="cpu"), load_model(tmp_path / "baked", device="cpu")
    assert apart(base, baked) > tiny.MOVED
    assert apart(by_hand(tmp_path / "base", tmp_path / "adapter", tmp_path / "hand"), baked) < MERGED
    assert apart(attach(base, tmp_path / "adapter"), baked) < ADDED


# PEFT warns of layers without edits, of the names that transformers 4 has, of ranks that it takes all the same, and of what
# it calls in transformers.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", [EVERY, LAST])
@pytest.mark.parametrize("case", EACH)
def test_peft_merged_and_unmerged_does_too(case: str, where: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is no dependency of monoglot's: install it to try this")
    target = make(tmp_path, case)
    neurons = neurons_in(target, where)
    bake(target, neurons, OFF, tmp_path / "baked")
    bake_adapter(target, neurons, OFF, tmp_path / "adapter")
    peft_agrees(peft, tmp_path)


def written(case: str, folder: Path, where: str = LAST) -> tuple[Target, dict[str, object], set[str]]:
    """The base, the adapter's config, and the names of the weights that its matrices are for."""
    target = make(folder, case)
    bake_adapter(target, neurons_in(target, where), OFF, folder / "adapter")
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    names = {
        key.removeprefix("base_model.model.").rpartition(".lora_")[0] for key in load_file(folder / "adapter" / WEIGHTS)
    }
    return target, config, names


def test_a_layer_is_complete_and_its_other_matrices_are_zeros(tmp_path: Path) -> None:
    _, config, names = written("deepseek_v3", tmp_path)
    last = "model.layers.2.mlp.experts"
    complete = {f"{last}.{expert}.{name}_proj" for expert in range(tiny.EXPERTS) for name in ("gate", "up", "down")}
    assert names == complete == set(config["target_modules"])  # type: ignore[call-overload]
    assert config["target_parameters"] == [f"{last}.gate_up_proj", f"{last}.down_proj"]
    rank = config["r"]
    assert config["rank_pattern"] == config["alpha_pattern"] == {r".*\.gate_up_proj": 2 * rank}  # type: ignore[operator]
    matrices = load_file(tmp_path / "adapter" / WEIGHTS)
    changed = {key for key, one in matrices.items() if one.any()}
    assert changed == {
        f"base_model.model.{last}.{expert}.up_proj.lora_{side}.weight" for expert in (1, 2, 3) for side in "AB"
    }
    shape = matrices[f"base_model.model.{last}.0.gate_proj.lora_A.weight"].shape
    assert shape == (rank, tiny.HIDDEN)


def test_what_lies_beside_experts_is_named_as_a_parameter(tmp_path: Path) -> None:
    _, config, names = written("hy_v3", tmp_path, EVERY)
    modules, parameters = set(config["target_modules"]), set(config["target_parameters"])  # type: ignore[call-overload]
    beside = {name for name in names if ".experts." not in name}
    assert beside == {"model.layers.0.mlp.up_proj", *(f"model.layers.{n}.mlp.shared_mlp.up_proj" for n in (1, 2))}
    assert modules == names - beside
    assert parameters == {
        "model.layers.0.mlp.up_proj.weight",
        *(f"model.layers.{n}.mlp.shared_experts.up_proj.weight" for n in (1, 2)),  # as transformers calls them
        *(f"model.layers.{n}.mlp.experts.{name}" for n in (1, 2) for name in ("gate_up_proj", "down_proj")),
    }


def test_without_edits_in_experts_none_of_them_is_written(tmp_path: Path) -> None:
    target = make(tmp_path, "qwen2_moe")
    drawn = neurons_in(target, EVERY)
    beside = {
        language: tuple(
            own[:0] if block.expert else own for block, own in zip(target.feed_forward.networks, layers, strict=True)
        )
        for language, layers in drawn.indices.items()
    }
    told: list[str] = []
    bake_adapter(target, Neurons(beside), OFF, tmp_path / "adapter", told=told.append)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == [] and "rank_pattern" not in config and told == []
    assert all(name.endswith(".up_proj.weight") and ".experts." not in name for name in config["target_parameters"])


def test_the_size_is_said_before_it_is_written_and_a_limit_makes_it_smaller(tmp_path: Path) -> None:
    target = make(tmp_path, "mixtral", intermediate_size=8192)
    sizes = []
    for limit in (4, 1):
        told: list[str] = []
        out = tmp_path / f"adapter{limit}"
        neurons = neurons_in(target, LAST)
        done = bake_adapter(target, neurons, OFF, out, max_rank=limit, told=told.append).manifest.adapter
        assert done and done.rank == limit
        assert f"at rank {limit}" in told[0] and "9 of its 12 weights in 1 layers are zeros" in told[0]
        sizes.append(sum((out / name).stat().st_size for name in (WEIGHTS, "adapter_config.json")))
        assert f"It takes {sizes[-1] / 1e6:,.1f} MB" in told[0]
    assert sizes[0] > 3 * sizes[1] > 1e6


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("granitemoe", "hold all experts of a layer in one tensor"),
        ("gpt_oss", "hold all experts of a layer in one tensor"),
        ("nemotron_h", "have no gate"),
        (
            "qwen3_5_moe_text",
            "hold all experts of a layer in one tensor",
        ),  # as on the Hub; transformers saves them apart
        ("aria_text", "hold all experts of a layer in one tensor"),
    ],
)
def test_experts_that_no_adapter_can_name_are_refused(case: str, why: str, tmp_path: Path) -> None:
    layout = hub_layouts.LAYOUTS[case]
    make(tmp_path, layout.model_type, **layout.config)
    target = open_target(resolve(str(hub_layouts.as_on_the_hub(tmp_path / "base", layout, tmp_path / "hub"))))
    with pytest.raises(RecipeError, match=why) as caught:
        bake_adapter(target, neurons_in(target, LAST), OFF, tmp_path / "out")
    assert "neurons to edit lie in experts (" in str(caught.value) and "Bake a checkpoint" in str(caught.value)
    assert not (tmp_path / "out").exists()
