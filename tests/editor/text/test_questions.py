"""The embedded questions: complete, aligned, each in its language and written as that language writes."""

import json
import re

import pytest

from monoglot.editor.errors import CorpusError
from monoglot.editor.text.identify import language_of
from monoglot.editor.text.questions import FILE, answer_in, questions, with_request

LANGUAGES = ("en", "zh", "fr", "es", "vi", "id", "ja")
MARK = {"en": r"[^ ]\?", "zh": "？", "fr": r"[^ ] \?", "es": r"[^ ]\?", "vi": r"[^ ]\?", "id": r"[^ ]\?", "ja": "？"}
# a few that everyday questions are bound to have, each beside its simplified form
TRADITIONAL = "麼為們這個裡會說時間過還對開關門問題來樣點電氣學習買賣請後發讓應該處動麵飯貓藥風災維護見親難樂醫療愛聽"


def test_forty_in_each_language_and_no_two_alike() -> None:
    found = questions()
    assert tuple(found) == LANGUAGES
    for own in found.values():
        assert len(own) == len({text.casefold() for text in own}) == 40


def test_the_same_number_is_the_same_question() -> None:
    """Each is one object of the file, and a few that no language can say without a certain word."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))["questions"]
    assert all(tuple(row) == LANGUAGES for row in rows)
    words = {
        "en": ("rice", "moon", "vaccines"), "zh": ("米饭", "月亮", "疫苗"), "fr": ("riz", "lune", "vaccins"),
        "es": ("arroz", "luna", "vacunas"), "vi": ("cơm", "mặt trăng", "Vắc-xin"), "id": ("nasi", "bulan", "vaksin"),
        "ja": ("ご飯", "月の形", "ワクチン"),
    }  # fmt: skip
    for language, own in questions().items():
        places = [next(at for at, text in enumerate(own) if word in text) for word in words[language]]
        assert places == [0, 12, 31], language


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_is_in_its_language_as_it_is_written(language: str) -> None:
    for text in questions([language])[language]:
        assert language_of(text, (language,)) == language_of(text, LANGUAGES) == language, text
        assert text == text.strip() and "  " not in text
        assert re.search(MARK[language] + "$", text), text
        assert 25 <= len(text) <= 120 or language in ("zh", "ja"), text
        assert text.count("¿") == (text.count("?") if language == "es" else 0), text
        if language in ("zh", "ja"):
            assert not re.search(r"[ -~]", text), text


def test_chinese_is_simplified() -> None:
    text = "".join(questions(["zh"])["zh"]) + "".join(answer_in("zh", target) for target in LANGUAGES)
    assert not set(text) & set(TRADITIONAL)
    assert not re.search("[ぁ-ヿ]", text)


def test_languages_and_count() -> None:
    assert {language: len(own) for language, own in questions(["ja", "en"], 3).items()} == {"ja": 3, "en": 3}
    assert list(questions(["ja", "en"])) == ["ja", "en"]
    assert questions(["fr"], 2)["fr"] == questions()["fr"][:2]
    with pytest.raises(CorpusError, match="questions in 'de', only in en, es, fr, id, ja, vi, zh"):
        questions(["en", "de"])


def test_requests_for_a_language() -> None:
    assert answer_in("en", "fr") == "Answer in French."
    assert answer_in("zh", "fr") == "请用法语回答。"
    assert answer_in("ja", "fr") == "フランス語で答えてください。"
    every = {(asked, target): answer_in(asked, target) for asked in LANGUAGES for target in LANGUAGES}
    assert len(set(every.values())) == 49
    for (asked, target), text in every.items():
        assert text == text.strip() and text[-1] == ("。" if asked in ("zh", "ja") else ".")
        # three words of Latin script are too few to be sure of, but are never taken for another language
        short = asked in ("en", "fr", "es")
        assert language_of(text, (asked,)) in ((asked, None) if short else (asked,)), (asked, target)
    for asked, target in (("de", "fr"), ("fr", "de")):
        with pytest.raises(CorpusError, match="in 'de', only in en, es, fr, id, ja, vi, zh"):
            answer_in(asked, target)


def test_a_question_with_its_request() -> None:
    assert with_request("What is salt?", "en", "ja") == "What is salt? Answer in Japanese."
    assert with_request("盐是什么？", "zh", "en") == "盐是什么？请用英语回答。"
    assert with_request("塩とは何ですか？", "ja", "en") == "塩とは何ですか？英語で答えてください。"
    assert with_request("Garam itu apa?", "id", "vi") == "Garam itu apa? Jawablah dalam bahasa Vietnam."
