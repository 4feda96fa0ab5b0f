"""Redirected tokens against a second implementation in plain Python; what is baked against the hooks, in every family."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.redirected import REDIRECTS, TEXTS, opened, vocabulary_of
from support.tiny import MOVED, TOLERANCE, VOCABULARY, WRAPPERS, edit_config, live, logits, need, save_model, to_steer

from monoglot.cli.edit_request import request_of
from monoglot.editor.edits import manifest
from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.redirect import ALIKE, alike, redirection
from monoglot.editor.edits.tensor_edits import Rounding
from monoglot.editor.edits.token_hooks import redirected
from monoglot.editor.errors import RecipeError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.families import KNOWN
from monoglot.editor.models.identity import Base
from monoglot.editor.models.target import model_info
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.statistics.token_counts import count
from monoglot.editor.text.tokens import Packed


def plain_rows(table: list[list[float]]) -> list[list[float]]:
    """The redirected table, by the formula, token by token."""
    often = {k: Counter(own.tolist()) for k, own in TEXTS.items()}
    size = {k: len(own) for k, own in TEXTS.items()}
    width = range(len(table[0]))
    centre = {k: [math.fsum(table[t][i] for t in TEXTS[k].tolist()) / size[k] for i in width] for k in TEXTS}
    chinese = {k: sum(150 <= t < 200 for t in own.tolist()) / size[k] for k, own in TEXTS.items()}
    rows = []
    for t, row in enumerate(table):
        frequency = {k: often[k][t] / size[k] for k in TEXTS}
        if 200 <= t < 204:
            frequency = chinese
        whole = sum(frequency.values())
        new = list(row)
        for edit in REDIRECTS:
            for i in width:
                if whole:
                    step = (
                        frequency[edit.language]
                        / whole
                        * edit.strength
                        * (centre[edit.to][i] - centre[edit.language][i])
                    )
                    new[i] += step
        rows.append(new)
    return rows


def baked(folder: Path, destination: Path, edits: tuple[Edit, ...] = REDIRECTS, **more: Any) -> Baked:
    target = opened(folder)
    neurons = to_steer(target.feed_forward.layers, target.feed_forward.width) if len(edits) > len(REDIRECTS) else NONE
    recipe = Recipe(Base("tiny"), edits, "edit", **more)
    return bake(target, neurons, recipe, destination, vocabulary=vocabulary_of(target))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_by_the_formula(dtype: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", dtype=dtype, tokenizer=False)
    old = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    baked(folder, tmp_path / "out")
    new = load_file(tmp_path / "out" / "model.safetensors")["model.embed_tokens.weight"]
    wanted = torch.tensor(plain_rows(old.double().tolist()), dtype=torch.float64).to(old.dtype)
    assert torch.equal(new, wanted) or torch.allclose(new.double(), wanted.double(), rtol=0, atol=1e-7)
    moved = (new != old).any(dim=1).nonzero().flatten().tolist()
    others = set(TEXTS["fr"].tolist()) | set(TEXTS["zh"].tolist()) | {200, 201, 202, 203}
    assert set(moved) == others  # tokens that only English uses, and unknown ones, stay to the bit


@pytest.mark.parametrize("model_type", [*KNOWN, *WRAPPERS])
def test_baked_equals_hooked(model_type: str, tmp_path: Path) -> None:
    """Where input and output are one table too: the output keeps the base's rows."""
    need(model_type)
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    result = baked(folder, tmp_path / "out")
    target, base = opened(folder), live(folder)
    table = open_embedding(target)
    with redirected(base.get_input_embeddings(), redirection(REDIRECTS, vocabulary_of(target))):
        hooked = logits(base)
    ours = load_model(tmp_path / "out", device="cpu")
    made = logits(ours)
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    assert (made - logits(base)).abs().max() > MOVED
    assert ours.get_output_embeddings().weight is not ours.get_input_embeddings().weight
    assert torch.equal(ours.get_output_embeddings().weight, base.get_output_embeddings().weight)
    assert verify_bytes(tmp_path / "out", target, NONE).problems == ()
    assert (result.manifest.output_table is not None) == table.tied
    names = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors*"))
    if table.tied:
        wanted = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ]
        assert names == wanted
        assert result.manifest.output_table == manifest.OutputTable(table.output, table.rows * table.hidden * 4)
    else:
        assert names == ["model.safetensors"]


@pytest.mark.parametrize("model_type", ["gemma3_text", "llama"])
def test_hooks_round_rows_as_the_file_does(model_type: str, tmp_path: Path) -> None:
    """In bfloat16 a row is off by up to 1/512 of itself. Without rounding, hooks differ from the checkpoint by that."""
    folder = save_model(tmp_path / "model", model_type, dtype="bfloat16", tokenizer=False)
    baked(folder, tmp_path / "out")
    base, ours = (load_model(one, device="cpu", dtype="float32") for one in (folder, tmp_path / "out"))
    moved = redirection(REDIRECTS, vocabulary_of(opened(folder)))
    made = logits(ours)

    def apart(stored: str | None) -> float:
        with redirected(base.get_input_embeddings(), moved, stored):
            return float((made - logits(base)).abs().max() / made.abs().max())

    assert apart("BF16") <= TOLERANCE < 10 * TOLERANCE < apart(None)


