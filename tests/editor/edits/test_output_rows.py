"""Silenced tokens: what is baked against a plain formula and against the hooks, in every family."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import packed_models
from support.tiny import (
    IDS,
    MOVED,
    TOLERANCE,
    VOCABULARY,
    WRAPPERS,
    by_hand,
    live,
    logits,
    need,
    recipe,
    save_model,
    to_steer,
)

from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.redirect import redirection
from monoglot.editor.edits.script_edit import ScriptEdit
from monoglot.editor.edits.silence import DROP, FILE, Floor, Silence, Tokens, load
from monoglot.editor.edits.token_hooks import redirected, silenced
from monoglot.editor.errors import ModelError, RecipeError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.models.families import KNOWN
from monoglot.editor.models.head import BIASED, open_head
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.statistics.token_counts import count
from monoglot.editor.text.tokens import Packed

HAN, CYRILLIC = np.array([7, 50, 51, 299]), np.array([9, 20])
SCRIPTS = (ScriptEdit("Han", "silence"), ScriptEdit("Cyrillic", "quieten", 1.5))
STRENGTH = 3.0


def opened(folder: Path) -> Target:
    return open_target(resolve(str(folder)))


def silence_of(target: Target, seed: int = 0, *, tied: bool = False) -> Silence:
    """With any direction: whether it is positive on text does not matter here."""
    head = open_head(target)
    ids = {"Han": HAN, "Cyrillic": CYRILLIC}
    tokens = {script: Tokens(len(own), 0, 0) for script, own in ids.items()}
    direction = np.random.default_rng(seed).normal(size=head.columns).astype(np.float32).astype(np.float64)
    floor = Floor(8, 8, 1e-3, 1.0, 0.1, 0.5, "en", 0.1, STRENGTH, -50.0, tied)
    exact = head.exact
    return Silence(
        model_info(target), head.rows, ids, tokens, "", ("en",), None if exact else direction, None if exact else floor
    )


def baked(folder: Path, destination: Path, edits: tuple[Edit, ...] = (), **more: Any) -> Baked:
    target = opened(folder)
    recipe = Recipe(Base("tiny"), edits, "edit", scripts=SCRIPTS, **more)
    neurons = to_steer(target.feed_forward.layers, target.feed_forward.width) if recipe.of_neurons else NONE
    vocabulary = vocabulary_of(target) if recipe.redirects else None
    silence = silence_of(target, tied=not more.get("untie", True))
    return bake(target, neurons, recipe, destination, silence=silence, vocabulary=vocabulary)


def vocabulary_of(target: Target) -> Any:
    texts = {
        k: np.random.default_rng(n).integers(low, low + 90, 300) for n, (k, low) in enumerate((("en", 6), ("zh", 60)))
    }
    packed = {k: Packed(k, (own,), 0, len(own), k) for k, own in texts.items()}
    return count(model_info(target), open_head(target).table, packed, {0, 1}, ["a"] * VOCABULARY)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_by_the_formula(dtype: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", dtype=dtype, tokenizer=False)
    old = load_file(folder / "model.safetensors")
    baked(folder, tmp_path / "out")
    new = load_file(tmp_path / "out" / "model.safetensors")
    w = silence_of(opened(folder)).direction
    assert w is not None
    for token in range(VOCABULARY):
        row = old["lm_head.weight"][token].double().numpy()
        wanted = -STRENGTH * w if token in HAN else row - 1.5 * w if token in CYRILLIC else row
        assert torch.equal(new["lm_head.weight"][token], torch.from_numpy(wanted).to(new["lm_head.weight"].dtype))
    assert torch.equal(new["model.embed_tokens.weight"], old["model.embed_tokens.weight"])


@pytest.mark.parametrize("model_type", [*KNOWN, *WRAPPERS])
def test_baked_equals_hooked(model_type: str, tmp_path: Path) -> None:
    """A model with one table gets a second, unless its output layer has a bias."""
    need(model_type)
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    target, base = opened(folder), live(folder)
    head = open_head(target)
    result = baked(folder, tmp_path / "out")
    before = logits(base)
    with silenced(base, silence_of(target), SCRIPTS):
        hooked = logits(base)
    made = logits(load_model(tmp_path / "out", device="cpu"))
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    others = np.setdiff1d(np.arange(VOCABULARY), [*HAN, *CYRILLIC])
    assert (made[..., HAN] - before[..., HAN]).abs().min() > MOVED
    assert (made[..., others] - before[..., others]).abs().max() <= TOLERANCE * before.abs().max()
    assert verify_bytes(tmp_path / "out", target, NONE).problems == ()
    untied = head.table.tied and not head.exact
    assert (result.manifest.output_table is not None) == untied
    assert head.exact == (base.get_output_embeddings().bias is not None) == (head.bias is not None)
    if head.exact and not head.cap:
        scale = (before[..., CYRILLIC] - made[..., CYRILLIC]).mean() / 1.5
        assert torch.allclose(before[..., HAN] - made[..., HAN], scale * DROP, rtol=1e-3)


def test_families_with_a_bias() -> None:
    assert set(BIASED) <= set(KNOWN)


@pytest.mark.parametrize("model_type", ["gemma3_text", "gpt2"])
def test_in_one_table(model_type: str, tmp_path: Path) -> None:
    """The shift is added to both, so the model reads these tokens as others too, and the file doesn't grow."""
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    target, base = opened(folder), live(folder)
    result = baked(folder, tmp_path / "out", untie=False)
    with silenced(base, silence_of(target), SCRIPTS, tied=True):
        hooked = logits(base)
    made = logits(load_model(tmp_path / "out", device="cpu"))
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    assert verify_bytes(tmp_path / "out", target, NONE).problems == ()
    assert result.manifest.output_table is None
    names = ([t.name for _, t in read_checkpoint(place).tensors()] for place in (folder, tmp_path / "out"))
    assert next(names) == next(names)


