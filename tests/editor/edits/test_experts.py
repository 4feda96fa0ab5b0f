"""Experts that are switched off, from a recipe to the proof.

The references: the live router with −∞ for a bias, what the modules of experts are given, and the tensors of the files.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support.mixtures import changed_parts, routing
from support.tiny import MOVED, TOLERANCE, logits

from monoglot.editor.edits import recipe as recipes
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.experts import FAR_DOWN, reachable
from monoglot.editor.edits.hooks import edited, unrouted
from monoglot.editor.edits.plan import Plan
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import NeuronsError, RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, router_biases
from monoglot.editor.models.families import text_config
from monoglot.editor.models.identity import Base
from monoglot.editor.models.routers import BIASES, taken_by_a_token
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons as neurons_file
from monoglot.editor.neurons.neurons import NONE, Neurons
from monoglot.editor.proof.bytes import verify_bytes

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        int(transformers.__version__.partition(".")[0]) < 5, reason="experts run in one module from transformers 5 on"
    ),
]
FAMILIES = [name for names in BIASES.values() for name in names]


def opened(saved: Callable[..., Path], name: str, **more: Any) -> Target:
    return open_target(resolve(str(saved(name, **more))))


def layers_of(target: Target) -> list[int]:
    return sorted({each.block.layer for each in target.feed_forward.located if each.block.expert})


@pytest.mark.parametrize("model_type", FAMILIES)
def test_no_token_goes_to_an_expert_that_is_off(saved: Callable[..., Path], model_type: str, tmp_path: Path) -> None:
    """Of each layer one of two experts that tokens went to; baked equals hooked, and no other tensor changes."""
    target = opened(saved, model_type)
    layers = layers_of(target)
    base = load_model(target.source.folder, device="cpu")
    with routing(base) as seen:
        before = logits(base)
    off = [(layer, int(torch.mode(seen[number][0][1].flatten()).values)) for number, layer in enumerate(layers)]
    recipe = Recipe(Base("tiny"), (), experts=tuple(f"{layer}.{expert}" for layer, expert in off))
    made = bake(target, NONE, recipe, tmp_path / "out")
    assert made.manifest.experts == recipe.experts
    after = load_model(tmp_path / "out", device="cpu")
    with routing(after) as now:
        baked = logits(after)
    for number, (_, expert) in enumerate(off):
        assert expert in seen[number][0][1]
        assert expert not in now[number][0][1]
    routers = router_biases(base, target.feed_forward.family)
    with edited([], Plan((), {}, {}, made.carried.plan.experts), base.get_input_embeddings(), None, routers=routers):
        hooked = logits(base)
    assert float((baked - hooked).abs().max()) <= TOLERANCE * max(1.0, float(hooked.abs().max()))
    assert float((baked - before).abs().max()) > MOVED
    assert torch.equal(logits(base), before)  # the live biases are what they were
    names = {name.partition("[")[0] for name in changed_parts(target.source.folder, tmp_path / "out")}
    assert names == {target.feed_forward.router_bias(layer) for layer in layers}
    assert not verify_bytes(tmp_path / "out", target, NONE).problems


def test_tokens_go_to_the_next_best(saved: Callable[..., Path], tmp_path: Path) -> None:
    """In the first layer, where hidden states are the base's: computed again from the router's own scores."""
    target = opened(saved, "glm4_moe", first_k_dense_replace=0)
    bake(target, NONE, Recipe(Base("tiny"), (), experts=("0.2",)), tmp_path / "out")
    base, baked = (load_model(folder, device="cpu") for folder in (target.source.folder, tmp_path / "out"))
    with routing(base) as seen:
        logits(base)
    with routing(baked) as now:
        logits(baked)
    gate = base.model.layers[0].mlp.gate
    hidden = seen[0][0][0]
    with torch.no_grad():
        scores = (hidden.clone() @ gate.weight.T).sigmoid() + gate.e_score_correction_bias
    scores[:, 2] = -torch.inf
    assert torch.equal(now[0][0][1].sort().values, scores.topk(2).indices.sort().values)


def test_experts_beside_neurons(saved: Callable[..., Path], tmp_path: Path) -> None:
    """A recipe with both, by the command's own steps: bytes and logits are proved."""
    target = opened(saved, "deepseek_v3")
    indices = tuple(np.arange(2) for _ in target.feed_forward.networks)
    neurons = Neurons({"xx": indices}, {}, model_info(target), experts={"xx": ("1.0", "2.3")})
    recipe = Recipe(Base("tiny"), (Edit("xx", "deactivate"),), experts=("xx",))
    made = bake(target, neurons, recipe, tmp_path / "out")
    assert made.carried.plan.experts == ((1, 0), (2, 3))
    base = load_model(target.source.folder, device="cpu")
    modules, routers = (
        activation_modules(base, target.feed_forward.family),
        router_biases(base, target.feed_forward.family),
    )
    with edited(modules, made.carried.plan, base.get_input_embeddings(), None, routers=routers):
        hooked = logits(base)
    baked = logits(load_model(tmp_path / "out", device="cpu"))
    assert float((baked - hooked).abs().max()) <= TOLERANCE * max(1.0, float(hooked.abs().max()))
    assert not verify_bytes(tmp_path / "out", target, neurons).problems