@pytest.mark.parametrize("model_type", ["gemma3_text", "llama"])
@pytest.mark.parametrize("shards", [False, True])
def test_with_neurons_and_new_biases(model_type: str, shards: bool, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", model_type, shards=shards, tokenizer=False, tie_word_embeddings=True)
    edits = (*REDIRECTS, Edit("off", "deactivate"), Edit("half", "scale", 0.5))
    if model_type == "llama":
        edits = (*edits, Edit("xx", "pin", 1.5, "mean"))
    target = opened(folder)
    result = baked(folder, tmp_path / "out", edits, carrier="flag" if model_type == "llama" else "auto")
    base = live(folder)
    moved = redirected(base.get_input_embeddings(), redirection(REDIRECTS, vocabulary_of(target)))
    with moved, steered(activation_modules(base, target.feed_forward.family), result.carried.plan):
        hooked = logits(base)
    made = logits(load_model(tmp_path / "out", device="cpu"))
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    neurons = to_steer(target.feed_forward.layers, target.feed_forward.width)
    assert verify_bytes(tmp_path / "out", target, neurons).problems == ()
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    held = read_checkpoint(tmp_path / "out")
    assert index["metadata"]["total_size"] == sum(tensor.end - tensor.begin for _, tensor in held.tensors())
    assert set(index["weight_map"]) == {tensor.name for _, tensor in held.tensors()}


def test_the_index_lists_stacked_experts_whole(tmp_path: Path) -> None:
    """An edit takes each expert in a stacked tensor for a tensor of its own; the file has one, and so has the index."""
    folder = save_model(tmp_path / "model", "granitemoe", tokenizer=False, tie_word_embeddings=True)
    baked(folder, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    stacked = "model.layers.0.block_sparse_moe.output_linear.weight"
    assert index["weight_map"][stacked] == "model-00001-of-00002.safetensors"
    assert set(index["weight_map"]) == {tensor.name for _, tensor in read_checkpoint(tmp_path / "out").tensors()}


def test_same_in_same_out(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "gemma3_text", tokenizer=False, shards=True)
    first, second = (baked(folder, tmp_path / name).manifest.files for name in ("a", "b"))
    assert first == second
    assert "vocabulary.monoglot" in first
    assert "neurons.json" not in first


def test_only_the_words_of_the_config_that_have_to_change(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "gemma3", tokenizer=False)
    inner = json.loads((folder / "config.json").read_text())["text_config"]
    edit_config(folder, tie_word_embeddings=True, text_config={**inner, "tie_word_embeddings": True})
    old = json.loads((folder / "config.json").read_text())
    baked(folder, tmp_path / "out")
    text, new = (folder / "config.json").read_text(), (tmp_path / "out" / "config.json").read_text()
    config = json.loads(new)
    assert config["tie_word_embeddings"] is config["text_config"]["tie_word_embeddings"] is False
    config["tie_word_embeddings"] = old["tie_word_embeddings"]
    config["text_config"]["tie_word_embeddings"] = old["text_config"].get("tie_word_embeddings")
    assert config == old
    assert len(new) - len(text) <= 2 * len("false")


def test_a_byte_of_a_moved_row_or_of_the_output_table(tmp_path: Path) -> None:
    """The proof sees it."""
    folder = save_model(tmp_path / "model", "gemma3_text", tokenizer=False)
    baked(folder, tmp_path / "out")
    for name, number, word in (
        ("lm_head.weight", 2, "lm_head.weight is not the base's model.embed_tokens.weight"),
        ("model.embed_tokens.weight", 1, "model.embed_tokens.weight: an edited row is not what the recipe makes of it"),
    ):
        path = tmp_path / "out" / f"model-0000{number}-of-00002.safetensors"
        whole = path.read_bytes()
        tensor = next(t for s, t in read_checkpoint(tmp_path / "out").tensors() if t.name == name and s.path == path)
        at = tensor.begin + 150 * (tensor.end - tensor.begin) // VOCABULARY
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        problems = verify_bytes(tmp_path / "out", opened(folder), NONE).problems
        assert any(word in problem for problem in problems), problems
        path.write_bytes(whole)
    assert verify_bytes(tmp_path / "out", opened(folder), NONE).problems == ()


def test_memory_is_that_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added is made a block of rows at a time."""
    from monoglot.editor.edits import streaming as module
    from monoglot.editor.edits.redirect import Redirection

    seen: list[int] = []
    deltas = Redirection.deltas
    monkeypatch.setattr(module, "CHUNK", 1024)
    monkeypatch.setattr(
        Redirection, "deltas", lambda self, part: seen.append(part.stop - part.start) or deltas(self, part)
    )
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    baked(folder, tmp_path / "out")
    assert max(seen) == 16  # rows of 64 bytes
    assert sum(seen) == result_rows(folder)


def result_rows(folder: Path) -> int:
    return len(redirection(REDIRECTS, vocabulary_of(opened(folder))).ids)


def test_rounding_is_told(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", dtype="bfloat16", tokenizer=False)
    rounding = baked(folder, tmp_path / "out").manifest.rounding
    assert 1e-4 < rounding["weights"] < 1e-1
    assert Rounding().relative == {}


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([Edit("zh", "redirect", 1.5, to="zh")], "redirected to itself"),
        ([Edit("zh", "redirect", 1.5)], "needs the language that zh goes to"),
        (
            [Edit("zh", "redirect", 1.5, to="en"), Edit("en", "redirect", 1.5, to="fr")],
            "en, which is redirected itself",
        ),
        ([Edit("zh", "redirect", 1.5, to="en"), Edit("zh", "redirect", 1.5, to="fr")], "zh is edited twice"),
        ([Edit("zh", "redirect", 0.0, to="en")], "strength above 0"),
        ([Edit("zh", "redirect", float("nan"), to="en")], "strength above 0"),
        ([Edit("zh", "redirect", 1.0, to="en", layers=(0, 1))], "takes no layers"),
        ([Edit("zh", "redirect", 1.0, "mean", to="en")], "redirect takes no value"),
        ([Edit("zh", "deactivate", to="en")], "deactivate goes to no other language"),
        ([Edit("zh", "redirect", 1.5, to="de")], "no text in 'de'; it has en, fr, zh"),
        ([Edit("de", "redirect", 1.5, to="en")], "no text in 'de'"),
    ],
)
def test_what_cannot_be_redirected(edits: list[Edit], reason: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    with pytest.raises(RecipeError, match=reason):
        baked(folder, tmp_path / "out", tuple(edits))
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_that_is_missing_or_of_another_model(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    other = save_model(tmp_path / "other", "llama", tokenizer=False, seed=1)
    recipe = Recipe(Base("tiny"), REDIRECTS)
    with pytest.raises(RecipeError, match="count them with `monoglot tokens`"):
        bake(opened(folder), NONE, recipe, tmp_path / "out")
    with pytest.raises(RecipeError, match="the vocabulary is of a model with fingerprint"):
        bake(opened(folder), NONE, recipe, tmp_path / "out", vocabulary=vocabulary_of(opened(other)))


def test_two_languages_that_are_one(tmp_path: Path) -> None:
    """The same text twice has one centre; nearly the same tokens are told of."""
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    target = opened(folder)
    a, b = TEXTS["en"], np.concatenate([TEXTS["en"][:300], TEXTS["fr"][:100]])
    packed = {k: Packed(k, (own,), 0, len(own), k) for k, own in (("es", a), ("an", a), ("gl", b))}
    vocabulary = count(model_info(target), open_embedding(target), packed, (), ["a"] * VOCABULARY)
    with pytest.raises(RecipeError, match="es and an have the same centre"):
        redirection([Edit("es", "redirect", 1.5, to="an")], vocabulary)
    ((source, to, overlap),) = alike([Edit("gl", "redirect", 1.5, to="es")], vocabulary)
    assert (source, to) == ("gl", "es")
    assert ALIKE < overlap < 1
    assert not alike(REDIRECTS, vocabulary_of(target))


def test_written_as_on_a_command_line() -> None:
    pair = (Edit("zh", "redirect", 1.5, to="en"), Edit("fr", "redirect", 1.5, to="en"))
    assert request_of(redirect=["zh=en, fr=en"]).redirects() == pair
    found = (Edit("en", "redirect", 2.0, to="fr"), Edit("zh", "redirect", 2.0, to="fr"))
    assert request_of(redirect=["others=fr"]).redirects(["en", "fr", "zh"], 2.0) == found
    assert request_of(activate=["fr"], op="redirect").redirects(["en", "fr", "zh"], 2.0) == found
    for wrong in ("zh", "=en", "zh=", "zh=en=fr"):
        with pytest.raises(RecipeError, match="write two languages"):
            request_of(redirect=[wrong])


def test_the_manifest_counts_the_tokens_that_move(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "gemma3_text", tokenizer=False)
    record = manifest.read(baked(folder, tmp_path / "out").folder)
    zh, fr = len(set(TEXTS["zh"].tolist())) + 4, len(set(TEXTS["fr"].tolist()))  # with the four of its script
    assert record.redirected == {"zh": manifest.Moved("en", zh), "fr": manifest.Moved("en", fr)}
    assert record.edited == {}
