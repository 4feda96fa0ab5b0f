"""Redirecting with one table for both ends: against a plain second implementation, and against hooks on the live model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.redirected import REDIRECTS, TEXTS, opened, vocabulary_of
from support.tiny import MOVED, TOLERANCE, live, logits, need, save_corpus, save_model

from monoglot.editor.edits import manifest, manifest_base
from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.one_table import projected, table_errors
from monoglot.editor.edits.recipe import Recipe
from monoglot.editor.edits.redirect import redirection
from monoglot.editor.edits.request import Request
from monoglot.editor.edits.token_hooks import redirected, written
from monoglot.editor.errors import RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.identity import Base
from monoglot.editor.models.target import Target
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.proof.certificate import make_certificate
from monoglot.editor.proof.logits import verify_logits
from monoglot.editor.proof.rebuild import rebuild
from monoglot.editor.statistics import vocabulary as vocabulary_file
from monoglot.editor.statistics.outputs import Outputs
from monoglot.editor.statistics.record_outputs import record_outputs
from monoglot.editor.statistics.vocabulary import Vocabulary
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import Packed

SAMPLE = 9  # positions a language


def tied(folder: Path, model_type: str = "gemma3_text", **config: Any) -> Path:
    need(model_type)
    return save_model(folder, model_type, tokenizer=False, tie_word_embeddings=True, **config)


def learned(target: Target) -> Vocabulary:
    """Counts of TEXTS, and what the output table is given on other tokens."""
    vocabulary = vocabulary_of(target)
    model, states = live(target.source.folder), plain_states(target)
    with torch.inference_mode():
        head = model.get_output_embeddings().weight.double()
    mean = states.mean(0)
    raw = states @ head.T * (1 / target.checkpoint.config.get("logits_scaling", 1))
    cap = target.checkpoint.config.get("final_logit_softcapping")
    scored = torch.tanh(raw / cap) * cap if cap else raw
    targets = scored.argmax(-1)  # what the model is surest of, so that moving rows at random costs something
    losses = torch.nn.functional.cross_entropy(scored, targets, reduction="none")
    language = np.repeat(np.arange(3), SAMPLE)
    outputs = Outputs(mean.numpy(), states.float().numpy(), language, targets.numpy(), losses.numpy())
    return replace(vocabulary, outputs=outputs)


def plain_states(target: Target) -> torch.Tensor:
    model, rows = live(target.source.folder), []
    for text in (TEXTS[k] for k in sorted(TEXTS)):
        ids = torch.from_numpy(text[: SAMPLE + 1])[None]
        with torch.inference_mode():
            rows.append(
                model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[-1][0, :-1].double()
            )
    return torch.cat(rows)


def baked(folder: Path, destination: Path, *, tolerance: float = 1e6, strength: float | None = None) -> Baked:
    target = opened(folder)
    edits = REDIRECTS if strength is None else tuple(replace(edit, strength=strength) for edit in REDIRECTS)
    recipe = Recipe(Base("tiny"), edits, untie=False, tolerance=tolerance)
    return bake(target, NONE, recipe, destination, vocabulary=learned(target))


def test_rows_by_the_formula(tmp_path: Path) -> None:
    """The move, without its part along the mean of what the output table is given."""
    folder = tied(tmp_path / "model")
    target = opened(folder)
    old = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].double()
    baked(folder, tmp_path / "out")
    files = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in files
    mean = torch.from_numpy(learned(target).outputs.mean)  # type: ignore[union-attr]
    often = {
        k: torch.bincount(torch.from_numpy(own), minlength=len(old)).double() / len(own) for k, own in TEXTS.items()
    }
    centre = {k: sum(old[t] for t in own.tolist()) / len(own) for k, own in TEXTS.items()}
    whole = sum(often.values())
    share = {k: own / whole.clamp(min=1e-9) for k, own in often.items()}
    wanted = old.clone()
    for edit in REDIRECTS:
        step = edit.strength * (centre[edit.to] - centre[edit.language])
        step = step - (step @ mean) / (mean @ mean) * mean
        wanted += share[edit.language][:, None] * step
    counted = whole > 0  # those of a script alone are another test's
    assert torch.allclose(files["model.embed_tokens.weight"].double()[counted], wanted[counted], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_type", ["gemma3_text", "llama", "gpt2", "qwen2", "gemma3"])
def test_baked_equals_hooked(model_type: str, tmp_path: Path) -> None:
    folder = tied(tmp_path / "model", model_type)
    result = baked(folder, tmp_path / "out")
    target, base = opened(folder), live(folder)
    moved = projected(redirection(REDIRECTS, vocabulary_of(target)), learned(target).outputs, 2)  # type: ignore[arg-type]
    with redirected(base.get_input_embeddings(), moved), written(base.get_output_embeddings(), moved):
        hooked = logits(base)
    ours = load_model(tmp_path / "out", device="cpu")
    made = logits(ours)
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    with redirected(base.get_input_embeddings(), moved):
        assert (made - logits(base)).abs().max() > MOVED  # the output's rows moved too
    assert ours.get_output_embeddings().weight is ours.get_input_embeddings().weight
    assert verify_bytes(tmp_path / "out", target, NONE).problems == ()
    assert result.manifest.output_table is None
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in folder.iterdir()} | {"monoglot.json", "recipe.yaml", "vocabulary.monoglot"}
    assert (tmp_path / "out" / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_the_same_table_twice_in_the_file(tmp_path: Path) -> None:
    """Both copies move."""
    from safetensors.torch import save_file

    folder = tied(tmp_path / "model", "llama")
    files = load_file(folder / "model.safetensors")
    files["lm_head.weight"] = files["model.embed_tokens.weight"].clone()
    save_file(files, folder / "model.safetensors", metadata={"format": "pt"})
    baked(folder, tmp_path / "out")
    new = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(new["lm_head.weight"], new["model.embed_tokens.weight"])
    assert not torch.equal(new["lm_head.weight"], files["lm_head.weight"])


@pytest.mark.parametrize("cap", [None, 3.0])
def test_errors_by_whole_logits(cap: float | None, tmp_path: Path) -> None:
    """A second way to the same figures: all logits at once, in torch."""
    folder = tied(tmp_path / "model", final_logit_softcapping=cap)
    target = opened(folder)
    vocabulary = learned(target)
    moved = projected(redirection(REDIRECTS, vocabulary), vocabulary.outputs, 2)  # type: ignore[arg-type]
    found = table_errors(target, open_embedding(target), moved, vocabulary)
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].double()
    new = table.clone()
    new[torch.from_numpy(moved.ids)] += torch.from_numpy(moved.deltas(slice(0, len(moved.ids))))
    states, targets = plain_states(target), torch.from_numpy(vocabulary.outputs.targets)  # type: ignore[union-attr]

    def head(rows: torch.Tensor) -> torch.Tensor:
        raw = states @ rows.T
        return (torch.tanh(raw / cap) * cap if cap else raw).log_softmax(-1)

    p, q = head(table), head(new)
    kl = (p.exp() * (p - q)).sum(-1)
    loss = (p - q).gather(1, targets[:, None])[:, 0]
    for number, language in enumerate(sorted(TEXTS)):
        part = slice(number * SAMPLE, (number + 1) * SAMPLE)
        assert found[language].kl == pytest.approx(kl[part].mean().item(), rel=6e-3, abs=1e-6)
        assert found[language].loss == pytest.approx(loss[part].mean().item(), rel=6e-3, abs=1e-6)
    assert max(error.kl for error in found.values()) > 1e-3


def test_recorded_outputs_are_what_the_head_is_given(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "gemma3_text", tie_word_embeddings=True)
    target, texts = opened(folder), open_corpus([str(save_corpus(tmp_path / "texts"))])
    found = record_outputs(target, texts, device="cpu")
    found.check(open_embedding(target).rows, open_embedding(target).hidden, 3)
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].double()
    scored = (torch.from_numpy(found.states).double() @ table.T).log_softmax(-1)
    losses = -scored.gather(1, torch.from_numpy(found.targets)[:, None])[:, 0]
    assert torch.allclose(losses, torch.from_numpy(found.losses), atol=1e-4)
    assert np.unique(found.language).tolist() == [0, 1, 2]


def test_too_large_an_error_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tied(tmp_path / "model")
    with pytest.raises(RecipeError, match=r"text in en would cost it .* above the `tolerance`"):
        baked(folder, tmp_path / "out", tolerance=1e-3, strength=30.0)
    assert not (tmp_path / "out").exists()


def test_a_head_that_does_something_else_is_refused(tmp_path: Path) -> None:
    folder = tied(tmp_path / "model")
    target = opened(folder)
    vocabulary = learned(target)
    outputs = replace(vocabulary.outputs, losses=vocabulary.outputs.losses + 0.2)  # type: ignore[union-attr,type-var]
    recipe = Recipe(Base("tiny"), REDIRECTS, untie=False)
    with pytest.raises(RecipeError, match="does with the result of its output table is not known"):
        bake(target, NONE, recipe, tmp_path / "out", vocabulary=replace(vocabulary, outputs=outputs))
    with pytest.raises(RecipeError, match="count the tokens with `outputs`"):
        bake(target, NONE, recipe, tmp_path / "out", vocabulary=replace(vocabulary, outputs=None))


def test_proved_rebuilt_and_told(tmp_path: Path) -> None:
    folder = tied(tmp_path / "model")
    result = baked(folder, tmp_path / "out")
    target = opened(folder)
    base, ours = (load_model(each, device="cpu") for each in (folder, tmp_path / "out"))
    texts = {k: Packed(k, (own[:64],), 0, 64, k) for k, own in TEXTS.items()}
    what = manifest_base.carried_in(tmp_path / "out", target, NONE)
    found = verify_logits(ours, base, target, what, texts)
    assert found.problems == ()
    certificate = make_certificate(verify_bytes(tmp_path / "out", target, NONE), found)
    assert certificate.approximation is not None
    assert certificate.approximation.activation is None
    assert max(each.max_logit for each in certificate.approximation.by_language.values()) > MOVED
    record = manifest.read(tmp_path / "out")
    assert record.one_table == result.manifest.one_table
    assert set(record.one_table or {}) == set(TEXTS)
    assert not record.recipe.untie
    again = rebuild(tmp_path / "out", target, tmp_path / "again")
    assert again.differ == {}


def test_an_output_that_did_not_move_is_no_proof(tmp_path: Path) -> None:
    """A checkpoint whose output kept the base's rows is seen by the comparison with hooks."""
    folder = tied(tmp_path / "model", "llama")
    baked(folder, tmp_path / "out")
    target = opened(folder)
    what = manifest_base.carried_in(tmp_path / "out", target, NONE)
    base, ours = (load_model(each, device="cpu") for each in (folder, tmp_path / "out"))
    kept = torch.nn.Parameter(base.get_output_embeddings().weight.detach().clone())
    ours.get_output_embeddings().weight = kept
    texts = {k: Packed(k, (own[:64],), 0, 64, k) for k, own in TEXTS.items()}
    assert verify_logits(ours, base, target, what, texts).problems


def test_the_file_keeps_what_was_recorded(tmp_path: Path) -> None:
    target = opened(tied(tmp_path / "model"))
    vocabulary = learned(target)
    vocabulary_file.save(vocabulary, tmp_path / "v")
    again = vocabulary_file.load(tmp_path / "v")
    assert vocabulary_file.serialise(again) == vocabulary_file.serialise(vocabulary)
    assert np.array_equal(again.outputs.mean, vocabulary.outputs.mean)  # type: ignore[union-attr]


def test_what_is_asked_for(tmp_path: Path) -> None:
    """One table and its strength, only where the model has one."""
    request = Request(redirect=(("zh", "en"),), untie=False)
    one = request.recipe(opened(tied(tmp_path / "one", "llama")), [])
    two = request.recipe(opened(save_model(tmp_path / "two", "llama", tokenizer=False)), [])
    assert (one.untie, one.edits[0].strength) == (False, 1.0)
    assert (two.untie, two.edits[0].strength) == (True, 1.5)