def test_the_bias_as_stored(saved: Callable[..., Path], tmp_path: Path) -> None:
    """−2¹⁴ at the expert, in every dtype exactly, and the other numbers to the bit."""
    for dtype in ("float32", "bfloat16", "float16"):
        target = opened(saved, "gpt_oss", dtype=dtype)
        bake(target, NONE, Recipe(Base("tiny"), (), experts=("1.3",)), tmp_path / dtype)
        name = "model.layers.1.mlp.router.bias"
        old, new = (load(folder)[name] for folder in (target.source.folder, tmp_path / dtype))
        assert float(new[3]) == FAR_DOWN
        assert torch.equal(old[:3], new[:3])


def load(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("model_type", "experts", "message"),
    [
        ("qwen3_moe", ("1.0",), "routers of qwen3_moe models have no bias, and without one a matrix would have to change"),
        ("llama", ("1.0",), "it is no mixture of experts"),
        ("deepseek_v3", ("1.4",), r"there is no expert 1\.4: layer 1 of .* has 4"),
        ("deepseek_v3", ("0.0",), r"there is no expert 0\.0: layer 0 of .* has none"),
        ("deepseek_v3", ("9.0",), r"there is no expert 9\.0: layer 9 of .* has none"),
        ("deepseek_v3", ("1.0", "1.1", "1.2"), "3 of 4 experts of layer 1 would be switched off: then a token may find 1"),
        ("deepseek_v3", ("1.0", "1.1", "1.2", "1.3"), "all 4 experts of layer 1 would be switched off. Leave at least 2 on"),
    ],
)  # fmt: skip
def test_what_cannot_be_switched_off(
    saved: Callable[..., Path], model_type: str, experts: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    target = opened(saved, model_type)
    with pytest.raises(RecipeError, match=message):
        bake(target, NONE, Recipe(Base("tiny"), (), experts=experts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_how_many_experts_a_token_goes_to(saved: Callable[..., Path], model_type: str) -> None:
    """What the config's key says, whatever it is called, is what the live router chooses."""
    target = opened(saved, model_type)
    base = load_model(target.source.folder, device="cpu")
    with routing(base) as seen:
        logits(base)
    chosen = {one[1].shape[-1] for calls in seen.values() for one in calls}
    assert chosen == {taken_by_a_token(text_config(target.checkpoint.config))}


def test_groups_count() -> None:
    """A token chooses among the experts of some groups: those with the fewest that stay on have to do."""
    config = {"n_group": 4, "topk_group": 2}
    assert reachable(config, 16, set()) == 8
    assert reachable(config, 16, {0, 1, 4}) == 2 + 3
    assert reachable({"num_expert_group": 4, "topk_group": 2}, 16, {0, 1, 4}) == 2 + 3
    assert reachable({"n_group": 1, "topk_group": 1}, 16, {0, 1, 4}) == 13
    assert reachable({}, 16, {0}) == 15


def test_recipes(tmp_path: Path) -> None:
    made = Recipe(Base("m"), (), experts=("3.17", "zh"))
    text = recipes.to_yaml(made)
    (tmp_path / "r.yaml").write_text(text)
    assert recipes.load(tmp_path / "r.yaml") == made
    assert "'3.17'" in text
    assert made.needs_neurons
    assert not replace(made, experts=("3.17",)).needs_neurons
    assert "experts" not in recipes.to_yaml(Recipe(Base("m"), (Edit("zh", "deactivate"),)))
    for names, message in (
        (("3",), "'3' names no experts"),
        (("03.1",), "names no experts"),
        (("3.1", "3.1"), "switched off twice"),
    ):
        with pytest.raises(RecipeError, match=message):
            recipes.check(replace(made, experts=names))
    (tmp_path / "r.yaml").write_text(text.replace("'3.17'", "3.17"))
    with pytest.raises(RecipeError, match="an expert"):
        recipes.load(tmp_path / "r.yaml")


def test_experts_of_a_language_that_are_not_known(saved: Callable[..., Path], tmp_path: Path) -> None:
    target = opened(saved, "deepseek_v3")
    neurons = Neurons({"xx": tuple(np.arange(1) for _ in target.feed_forward.networks)}, {}, model_info(target))
    with pytest.raises(NeuronsError, match="no experts of xx are known; the neurons file has none"):
        bake(target, neurons, Recipe(Base("tiny"), (), experts=("xx",)), tmp_path / "out")
    some = replace(neurons, experts={"yy": ("1.0",)})
    with pytest.raises(NeuronsError, match="the neurons file has those of yy"):
        bake(target, some, Recipe(Base("tiny"), (), experts=("xx",)), tmp_path / "out")


def test_the_neurons_file_keeps_them(saved: Callable[..., Path], tmp_path: Path) -> None:
    target = opened(saved, "deepseek_v3")
    neurons = Neurons({"xx": tuple(np.arange(1) for _ in target.feed_forward.networks)}, {}, model_info(target))
    neurons_file.save(neurons, tmp_path / "without.json")
    assert "experts" not in json.loads((tmp_path / "without.json").read_text())
    neurons_file.save(replace(neurons, experts={"xx": ("1.0", "2.3")}), tmp_path / "n.json")
    assert neurons_file.load(tmp_path / "n.json").experts == {"xx": ("1.0", "2.3")}
    text = (tmp_path / "n.json").read_text()
    assert text.count('["1.0", "2.3"]') == 1
    for wrong in ('"2.4"', '"1.shared"', "23"):
        (tmp_path / "n.json").write_text(text.replace('["1.0", "2.3"]', f'["1.0", {wrong}]'))
        with pytest.raises(NeuronsError, match="expert"):
            neurons_file.load(tmp_path / "n.json")


def test_unrouted_is_undone_after_an_error(saved: Callable[..., Path]) -> None:
    target = opened(saved, "gpt_oss")
    model = load_model(target.source.folder, device="cpu")
    routers = router_biases(model, target.feed_forward.family)
    assert sorted(routers) == [0, 1, 2]
    before = {layer: bias.clone() for layer, bias in routers.items()}
    with pytest.raises(ZeroDivisionError), unrouted(routers, Plan((), {}, {}, ((1, 2),))):
        assert float(routers[1][2].detach()) == -torch.inf
        raise ZeroDivisionError
    assert all(torch.equal(before[layer], bias) for layer, bias in routers.items())


def test_by_the_command(monoglot: Callable[..., Any], saved: Callable[..., Path], corpus: Path, tmp_path: Path) -> None:
    """detect, find, bake --experts of a language and by number, verify, evaluate: each by its command."""
    base = saved("deepseek_v3", tokenizer=True)
    found, neurons, out = tmp_path / "s", tmp_path / "n.json", tmp_path / "out"
    monoglot("detect", base, "--corpus", corpus, "--tokens", "1500", "--context", "32", "-o", found)
    monoglot("find", found, "--rate", "0.2", "-o", neurons)
    known = json.loads(neurons.read_text())["experts"]
    language = next(iter(known))
    code, said, err = monoglot("bake", base, neurons, "--experts", language, "-o", out)
    assert code == 0, (said, err)
    record = json.loads((out / "monoglot.json").read_text())
    assert record["experts"] == sorted(known[language])
    assert "send no token to expert" in (out / "README.md").read_text()
    text = ("--corpus", corpus, "--tokens", "128", "--context", "32")
    code, said, err = monoglot("verify", out, "--base", base, *text)
    assert code == 0, (said, err)
    assert (out / "neurons.json").read_bytes() == neurons.read_bytes()
    more = ("--corpus", corpus, "--text-tokens", "128", "--context", "32", "--count", "1", "--tokens", "2")
    code, said, err = monoglot("evaluate", out, "--base", base, "--perplexity", "--deactivate-each", *more)
    assert code == 0, (said, err)
    matrix = json.loads((out / "monoglot.json").read_text())["evaluation"]["perplexity"]
    row = matrix["change"][f"{language}-experts"]
    assert matrix["neurons"][f"{language}-experts"] == len(known[language])
    assert row.keys() == {"en", "fr", "zh"}
    assert any(abs(change) > MOVED for change in row.values())
    assert f"{language}-experts" in (out / "README.md").read_text()
    code, said, err = monoglot("bake", base, "--experts", "1.0,2.3", "-o", tmp_path / "named")
    assert code == 0, (said, err)
    assert not (tmp_path / "named" / "neurons.json").exists()
    assert "without expert 1.0, expert 2.3" in (tmp_path / "named" / "README.md").read_text()
    code, _, err = monoglot("verify", tmp_path / "named", "--base", base, *text)
    assert code == 0, err
    moved = shutil.move(str(out / "recipe.yaml"), tmp_path / "recipe.yaml")
    shutil.copy(out / "neurons.json", tmp_path / "neurons.json")
    code, _, err = monoglot("bake", base, "--recipe", moved, "-o", tmp_path / "again")
    assert code == 0, err
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
