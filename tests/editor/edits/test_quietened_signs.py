"""Digits, signs and mark-up made less likely: which tokens go, and that a checkpoint does what hooks do."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.tiny import save_corpus, save_model

from monoglot.editor import embedded
from monoglot.editor.edits import silencing
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Recipe
from monoglot.editor.edits.script_edit import ScriptEdit, check_scripts
from monoglot.editor.edits.silencing import prepare, told
from monoglot.editor.edits.token_hooks import silenced
from monoglot.editor.errors import RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.silenced import Found

LESS = (ScriptEdit("signs", "quieten", 1.5),)


def test_what_another_script_has_and_what_the_chat_template_writes_is_left_out() -> None:
    written = [b"1", b"2", b"3", b"</think>", b"</b>", b"a", b"4"]
    tokenizer = SimpleNamespace(
        chat_template="{{ x }}</think>",
        added_tokens_decoder={3: SimpleNamespace(content="</think>"), 4: SimpleNamespace(content="</b>")},
    )
    found = silencing._set_of("signs", written, 6, {"Han": Found(np.array([1]), 1, 0, 0)}, tokenizer)
    assert found.ids.tolist() == [0, 2, 4] and (found.whole, found.mixed, found.pieces) == (3, 0, 0)
    plain = silencing._set_of("signs", written, 7, {}, SimpleNamespace(chat_template=None))
    assert plain.ids.tolist() == [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize("kind", ["bias", pytest.param("direction", marks=pytest.mark.slow)])
def test_baked_equals_hooked_and_is_less_likely(kind: str, tmp_path: Path) -> None:
    """By a bias of the output layer exactly; else by a direction, in the model that comes with monoglot."""
    if kind == "bias":
        target = open_target(resolve(str(save_model(tmp_path / "model", "phi"))))
        texts = open_corpus([str(save_corpus(tmp_path / "texts"))])
    else:
        target, texts = open_target(resolve(embedded.NAME)), open_corpus([embedded.NAME], ["en", "fr", "zh"])
    recipe = Recipe(target.base, (), scripts=LESS)
    silence = prepare(target, texts, recipe, device="cpu")
    assert silence.scripts == ("signs",) and (silence.direction is None) == (kind == "bias")
    said = told(target, recipe, silence)
    assert said[0].startswith("signs: ") and said[0].endswith(" tokens are 1.5 nats less likely.")
    assert "silenced" not in "".join(said)
    assert kind == "bias" or said[1].startswith("The nats are those at w·h = 1, and w·h is ")
    bake(target, NONE, recipe, tmp_path / "out", silence=silence)
    assert verify_bytes(tmp_path / "out", target, NONE).problems == ()
    base, model = (load_model(folder, device="cpu") for folder in (target.source.folder, tmp_path / "out"))
    ids = load_tokenizer(target.source.folder)("The kitchen is ready. 1. Rinse the rice", return_tensors="pt")[
        "input_ids"
    ]
    with torch.inference_mode():
        before, after = base(ids).logits.double(), model(ids).logits.double()
        with silenced(base, silence, LESS):
            hooked = base(ids).logits.double()
    assert (after - hooked).abs().max() <= (1e-5 if kind == "bias" else 2e-2) * hooked.abs().max()
    own = torch.from_numpy(silence.ids["signs"])
    assert float((before - after)[:, 1:, own].mean()) == pytest.approx(1.5, rel=1e-3 if kind == "bias" else 0.5)
    rest = np.setdiff1d(np.arange(before.shape[-1]), silence.ids["signs"])
    assert len(rest) and torch.equal(before[..., rest], after[..., rest])


def test_signs_are_not_silenced() -> None:
    with pytest.raises(RecipeError, match="signs can't be silenced"):
        check_scripts([ScriptEdit("signs", "silence")])
