"""A vector added to every row of the embedding table: by the formula, and against hooks on the live model."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.redirected import REDIRECTS, TEXTS, opened, vocabulary_of
from support.tiny import MOVED, TOLERANCE, live, logits, need, save_model

from monoglot.cli.edit_request import request_of
from monoglot.editor.edits import manifest, manifest_base, manifest_files, recipe
from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import RecipeError, VerificationError
from monoglot.editor.live.load import load_model
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.identity import Base
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.proof.logits import verify_logits
from monoglot.editor.proof.rebuild import rebuild
from monoglot.editor.text.tokens import Packed

FRENCH = Edit("fr", "vector", 1.5, point="embedding")
FEW = ("llama", "gpt2", "gemma3_text", "gemma2", "granite", "bloom", "qwen2", "mixtral", "gemma3", "llava")


def plain_vector(table: torch.Tensor) -> torch.Tensor:
    """The mean row of French text, less the mean of what that is of English and of Chinese."""
    rows = {k: [table[t].tolist() for t in own.tolist()] for k, own in TEXTS.items()}
    mean = {k: [math.fsum(each) / len(own) for each in zip(*own, strict=True)] for k, own in rows.items()}
    others = [(a + b) / 2 for a, b in zip(mean["en"], mean["zh"], strict=True)]
    return torch.tensor([a - b for a, b in zip(mean["fr"], others, strict=True)], dtype=torch.float64)


def baked(folder: Path, destination: Path, *edits: Edit, **more: Any) -> Baked:
    target = opened(folder)
    made = Recipe(Base("tiny"), edits or (FRENCH,), **more)
    return bake(target, NONE, made, destination, vocabulary=vocabulary_of(target))


def by_hook(folder: Path, vector: torch.Tensor) -> torch.Tensor:
    """Logits of the base with a vector added to what the embedding module puts out, in its own units."""
    base = live(folder)
    embedding = base.get_input_embeddings()
    one = torch.ones(1, dtype=torch.int64)
    factor = (embedding(one) / embedding.weight[one]).double().mean().item()
    hook = embedding.register_forward_hook(lambda m, i, out: (out.double() + factor * vector).to(out.dtype))
    try:
        return logits(base)
    finally:
        hook.remove()


@pytest.mark.parametrize("model_type", FEW)
@pytest.mark.parametrize("tied", [True, False])
def test_baked_equals_hooked(model_type: str, tied: bool, tmp_path: Path) -> None:
    """Where the table is the output's too, every logit of a position moves by the same, and no probability."""
    need(model_type)
    folder = save_model(tmp_path / "model", model_type, tokenizer=False, tie_word_embeddings=tied)
    baked(folder, tmp_path / "out")
    target = opened(folder)
    table = open_embedding(target)
    files = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    vector = 1.5 * plain_vector(files[table.tensor.name].double())
    hooked, made = by_hook(folder, vector), logits(load_model(tmp_path / "out", device="cpu"))
    a, b = made.double().log_softmax(-1), hooked.double().log_softmax(-1)
    assert (a - b).abs().max() <= TOLERANCE * hooked.abs().max()
    assert (b - logits(live(folder)).double().log_softmax(-1)).abs().max() > MOVED
    assert verify_bytes(tmp_path / "out", target, NONE).problems == ()
    capped = model_type == "gemma2"
    has_own = (manifest.read(tmp_path / "out").output_table is not None) == (table.tied and capped)
    assert has_own


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_rows_by_the_formula_and_proved(model_type: str, tmp_path: Path) -> None:
    """All rows move, those of special tokens too; capped logits would change, so the output keeps the base's rows."""
    folder = save_model(tmp_path / "model", model_type, tokenizer=False, tie_word_embeddings=True)
    baked(folder, tmp_path / "out")
    old = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].double()
    files = {
        name: tensor for path in (tmp_path / "out").glob("*.safetensors") for name, tensor in load_file(path).items()
    }
    wanted = old + 1.5 * plain_vector(old)
    assert torch.allclose(files["model.embed_tokens.weight"].double(), wanted, rtol=0, atol=1e-6)
    if model_type == "gemma2":
        assert torch.equal(files["lm_head.weight"].double(), old)
    else:
        assert "lm_head.weight" not in files
    target = opened(folder)
    texts = {k: Packed(k, (own[:64],), 0, 64, k) for k, own in TEXTS.items()}
    what = manifest_base.carried_in(tmp_path / "out", target, NONE)
    base, ours = (load_model(each, device="cpu") for each in (folder, tmp_path / "out"))
    assert verify_logits(ours, base, target, what, texts).problems == ()
    with torch.no_grad():
        ours.get_input_embeddings().weight[7] -= 0.5  # one row that did not move
    texts = {k: replace(one, contexts=(one.contexts[0].copy(),)) for k, one in texts.items()}
    for one in texts.values():
        one.contexts[0][5] = 7
    assert verify_logits(ours, base, target, what, texts).problems
    assert rebuild(tmp_path / "out", target, tmp_path / "again").differ == {}