@pytest.mark.parametrize("untie", [True, False])
def test_a_silence_that_was_measured_with_another_table_is_refused(untie: bool, tmp_path: Path) -> None:
    target = opened(save_model(tmp_path / "model", "gemma3_text", tokenizer=False))
    recipe = Recipe(Base("tiny"), (), scripts=SCRIPTS, untie=untie)
    with pytest.raises(RecipeError, match=r"the silence was measured with .* table"):
        bake(target, NONE, recipe, tmp_path / "out", silence=silence_of(target, tied=untie))
    quieter = Recipe(
        Base("tiny"), (), scripts=tuple(ScriptEdit(one, "quieten", 2.0) for one in ("Han", "Cyrillic")), untie=untie
    )
    bake(target, NONE, quieter, tmp_path / "out", silence=silence_of(target, tied=untie))  # needs no floor


@pytest.mark.parametrize("model_type", ["gemma3_text", "llama"])
def test_beside_neurons_and_redirected_tokens(model_type: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", model_type, tokenizer=False, tie_word_embeddings=True, shards=True)
    edits = (Edit("zh", "redirect", 1.5, to="en"), Edit("off", "deactivate"), Edit("half", "scale", 0.5))
    target, base = opened(folder), live(folder)
    result = baked(folder, tmp_path / "out", edits)
    moved = redirected(base.get_input_embeddings(), redirection(edits[:1], vocabulary_of(target)))
    modules = activation_modules(base, target.feed_forward.family)
    with moved, steered(modules, result.carried.plan), silenced(base, silence_of(target), SCRIPTS):
        hooked = logits(base)
    made = logits(load_model(tmp_path / "out", device="cpu"))
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    neurons = to_steer(target.feed_forward.layers, target.feed_forward.width)
    assert verify_bytes(tmp_path / "out", target, neurons).problems == ()
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    held = read_checkpoint(tmp_path / "out")
    assert index["metadata"]["total_size"] == sum(tensor.end - tensor.begin for _, tensor in held.tensors())


@pytest.mark.parametrize("op", ["pin", "add", "shift", "all"])
@pytest.mark.parametrize("tied", [True, False])
def test_beside_an_activated_language(op: str, tied: bool, tmp_path: Path) -> None:
    """Neither does anything to the other: the logits of all other tokens are those of the same recipe without a script."""
    folder = save_model(tmp_path / "model", "llama", tokenizer=False, tie_word_embeddings=tied)
    target = opened(folder)
    neurons, directions, alone = (
        to_steer(target.feed_forward.layers, target.feed_forward.width),
        by_hand(target),
        recipe(op),
    )
    silence = silence_of(target)
    bake(target, neurons, alone, tmp_path / "alone", calibration=directions)
    both = replace(alone, scripts=SCRIPTS)
    bake(target, neurons, both, tmp_path / "both", calibration=directions, silence=silence)
    assert verify_bytes(tmp_path / "both", target, neurons).problems == ()
    before, after = (load_model(tmp_path / name, device="cpu") for name in ("alone", "both"))
    assert (logits(live(folder)) - logits(before)).abs().max() > MOVED
    others = np.setdiff1d(np.arange(VOCABULARY), np.concatenate([HAN, CYRILLIC]))
    assert torch.equal(logits(before)[..., others], logits(after)[..., others])
    hidden = before.model(IDS).last_hidden_state.detach().double()
    along = hidden @ torch.from_numpy(silence.direction)
    wanted = torch.stack([-STRENGTH * along] * len(HAN), -1)
    torch.testing.assert_close(logits(after)[..., HAN].double(), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["gptq-4", "fp8-blocks", "bnb-nf4"])
def test_beside_neurons_that_are_quantised(name: str, tmp_path: Path) -> None:
    """The output table is seldom quantised: its rows change, and of the codes nothing but the neurons'."""
    packed, _ = packed_models.save(tmp_path, name)
    target = opened(packed)
    neurons, silence = to_steer(packed_models.LAYERS, packed_models.WIDTH), silence_of(opened(packed))
    off = (Edit("off", "deactivate"),)
    bake(target, neurons, Recipe(Base("tiny"), off, "edit"), tmp_path / "off")
    bake(target, neurons, Recipe(Base("tiny"), off, "edit", scripts=SCRIPTS), tmp_path / "both", silence=silence)
    assert verify_bytes(tmp_path / "both", target, neurons).problems == ()
    base, alone, both = (
        load_file(place / "model.safetensors") for place in (packed, tmp_path / "off", tmp_path / "both")
    )
    differ = {key for key in base if not torch.equal(alone[key].view(torch.uint8), both[key].view(torch.uint8))}
    assert differ == {"lm_head.weight"}
    rows = both["lm_head.weight"].double()
    assert silence.direction is not None
    along = torch.from_numpy(silence.direction)
    torch.testing.assert_close(rows[HAN], (-STRENGTH * along).expand(len(HAN), -1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        rows[CYRILLIC], base["lm_head.weight"][CYRILLIC].double() - 1.5 * along, rtol=1e-6, atol=1e-5
    )
    others = np.setdiff1d(np.arange(VOCABULARY), np.concatenate([HAN, CYRILLIC]))
    assert torch.equal(both["lm_head.weight"][others], base["lm_head.weight"][others])


@pytest.mark.parametrize("kind", ["packed", "scaled", "other numbers"])
def test_a_quantised_head_is_refused(kind: str, tmp_path: Path) -> None:
    packed, _ = packed_models.save(tmp_path, "gptq-4")
    path = packed / "model.safetensors"
    tensors = load_file(path)
    head = tensors.pop("lm_head.weight")
    if kind == "packed":
        tensors |= {"lm_head.qweight": head[:, :2].to(torch.int32), "lm_head.scales": torch.ones(4, VOCABULARY)}
    elif kind == "scaled":
        tensors |= {"lm_head.weight": head, "lm_head.scales": torch.ones(4, VOCABULARY)}
    else:
        tensors |= {"lm_head.weight": head.to(torch.int8)}
    save_file({name: one.contiguous() for name, one in tensors.items()}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="Use the unquantised checkpoint") as caught:
        open_head(opened(packed))
    assert ("is quantised (lm_head." in str(caught.value)) == (kind != "other numbers")


@pytest.mark.parametrize("more", [("lm_head.low_rank.weight",), ("lm_head.0.weight", "lm_head.1.weight")])
def test_a_head_of_several_parts_is_refused(more: tuple[str, ...], tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if len(more) > 1:
        tensors.pop("lm_head.weight")
    save_file(tensors | {name: torch.ones(4, 4) for name in more}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"output layer of several parts \({more[0]}"):
        open_head(opened(folder))


def test_same_in_same_out(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "gemma3_text", tokenizer=False)
    first, second = (baked(folder, tmp_path / name).manifest.files for name in ("a", "b"))
    assert first == second
    kept = load(tmp_path / "a" / FILE)
    assert kept.tokens == silence_of(opened(folder)).tokens
    assert np.array_equal(kept.ids["Han"], HAN)


def test_a_byte_of_the_output_table(tmp_path: Path) -> None:
    """The proof sees it, in a silenced row and in another."""
    folder = save_model(tmp_path / "model", "gemma3_text", tokenizer=False)
    baked(folder, tmp_path / "out")
    path = tmp_path / "out" / "model-00002-of-00002.safetensors"
    whole = path.read_bytes()
    tensor = next(t for _, t in read_checkpoint(tmp_path / "out").tensors() if t.name == "lm_head.weight")
    for row, word in ((50, "an edited row is not what the recipe makes of it"), (52, "row 52 changed")):
        at = tensor.begin + row * (tensor.end - tensor.begin) // VOCABULARY
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        problems = verify_bytes(tmp_path / "out", opened(folder), NONE).problems
        assert any(word in problem for problem in problems), problems
    path.write_bytes(whole)
    assert verify_bytes(tmp_path / "out", opened(folder), NONE).problems == ()


def test_what_cannot_be(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    target = opened(folder)
    recipe = Recipe(Base("tiny"), (), scripts=SCRIPTS)
    with pytest.raises(RecipeError, match="what stays have to be known"):
        bake(target, NONE, recipe, tmp_path / "out")
    silence = silence_of(target)
    with pytest.raises(RecipeError, match="the silence is of Han, Cyrillic, the recipe of Han"):
        bake(target, NONE, Recipe(Base("tiny"), (), scripts=SCRIPTS[:1]), tmp_path / "out", silence=silence)
    with pytest.raises(RecipeError, match="has two tables already"):
        bake(target, NONE, Recipe(Base("tiny"), (), scripts=SCRIPTS, untie=False), tmp_path / "out", silence=silence)
    other = save_model(tmp_path / "other", "llama", tokenizer=False, seed=1)
    with pytest.raises(RecipeError, match="the silence is of a model with fingerprint"):
        bake(opened(other), NONE, recipe, tmp_path / "out", silence=silence)
    assert not (tmp_path / "out").exists()


def test_heads_that_are_not_known(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    tensors = {k: v.clone() for k, v in load_file(folder / "model.safetensors").items()}  # the file is written over
    parts = {**tensors, "lm_head.0.weight": tensors["lm_head.weight"].clone()}
    save_file(parts, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="an output layer of several parts"):
        open_head(opened(folder))
    save_file(
        {k: v for k, v in tensors.items() if k != "lm_head.weight"}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"has no lm_head\.weight"):
        open_head(opened(folder))
    short = {**tensors, "lm_head.weight": tensors["lm_head.weight"][:-1].clone()}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="with 300 rows"):
        open_head(opened(folder))


def test_in_quantised_files(tmp_path: Path) -> None:
    """Where the output table is stored as it is; with neurons switched off beside it, in their codes."""
    from support import packed_models

    packed, _ = packed_models.save(tmp_path, "gptq-4")
    target, base = opened(packed), load_model(packed, device="cpu")
    ids = {"Han": np.array([3, 5]), "Cyrillic": np.array([4])}
    tokens = {script: Tokens(len(own), 0, 0) for script, own in ids.items()}
    silence = replace(silence_of(target), ids=ids, tokens=tokens)
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"),), "edit", scripts=SCRIPTS)
    neurons = to_steer(packed_models.LAYERS, packed_models.WIDTH)
    made = bake(target, neurons, recipe, tmp_path / "out", silence=silence)
    assert made.manifest.quantised
    assert verify_bytes(tmp_path / "out", target, neurons).problems == ()
    inputs = {"input_ids": torch.tensor([[6, 7, 8]])}
    modules = activation_modules(base, target.feed_forward.family)
    with torch.inference_mode(), steered(modules, made.carried.plan), silenced(base, silence, SCRIPTS):
        hooked = base(**inputs).logits
    with torch.inference_mode():
        found = load_model(tmp_path / "out", device="cpu")(**inputs).logits
    assert (found - hooked).abs().max() <= 1e-2 * hooked.abs().max()


def test_a_quantised_output_layer(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from support import packed_models

    packed, _ = packed_models.save(tmp_path, "gptq-4")
    path = packed / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.qweight"] = tensors.pop("lm_head.weight").to(torch.int32)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"is quantised \(lm_head\.qweight\)"):
        open_head(opened(packed))
