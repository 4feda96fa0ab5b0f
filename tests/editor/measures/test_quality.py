"""Perplexity and repetition of what was written, against other ways to compute them, and what counts as broken."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny

from monoglot.editor import embedded
from monoglot.editor.live import logits
from monoglot.editor.live.load import load_model
from monoglot.editor.measures.quality import log_loss, quality, rounded, token_ids
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.text.prompts import passages


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    """The embedded model and its tokenizer."""
    return load_model(embedded.MODEL, device="cpu"), load_tokenizer(embedded.MODEL)


TEXTS = ("Le renard rapide saute", "Pour préparer un bon thé, faites bouillir", "Le", " The old farmer looks\n")


def test_perplexity_is_that_of_transformers_own_loss(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    nats, count = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text.strip(), add_special_tokens=False)["input_ids"]]])
        with torch.inference_mode():
            nats += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    found = quality(model, tokenizer, TEXTS).perplexity
    assert found is not None and math.isclose(found, math.exp(nats / count), rel_tol=1e-5)


def test_log_loss_keeps_the_order_and_is_bounded(small: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = small
    rows = [[0, *row] for row in token_ids(tokenizer, [*TEXTS, *passages("fr")[:3]])]
    each = [log_loss(model, [row])[0] for row in rows]
    assert np.allclose(log_loss(model, rows), each, rtol=1e-5)
    monkeypatch.setattr(logits, "LOGITS", 1)  # one at a time
    assert np.allclose(log_loss(model, rows), each, rtol=1e-5)
    assert log_loss(model, [[5], [], [0, 5, 6]])[:2].tolist() == [0, 0]
    assert log_loss(model, []).tolist() == []


def test_texts_are_cut(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    whole = passages("es")[0]
    cut = tokenizer.decode(tokenizer(whole, add_special_tokens=False)["input_ids"][:10])
    assert quality(model, tokenizer, [whole], tokens=10) == quality(model, tokenizer, [cut])


def test_repetition_counts_three_grams_of_each_text(small: tuple[Any, Any]) -> None:
    """By hand, of token ids: 1 2 1 2 1 2 has four 3-grams, two of them new; another text's are not repetitions."""
    model, _ = small

    class Ids:
        bos_token_id = 0

        def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
            return {"input_ids": [[int(word) for word in text.split()] for text in texts]}

    found = quality(model, Ids(), ["7 8 7 8 7 8", "7 8 7", "1 2 3 4 5", "9 9"])
    assert found.repetition == 2 / (4 + 1 + 3)
    assert found.broken == (True, False, False, False)


def test_loops_and_word_salad_are_broken_and_real_text_is_not(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    real = quality(model, tokenizer, passages("fr"), tokens=24)
    assert real.perplexity is not None
    shuffled = [
        tokenizer.decode(np.random.default_rng(0).permutation(tokenizer.vocab_size - 300)[:24] + 300) for _ in range(2)
    ]
    texts = ["le thé " * 12, *shuffled, "", " \n", passages("fr")[0]]
    assert quality(model, tokenizer, texts, tokens=24, real=real.perplexity).broken == (
        True,
        True,
        True,
        True,
        True,
        False,
    )
    assert quality(model, tokenizer, texts, tokens=24).broken == (True, False, False, True, True, False)
    assert quality(model, tokenizer, passages("fr"), tokens=24, real=real.perplexity).broken_share < 1 / 3


def test_what_cannot_be_said_is_none(small: tuple[Any, Any], model: Path) -> None:
    live, tokenizer = small
    nothing = quality(live, tokenizer, [])
    assert (nothing.perplexity, nothing.repetition, nothing.broken, nothing.broken_share) == (None, None, (), 0)
    assert rounded(quality(live, tokenizer, ["", "x"])) | {"perplexity": 0} == {
        "perplexity": 0, "repetition": None, "broken": 0.5
    }  # fmt: skip
    dead = load_model(model, device="cpu")
    with torch.no_grad():
        next(dead.parameters()).fill_(float("nan"))
    found = quality(dead, load_tokenizer(model), [tiny.TEXT["en"]], real=10.0)
    assert (found.perplexity, found.broken) == (None, (True,))