def test_beside_a_redirect(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False, tie_word_embeddings=True)
    baked(folder, tmp_path / "out", *REDIRECTS, replace(FRENCH, language="en", strength=0.5))
    baked(folder, tmp_path / "redirected", *REDIRECTS)
    record = manifest.read(tmp_path / "out")
    assert record.redirected == manifest.read(tmp_path / "redirected").redirected
    assert record.activated == ("en",)
    rows = [
        {n: t for p in (tmp_path / name).glob("*.safetensors") for n, t in load_file(p).items()}[
            "model.embed_tokens.weight"
        ]
        for name in ("out", "redirected")
    ]
    moved = (rows[0] - rows[1]).double()
    assert (moved - moved[0]).abs().max() < 1e-6
    assert moved.abs().max() > MOVED


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (replace(FRENCH, point=None), "needs the `point`"),
        (replace(FRENCH, point="somewhere"), "needs the `point`"),
        (replace(FRENCH, point=-1), "needs the `point`"),
        (replace(FRENCH, strength=0.0), "strength other than 0"),
        (replace(FRENCH, layers=(0, 1)), "takes no layers"),
        (replace(FRENCH, value="mean"), "vector takes no value"),
        (replace(FRENCH, to="en"), "vector goes to no other language"),
        (replace(FRENCH, language="de"), "no text in 'de'"),
        (Edit("fr", "deactivate", point=3), "deactivate has no point"),
    ],
)
def test_what_cannot_be_added(edit: Edit, reason: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    with pytest.raises(RecipeError, match=reason):
        baked(folder, tmp_path / "out", edit)
    assert not (tmp_path / "out").exists()


def test_a_language_alone_has_no_vector(tmp_path: Path) -> None:
    from monoglot.editor.models.target import model_info
    from monoglot.editor.statistics.token_counts import count

    target = opened(save_model(tmp_path / "model", "llama", tokenizer=False))
    for codes, reason in (
        (["fr"], "nothing tells fr from others"),
        (["fr", "oc"], "have the centre that all others have"),
    ):
        texts = {k: Packed(k, (TEXTS["fr"],), 0, 400, k) for k in codes}
        vocabulary = count(model_info(target), open_embedding(target), texts, (), ["a"] * 300)
        with pytest.raises(RecipeError, match=reason):
            bake(target, NONE, Recipe(Base("tiny"), (FRENCH,)), tmp_path / "out", vocabulary=vocabulary)


def test_written_and_read() -> None:
    """On a command line, and in a file."""
    request = request_of(activate=["fr"], op="vector", point=9, strength=2.0)
    assert request.edits(strength=2.0) == (Edit("fr", "vector", 2.0, point=9),)
    assert request.of_vocabulary
    assert not request.of_neurons
    made = Recipe(Base("tiny"), (FRENCH, Edit("fr", "vector", 2.0, point=9)))
    assert recipe.of_data(recipe.as_data(made)) == made
    short = recipe.of_data({"format": 1, "base": vars(Base("tiny")), "edits": [{"language": "fr", "op": "vector",
                            "point": "embedding"}]})  # fmt: skip
    assert short.edits == (FRENCH,)


def test_what_a_search_found_can_be_added_to_it(tmp_path: Path) -> None:
    """Which neurons are shared says nothing where none is edited, so the file leaves it out."""
    folder = save_model(tmp_path / "model", tokenizer=False)
    made = baked(folder, tmp_path / "out", shared="edit")
    assert manifest_files.unchanged(tmp_path / "out", made.manifest).recipe.edits == (FRENCH,)
    other = baked(folder, tmp_path / "other", replace(FRENCH, strength=0.5), shared="edit")
    with pytest.raises(VerificationError, match="replaced by another checkpoint"):
        manifest_files.unchanged(tmp_path / "out", other.manifest)
