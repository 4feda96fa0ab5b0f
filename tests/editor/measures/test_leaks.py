"""Leaks, counted by hand."""

import pytest

from monoglot.editor.measures.leaks import Leaks, leaks, leaks_of_scripts, thought_and_answer
from monoglot.editor.measures.still_written import _figures


def test_counted_by_hand() -> None:
    assert leaks(["all English", "with 米 one", "and 米饭"], "en") == Leaks(2 / 3, 1000 * 3 / 27)
    assert leaks(["米饭 rice", "水"], "zh") == Leaks(0.0, 0.0)
    assert leaks([], "en") == leaks([""], "en") == Leaks(0.0, 0.0)


def test_scripts_counted_by_hand() -> None:
    assert leaks_of_scripts(["米饭 rice", "水", "Все", "no"], ["Han"]) == Leaks(2 / 4, 1000 * 3 / 13)
    assert leaks_of_scripts(["米饭 rice", "水", "Все", "no"], ["Han", "Cyrillic"], "水") == Leaks(2 / 4, 1000 * 5 / 13)
    assert leaks_of_scripts([], ["Han"]) == Leaks(0.0, 0.0)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("rice", (None, "rice")),
        ("<think>米</think>rice", ("米", "rice")),
        ("米</think>rice", ("米", "rice")),  # where the prompt ends with <think>
        ("<think>米", ("米", "")),  # cut short: there is no answer
        ("<think></think>", ("", "")),
        ("a </think> b </think> c", ("a ", " b </think> c")),
    ],
)
def test_thought_and_answer(written: str, parts: tuple[str | None, str]) -> None:
    assert thought_and_answer(written) == parts


def test_thought_and_answer_are_counted_apart() -> None:
    found = _figures(["<think>米</think>rice", "<think>an</think>水", "rice"], ["Han"], "")
    assert found == {
        "answer": {"share": round(1 / 3, 5), "per_thousand": round(1000 / 9, 5)},
        "think": {"share": 0.5, "per_thousand": round(1000 / 3, 5)},
    }
    assert list(_figures(["rice"], ["Han"], "")) == ["answer"]
