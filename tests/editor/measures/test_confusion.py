"""LPR, WPR and LCPR against a second way to count them, with an identifier that is told the answer, and on real sentences."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.editor.errors import CorpusError
from monoglot.editor.measures import confusion as module
from monoglot.editor.measures.confusion import NOT_LATIN, Confusion, confusion, has_english, judged_lines
from monoglot.editor.text.identify import knows
from monoglot.editor.text.prompts import passages

LINES = {  # text of a line: what a fake identifier says of it, whether it is long, whether an English word is in it
    "Д" * 40: ("ru", True, False),
    "Д" * 39 + " word": ("ru", True, True),
    "Д" * 36 + " Word": ("ru", True, False),
    "中" * 8: ("zh", True, False),
    "中" * 8 + "word": ("zh", True, True),
    "中" * 7: ("zh", False, False),
    "中" * 3 + "ok" + "word9": ("zh", False, False),
    "x" * 40 + "é": ("fr", True, False),
    "e" * 39: ("en", False, True),
    "e" * 40: ("en", True, True),
    "?" * 60: (None, False, False),
    "": (None, False, False),
    "u" * 50: (None, True, True),
}


def plain(answers: list[list[str]], wanted: tuple[str, ...]) -> tuple[float, float | None, float]:
    good, clean = 0, 0
    for lines in answers:
        said = [LINES[line][0] for line in lines if LINES[line][1]]
        if not said:  # the whole answer, which the fake identifier puts in the language of its first line that has one
            said = [next((LINES[line][0] for line in lines if LINES[line][0]), None)]
        if any(language not in wanted for language in said):
            continue
        good += 1
        other = any(ord(letter) > 0x400 for line in lines for letter in line)
        clean += not (other and any(LINES[line][2] for line in lines))
    lpr = good / len(answers) if answers else 0.0
    if not good or set(wanted) & {"fr", "en"}:
        return lpr, None, lpr
    wpr = clean / good
    return lpr, wpr, 2 / (1 / lpr + 1 / wpr) if wpr else 0.0


@settings(deadline=None)  # the first example loads the identifier
@given(
    st.lists(st.lists(st.sampled_from(sorted(LINES)), max_size=3), max_size=6),
    st.sampled_from([("ru",), ("zh",), ("fr",), ("zh", "ru"), ("zh", "fr"), ("en",)]),
)
def test_a_second_count_gives_the_same(answers: list[list[str]], wanted: tuple[str, ...]) -> None:
    def fake(text: str, *languages: str) -> bool:
        named = [LINES[line][0] for line in text.splitlines() if LINES[line][0]]
        return bool(named) and named[0] in languages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_in", fake)
        found = confusion(["\n".join(lines) for lines in answers], wanted)
    lpr, wpr, lcpr = plain(answers, wanted)
    assert found.lpr == pytest.approx(lpr) and found.wpr == pytest.approx(wpr) and found.lcpr == pytest.approx(lcpr)


FR = "Le riz se cuit dans une grande casserole d'eau salée, pendant une dizaine de minutes."
EN = "Cook the rice in a large pot of salted water for about ten minutes, then drain it well."
ZH = "煮饭之前先把米洗干净，再加适量的水。"
JA = "お米を洗ってから、同じ量の水を入れて炊きます。"
RU = "Промойте рис и варите его в подсоленной воде около десяти минут."


def test_real_sentences() -> None:
    assert confusion([FR, EN, f"{FR}\n{EN}", f"{FR}\n\n{FR}"], "fr") == Confusion(0.5, None, 0.5)
    assert confusion([ZH, f"{ZH}\n{EN}", f"{ZH}\n先放rice再加水。", JA], "zh") == Confusion(0.5, 0.5, 0.5)
    assert confusion([RU], "ru-RU") == Confusion(1, 1, 1)
    assert confusion([ZH + "water"] * 3 + [EN], "zh") == Confusion(0.75, 0, 0)
    found = confusion([ZH, f"{ZH} boil", EN, EN], "zh")
    assert found == Confusion(0.5, 0.5, 0.5) and confusion([ZH, ZH, ZH, EN], "zh").lcpr == pytest.approx(6 / 7)


@pytest.mark.parametrize("language", ["en", "es", "fr", "id", "ja", "vi", "zh"])
def test_real_passages_pass(language: str) -> None:
    found = confusion(passages(language), language)
    assert found.lpr == 1 and found.wpr == (1 if language in ("ja", "zh") else None)


def test_several_languages_are_as_good_as_one() -> None:
    assert confusion([f"{FR}\n{EN}", ZH], ["fr", "en"]) == Confusion(0.5, None, 0.5)
    assert confusion([f"{ZH}\n{JA}", f"{JA}\nご飯rice"], ["zh", "ja"]) == Confusion(1, 0.5, 2 / 3)
    assert confusion([ZH + " boil"], ["zh", "fr"]) == Confusion(1, None, 1)  # French may be written so


@pytest.mark.parametrize(
    ("letter", "enough"), [("x", 40), ("é", 40), ("д", 40), ("中", 8), ("か", 8), ("カ", 8), ("한", 8)]
)
def test_how_long_is_long_enough(letter: str, enough: int) -> None:
    long = f"{letter * enough}…"
    assert judged_lines(f"{letter * (enough - 1)} 123\n{long}") == [long]


def test_short_lines_are_passed_over_when_another_is_judged() -> None:
    assert judged_lines(f"Rice\n\n{FR}\n- 20 %\n<h2><strong>{'x' * 30}</strong></h2>") == [FR]
    assert confusion([f"New York\n{FR}\n1.\n\n"], "fr").lpr == 1
    short = "1. Du riz\n2. De l'eau salée\n3. Une casserole\n4. Une passoire"
    assert judged_lines(short) == [short]
    assert confusion([short, "はい。", "Oui", "", " \n", "1. 2. 3."], ["fr", "ja"]).lpr == pytest.approx(2 / 6)


def test_what_is_undetermined_is_wrong() -> None:
    assert confusion([f"{FR}\n{'xq ' * 30}"], "fr").lpr == 0


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("先放rice再加水", True),
        ("先放 rice, 再加水", True),
        ("well-known 的", True),
        ("**rice**吧", True),
        ("用 HTML 写，在 Google 上找，走 5 km", False),
        ("听 mp3 和 iPhone，喝 café 与 cafe\u0301", False),
        ("看 https://example.com/some-page?x=y 吧", False),
        ("写信到me@example.com，或打开main.py", False),
        ("<strong>加水</strong>", False),
        ("加水 <strong", False),
        ("samo latinica bez ćirilice", False),
        ("рис и rice", True),
        ("naïve 的", False),
    ],
)
def test_english_words(text: str, english: bool) -> None:
    assert has_english(text) is english


def test_no_answers_and_unknown_languages() -> None:
    assert confusion([], "zh") == confusion([EN], "zh") == Confusion(0, None, 0)
    with pytest.raises(CorpusError, match="doesn't know 'tlh'"):
        confusion([], "tlh")


def test_the_table_of_scripts() -> None:
    listed = [
        "ar",
        "bg",
        "bn",
        "el",
        "fa",
        "he",
        "hi",
        "ja",
        "ka",
        "ko",
        "mr",
        "my",
        "ru",
        "sr",
        "th",
        "uk",
        "ur",
        "zh",
    ]
    assert set(listed) <= NOT_LATIN and not {"en", "fr", "vi", "id", "tr", "uz", "ku"} & NOT_LATIN
    assert all(knows(language) for language in NOT_LATIN)
