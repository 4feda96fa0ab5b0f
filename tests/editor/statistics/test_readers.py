"""Readers: fitted to inputs with languages in them, baked as one neuron, and against hooks by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.redirected import TEXTS, opened, vocabulary_of
from support.tiny import HIDDEN, LAYERS, MOVED, TOLERANCE, live, logits, save_corpus, save_model

from monoglot.cards.words.notes import readers_note, weights_note
from monoglot.cli.edit_request import request_of
from monoglot.editor.edits import manifest, manifest_base
from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import MonoglotError, RecipeError, StatisticsError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import input_modules, layer_modules
from monoglot.editor.models.activations import gelu, silu
from monoglot.editor.models.identity import Base
from monoglot.editor.models.target import Target
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.proof.logits import verify_logits
from monoglot.editor.proof.rebuild import rebuild
from monoglot.editor.statistics import vocabulary as vocabulary_file
from monoglot.editor.statistics.readers import Reader, answers, fit_reader
from monoglot.editor.statistics.record_readers import record_readers
from monoglot.editor.statistics.residual import Residual
from monoglot.editor.statistics.vocabulary import Vocabulary
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import Packed

CHINESE = Edit("zh", "redirect", 1.5, to="en", point=1)


def learned(target: Target) -> Vocabulary:
    """Means of a residual stream, and readers, that no one recorded."""
    random = np.random.default_rng(3)
    centres = random.normal(0, 0.3, (3, LAYERS, HIDDEN)).astype(np.float32)
    rows = random.normal(0, 0.4, (4, HIDDEN)).astype(np.float32).astype(float)
    told = dict(zip(sorted(TEXTS), (0.01, 0.02, 0.9), strict=True))
    readers = {
        ("zh", 1): Reader(rows[0], rows[1], 2.0, told, told),
        ("fr", 1): Reader(rows[2], rows[3], 3.0, told, told),
    }
    return replace(vocabulary_of(target), residual=Residual(centres, np.ones(LAYERS)), readers=readers)


def baked(folder: Path, destination: Path, *edits: Edit) -> Baked:
    target = opened(folder)
    return bake(target, NONE, Recipe(Base("tiny"), edits or (CHINESE,)), destination, vocabulary=learned(target))


def by_hand(folder: Path, edits: tuple[Edit, ...], cleared: list[int], act: Any, *, gated: bool) -> torch.Tensor:
    """The base, with p(x) times the move added after layer 1, x being what the network there reads."""
    base, target = live(folder), opened(folder)
    vocabulary, family = learned(target), target.feed_forward.family
    centres = dict(zip(sorted(TEXTS), vocabulary.residual.centres[:, 1].astype(float), strict=True))  # type: ignore[union-attr]
    seen: dict[str, Any] = {}

    def read(module: Any, inputs: Any) -> None:
        seen["x"] = inputs[0].double().numpy()

    def add(module: Any, inputs: Any, output: Any) -> Any:
        moved = (output[0] if isinstance(output, tuple) else output).double()
        for edit in edits:
            reader = vocabulary.readers[edit.language, 1]
            p = act(seen["x"] @ reader.gate) / act(np.array(reader.level)) * (seen["x"] @ reader.up if gated else 1)
            step = edit.strength * (centres[str(edit.to)] - centres[edit.language])
            moved = moved + torch.from_numpy(p[..., None] * step)
        return (moved.float(), *output[1:]) if isinstance(output, tuple) else moved.float()

    out = base.model.layers[1].mlp.down_proj if gated else base.transformer.h[1].mlp.c_proj
    columns = out.weight.data[:, cleared].clone() if gated else out.weight.data[cleared].clone()
    handles = [input_modules(base, family)[1].register_forward_pre_hook(read)]
    handles.append(layer_modules(base, family)[1].register_forward_hook(add))
    (out.weight.data if not gated else out.weight.data.T)[cleared] = 0
    try:
        return logits(base)
    finally:
        (out.weight.data if not gated else out.weight.data.T)[cleared] = columns if not gated else columns.T
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "phi3", "granite"])
def test_baked_equals_hooked(model_type: str, tmp_path: Path) -> None:
    folder, out = save_model(tmp_path / "model", model_type, tokenizer=False), tmp_path / "out"
    edits = (CHINESE, replace(CHINESE, language="fr", strength=0.7))
    result = baked(folder, out, *edits)
    target = opened(folder)
    made = logits(load_model(out, device="cpu"))
    assert (made - logits(live(folder))).abs().max() > MOVED
    if model_type in ("llama", "gpt2"):
        slots = [int(str(vector.slot)) for vector in result.carried.vectors]
        hand = by_hand(folder, edits, slots, silu if model_type == "llama" else gelu_new, gated=model_type == "llama")
        assert (made - hand).abs().max() <= 3 * TOLERANCE * hand.abs().max()
    what = manifest_base.carried_in(out, target, NONE)
    texts = {k: Packed(k, (own[:64],), 0, 64, k) for k, own in TEXTS.items()}
    base, ours = (load_model(each, device="cpu") for each in (folder, out))
    found = verify_logits(ours, base, target, what, texts)
    assert found.problems == ()
    assert found.approximation is None
    assert verify_bytes(out, target, NONE).problems == ()
    assert rebuild(out, target, tmp_path / "again").differ == {}
    assert len({vector.slot for vector in what.vectors}) == 2
    assert result.carried.calibration is None


def gelu_new(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_a_reader_that_does_not_read_is_no_proof(tmp_path: Path) -> None:
    folder, out = save_model(tmp_path / "model", "llama", tokenizer=False), tmp_path / "out"
    (vector,) = baked(folder, out).carried.vectors
    target, ours = opened(folder), load_model(out, device="cpu")
    with torch.no_grad():
        ours.model.layers[1].mlp.gate_proj.weight[vector.slot] *= -1
    what = manifest_base.carried_in(out, target, NONE)
    texts = {k: Packed(k, (own[:64],), 0, 64, k) for k, own in TEXTS.items()}
    assert verify_logits(ours, load_model(folder, device="cpu"), target, what, texts).problems


def test_the_manifest_says_how_well_it_reads(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    record = manifest.read(baked(folder, tmp_path / "out").folder)
    (one,) = record.readers or ()
    assert (one.language, one.to, one.layer, one.level, one.fires["zh"]) == ("zh", "en", 1, 2.0, 0.9)
    assert "fires on 90.0% of the tokens in zh" in readers_note(record)
    assert "on 2.0% of those in fr, the most" in readers_note(record)
    assert record.redirected is None
    assert weights_note(record).startswith("The neuron that reads zh in layer 1 ")
    kept = vocabulary_file.load(tmp_path / "out" / "vocabulary.monoglot")
    assert set(kept.readers) == {("zh", 1)}  # what is not needed stays behind
    changed = {
        name for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items()
        if not torch.equal(tensor, load_file(folder / "model.safetensors")[name])
    }  # fmt: skip
    assert changed == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}


@pytest.mark.parametrize("gated", [True, False])
def test_a_reader_tells_languages_apart(gated: bool) -> None:
    """On inputs of three languages that differ in two directions, with one direction that is always about 1."""
    random = np.random.default_rng(0)

    def inputs(language: int) -> Any:
        x = random.normal(0, 0.3, (400, 12))
        x[:, 0] += 1
        x[:, 1 + language] += 2
        return x

    seen, unseen = ({code: inputs(number) for number, code in enumerate(("en", "fr", "zh"))} for _ in range(2))
    reader = fit_reader("fr", seen, unseen, silu if gated else gelu, gated=gated)
    assert reader.fires["fr"] > 0.9
    assert max(reader.fires["en"], reader.fires["zh"]) < 0.05
    assert 0.8 < reader.response["fr"] < 1.2
    p = answers(unseen["fr"][200:], reader.gate, reader.up, reader.level, silu if gated else gelu, gated=gated)
    assert reader.fires["fr"] == pytest.approx(float((p > 0.5).mean()), abs=1e-3)
    with pytest.raises(StatisticsError, match="tells fr from the others"):
        fit_reader("fr", {"fr": seen["fr"], "oc": seen["fr"]}, unseen, silu, gated=gated)


def test_recorded_from_text(tmp_path: Path, monoglot: Any) -> None:
    """By the command; and what is measured is on text that was held out."""
    folder, texts = save_model(tmp_path / "model", "llama"), save_corpus(tmp_path / "texts")
    file, out = tmp_path / "v.monoglot", tmp_path / "out"
    words = ("--corpus", texts, "--minimum", "100")
    code, _, err = monoglot("tokens", folder, *words, "--layers", "--readers", "1,2", "-o", file)
    assert code == 0, err
    vocabulary = vocabulary_file.load(file)
    assert set(vocabulary.readers) == {(code, layer) for code in ("en", "fr", "zh") for layer in (1, 2)}
    assert vocabulary_file.serialise(vocabulary) == file.read_bytes()
    again = record_readers(opened(folder), open_corpus([str(texts)]), [2], device="cpu")
    assert np.array_equal(again["zh", 2].gate, vocabulary.readers["zh", 2].gate)
    code, said, err = monoglot("bake", folder, "--redirect", "zh=en", "--point", "2", "--vocabulary", file, "-o", out)
    assert code == 0, err
    assert "reader of zh, layer 2" in said
    code, said, err = monoglot("inspect", out)
    assert code == 0, err
    with pytest.raises(MonoglotError, match="there is no layer 3"):
        record_readers(opened(folder), open_corpus([str(texts)]), [3], device="cpu")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    for edit, reason in (
        (replace(CHINESE, point=2), "no reader of zh at layer 2"),
        (replace(CHINESE, point=7), "the last one is 2"),
        (replace(CHINESE, point="embedding"), "write the number of a layer"),
        (replace(CHINESE, to="de"), "no centres of zh and de"),
    ):
        with pytest.raises(RecipeError, match=reason):
            baked(folder, tmp_path / "out", edit)
    with pytest.raises(RecipeError, match="has a norm behind its feed-forward networks"):
        baked(save_model(tmp_path / "gemma", "gemma3_text", tokenizer=False), tmp_path / "out")
    assert request_of(redirect=["zh=en"], point=1).redirects() == (CHINESE,)
