"""Who answers in which language: counted again with a plain loop."""

from typing import Any

import pytest

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.logits import Variant
from monoglot.editor.measures import answers
from monoglot.editor.measures.answers import ask, judged, real_text
from monoglot.editor.measures.confusion import confusion
from monoglot.editor.measures.leaks import Leaks
from monoglot.editor.measures.quality import Quality, quality
from monoglot.editor.measures.relevance import Relevance
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.text.prompts import embedded_prompts, passages

FRENCH = "Pour préparer un bon thé, faites bouillir de l'eau fraîche."
GERMAN = "Die Regierung hat ein neues Gesetz beschlossen."


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    return load_model(embedded.MODEL, device="cpu"), load_tokenizer(embedded.MODEL)


def test_right_whole_and_wrong(small: tuple[Any, Any]) -> None:
    texts = [FRENCH, "le thé est bon, " * 9, GERMAN, "", "12 34", passages("es")[0]]
    found = judged(*small, texts, ["fr"], None)
    assert (found.accuracy, found.whole) == (2 / 6, 1 / 6)
    assert found.texts == tuple(texts)
    assert judged(*small, texts, ["fr", "es"], None).accuracy == 3 / 6
    assert judged(*small, texts, ["fr-CA"], None).accuracy == 2 / 6
    assert judged(*small, [], ["fr"], None).accuracy == 0
    assert found.figures()["accuracy"] == 0.3333
    assert found.confusion == confusion(texts, ["fr"]) and found.figures()["lpr"] == round(found.confusion.lpr, 4) > 0
    assert found.figures()["wpr"] is None


def test_the_yardstick_is_real_text_in_the_wanted_languages(small: tuple[Any, Any]) -> None:
    found = real_text(*small, {"en": ("fr",), "zh": ("fr",), "fr": ("es", "vi"), "xx": ("de",)}, 12, 3)
    assert found["en"] is found["zh"] and found["en"] == quality(*small, passages("fr")[:3], tokens=12)
    assert found["fr"] == quality(*small, [*passages("es")[:3], *passages("vi")[:3]], tokens=12)
    assert found["xx"].perplexity is None


def test_answers_are_dealt_to_their_prompts(small: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A "model" that answers in French to what begins with its name, else it says nothing."""

    def continuations(model: str, _: Any, prompts: list[str], *, tokens: int, progress: Any) -> list[str]:
        progress("", 2, len(prompts))
        return [f"{FRENCH} {prompt}" if prompt.startswith(model) else "" for prompt in prompts]

    monkeypatch.setattr(answers, "continuations", continuations)
    prompts = {"en": ["a1", "b1", "a2"], "zh": ["b2"], "ja": []}
    seen: list[tuple[str, int, int]] = []
    found = ask(
        [Variant("first", "a"), Variant("second", "b")], *small, prompts, dict.fromkeys(prompts, ("fr",)), {},
        tokens=5, progress=lambda *at: seen.append(at),
    )  # fmt: skip
    accuracy = {name: {language: one.accuracy for language, one in by.items()} for name, by in found.items()}
    assert accuracy == {"first": {"en": 2 / 3, "zh": 0, "ja": 0}, "second": {"en": 1 / 3, "zh": 1, "ja": 0}}
    assert found["first"]["en"].texts == (f"{FRENCH} a1", "", f"{FRENCH} a2")
    assert seen == [("first", 2, 8), ("second", 6, 8)]


def test_the_embedded_model_answers_in_the_prompts_language(small: tuple[Any, Any]) -> None:
    prompts = embedded_prompts(count=3)
    found = ask([Variant("base", small[0])], *small, prompts, {k: (k,) for k in prompts}, {}, tokens=24)["base"]
    assert all(one.accuracy >= 2 / 3 for one in found.values()), {k: one.accuracy for k, one in found.items()}


def test_a_language_that_cannot_be_told_is_said_before_the_work(small: tuple[Any, Any]) -> None:
    with pytest.raises(CorpusError, match="doesn't know 'tlh'"):
        ask([Variant("base", None)], *small, {"en": ["a"]}, {"en": ("tlh",)}, {}, tokens=5)


def test_long_answers_are_judged_by_hundreds(small: tuple[Any, Any]) -> None:
    """French for a while, then English: the first hundred tokens are French, the last ones not; a short one has none."""
    _, tokenizer = small
    french, english = " ".join(passages("fr")[:6]), " ".join(passages("en")[:6])
    first = tokenizer.decode(tokenizer(french, add_special_tokens=False)["input_ids"][:100])
    last = tokenizer.decode(tokenizer(english, add_special_tokens=False)["input_ids"][:100])
    found = list(answers._hundreds(tokenizer, [f"{first} {last}", "Bonjour à tous"], ["fr"]))
    assert found[0][0] and not found[0][-1] and found[1] == ()
    made = [answers.Answers((), 0, 0, confusion([], ["fr"]), Quality(None, None, ()), (), (), tuple(found))] * 2
    assert answers.by_hundred(made)[0] == 1.0 and answers.by_hundred(made)[-1] == 0.0


def test_all_answers_together() -> None:
    def some(right: tuple[bool, ...], share: float) -> answers.Answers:
        texts = tuple("x" for _ in right)
        return answers.Answers(
            texts, 0, 0, confusion([], ["fr"]), Quality(None, None, ()), right, right, (), Leaks(share, 0.0),
            Relevance(0.5, (0, 1), (0.5, None)),
        )  # fmt: skip

    found = answers.together({"en": some((True, True, False), 1 / 3), "zh": some((False,), 0.0)})
    assert (found["answers"], found["accuracy"], found["leaks"], found["relevance"]) == (4, 0.5, 0.25, 0.5)
    assert found["interval"][0] < 0.5 < found["interval"][1] and "by_hundred" not in found
