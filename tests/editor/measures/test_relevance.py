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


def test_an_answer_in_the_language_of_its_prompt_is_relevant(small: tuple[Any, Any]) -> None:
    """English and French prompts in turn, so that the next prompt is always of the other language, and so is its answer.

    Moved on by every number of places in turn, the answers are after each prompt as often as before it, so the sum is 0.
    """
    pairs = zip(passages("en")[:4], passages("fr")[:4], strict=True)
    texts = [(text, code) for pair in pairs for text, code in zip(pair, ("en", "fr"), strict=True)]
    prompts = [beginning(*text) for text in texts]
    answers = [text.removeprefix(prompt)[:80] for (text, _), prompt in zip(texts, prompts, strict=True)]
    found = [relevance(*small, prompts, answers[by:] + answers[:by]) for by in range(len(prompts))]
    real, other = found[:2]
    assert real.interval[0] > 0 > other.interval[1]
    for one in found:
        assert one.interval[0] < one.mean < one.interval[1]
    assert sum(one.mean for one in found) == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_compared(small: tuple[Any, Any]) -> None:
    with pytest.raises(CorpusError, match="two different prompts"):
        relevance(*small, ["one", "one"], ["a", "b"])
    found = relevance(*small, ["one", "one", "two"], ["", "a thing", "b"])
    assert found.each[0] is None
