"""SES against a plain second implementation, and on models of which the answer is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError
from monoglot.editor.live.load import load_model
from monoglot.editor.measures.similarity import TOKENS, embed, similarity
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.text.prompts import passages

TEXTS = {
    "en": ["The fox jumps.", "A farmer looks at the sky."],
    "fr": ["Le renard saute.", "Un fermier regarde le ciel."],
    "zh": ["狐狸跳过了。", "农夫看着天空。"],
}


@pytest.fixture(scope="module")
def small(saved_with_tokenizer: Path) -> tuple[Any, Any]:
    return load_model(saved_with_tokenizer, device="cpu"), load_tokenizer(saved_with_tokenizer)


@pytest.fixture(scope="module")
def saved_with_tokenizer(saved: Callable[..., Path]) -> Path:
    return saved("gemma3_text", tokenizer=True)


def plainly(model: Any, tokenizer: Any, a: list[str], b: list[str]) -> list[float]:
    """A text, a layer, a token at a time."""
    curves = []
    for one, other in zip(a, b, strict=True):
        means = []
        for text in (one, other):
            ids = [0, *tokenizer(text, add_special_tokens=False)["input_ids"]]
            with torch.inference_mode():
                states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
            means.append([sum(state[0, t].double() for t in range(1, len(ids))) / (len(ids) - 1) for state in states])
        curves.append([torch.cosine_similarity(p, q, dim=0).item() for p, q in zip(*means, strict=True)])
    return [sum(values) / len(values) for values in zip(*curves, strict=True)]


def test_against_a_plain_implementation(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    steps: list[tuple[str, int, int]] = []
    found = similarity(model, tokenizer, TEXTS, progress=lambda *step: steps.append(step))
    assert list(found.pairs) == ["en-fr", "en-zh", "fr-zh"] and found.texts == 2
    for pair, curve in found.pairs.items():
        a, b = pair.split("-")
        assert curve == pytest.approx(plainly(model, tokenizer, TEXTS[a], TEXTS[b]), abs=1e-6)
        assert len(curve) == tiny.LAYERS + 1
    assert found.mean == pytest.approx([sum(values) / 3 for values in zip(*found.pairs.values(), strict=True)])
    assert steps[0] == ("en", 1, 6) and steps[-1] == ("zh", 6, 6)


def test_the_control_pairs_texts_that_are_no_translations(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    found = similarity(model, tokenizer, {"en": TEXTS["en"], "fr": TEXTS["fr"]})
    swapped = similarity(model, tokenizer, {"en": TEXTS["en"], "fr": TEXTS["fr"][::-1]})
    assert found.unrelated == pytest.approx(swapped.mean) and found.mean == pytest.approx(swapped.unrelated or [])
    one = similarity(model, tokenizer, {"en": TEXTS["en"][:1], "fr": TEXTS["fr"][:1]})
    assert (one.unrelated, one.centred, one.centred_unrelated) == (None, None, None)


def test_the_same_text_is_as_alike_as_can_be(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    assert similarity(model, tokenizer, {"a": TEXTS["en"], "b": TEXTS["en"]}).mean == pytest.approx([1.0] * 4)


def test_centred_is_without_what_a_language_has_in_common(small: tuple[Any, Any]) -> None:
    """By hand of the same vectors; of two texts, what is left of one is the opposite of the other."""
    model, tokenizer = small
    three = {"en": [*TEXTS["en"], "Birds fly."], "fr": [*TEXTS["fr"], "Les oiseaux volent."]}
    e, f = (torch.tensor(np.stack([embed(model, tokenizer, text) for text in own])) for own in three.values())
    e, f = e - sum(e) / 3, f - sum(f) / 3
    expected = sum(torch.cosine_similarity(e[at], f[at], dim=-1) for at in range(3)) / 3
    control = sum(torch.cosine_similarity(e[at], f[at - 1], dim=-1) for at in range(3)) / 3
    found = similarity(model, tokenizer, three)
    assert found.centred == pytest.approx(expected.tolist())
    assert found.centred_unrelated == pytest.approx(control.tolist())
    two = similarity(model, tokenizer, {"en": TEXTS["en"], "fr": TEXTS["fr"]})
    assert two.centred and two.centred_unrelated == pytest.approx([-value for value in two.centred])


def test_long_texts_are_cut(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    tail = tokenizer.decode(tokenizer("evening " * TOKENS, add_special_tokens=False)["input_ids"][:100])
    model.config.max_position_embeddings, length = 1024, model.config.max_position_embeddings
    try:
        found = similarity(model, tokenizer, {"a": [("fox " * 2 * TOKENS) + tail], "b": [("fox " * 2 * TOKENS)]})
    finally:
        model.config.max_position_embeddings = length
    assert found.mean == pytest.approx([1.0] * 4)


def test_bad_texts(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    for texts, said in (
        ({"en": ["a"]}, "only"),
        ({}, "none"),
        ({"en": ["a", "b"], "fr": ["a"]}, "en 2, fr 1"),
        ({"en": [], "fr": []}, "no texts"),
        ({"en": [""], "fr": ["a"]}, "no tokens"),
    ):
        with pytest.raises(CorpusError, match=said):
            similarity(model, tokenizer, texts)


@pytest.mark.slow
def test_translations_are_more_alike_than_other_texts() -> None:
    """On the embedded model and texts, somewhere in depth."""
    model, tokenizer = load_model(embedded.MODEL, device="cpu"), load_tokenizer(embedded.MODEL)
    found = similarity(model, tokenizer, {k: passages(k)[:12] for k in ("en", "es", "fr")})
    assert found.centred and found.centred_unrelated
    assert max(m - u for m, u in zip(found.centred, found.centred_unrelated, strict=True)) > 0.1, found
