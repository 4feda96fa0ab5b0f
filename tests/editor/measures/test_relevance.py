"""Relevance against transformers' own loss, and what it is for."""

from typing import Any

import pytest
import torch

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError
from monoglot.editor.live.load import load_model
from monoglot.editor.measures.relevance import relevance
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.text.prompts import beginning, passages


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    """The embedded model and its tokenizer."""
    return load_model(embedded.MODEL, device="cpu"), load_tokenizer(embedded.MODEL)


def plain(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    """−log P(answer | prompt) a token, by transformers."""
    head = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    own = tokenizer(answer, add_special_tokens=False)["input_ids"]
    labels = torch.tensor([[-100] * len(head) + own])
    with torch.inference_mode():
        return float(model(input_ids=torch.tensor([head + own]), labels=labels).loss)


def test_by_transformers_own_loss(small: tuple[Any, Any]) -> None:
    prompts, answers = (
        ("The old farmer", "Le renard rapide"),
        ("looks at the sky", "saute par-dessus le chien paresseux"),
    )
    found = relevance(*small, prompts, answers)
    for number, answer in enumerate(answers):
        wanted = plain(*small, prompts[1 - number], answer) - plain(*small, prompts[number], answer)
        assert found.each[number] == pytest.approx(wanted, abs=1e-4)
    assert found.mean == pytest.approx(sum(found.each) / 2)  # type: ignore[arg-type]


def test_real_text_is_about_its_beginning(small: tuple[Any, Any]) -> None:
    texts = passages("en")[:12]
    prompts = [beginning(text, "en") for text in texts]
    answers = [text.removeprefix(prompt)[:80] for text, prompt in zip(texts, prompts, strict=True)]
    real, other = relevance(*small, prompts, answers), relevance(*small, prompts, answers[3:] + answers[:3])
    assert real.mean > max(0.0, other.mean)
    assert real.interval[0] < real.mean < real.interval[1]


def test_what_cannot_be_compared(small: tuple[Any, Any]) -> None:
    with pytest.raises(CorpusError, match="two different prompts"):
        relevance(*small, ["one", "one"], ["a", "b"])
    found = relevance(*small, ["one", "one", "two"], ["", "a thing", "b"])
    assert found.each[0] is None
