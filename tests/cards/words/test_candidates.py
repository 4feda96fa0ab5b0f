"""A search among several ways, in words and as a figure."""

from typing import Any

import pytest

from monoglot.cards.figures import draw
from monoglot.cards.words import generated, sections, tables
from monoglot.cards.words.candidates import beside

FOUND: dict[str, Any] = {
    "kind": "off", "languages": ["zh"], "target_damage": 1.5, "spare": 0.1, "tokens": {"en": 512, "zh": 512}, "seen": ["zh"],
    "reached": True, "chosen": 1,
    "rows": [
        {"name": "1% of the neurons", "neurons": 15, "gain": 0.3, "damage": 0.0, "change": {"en": 0.0, "zh": 0.3}},
        {"name": "5% of the neurons", "neurons": 80, "gain": 1.7, "damage": 0.05, "change": {"en": 0.05, "zh": 1.7}},
        {"name": "all", "neurons": None, "gain": float("nan"), "damage": 0.5, "change": {"en": 0.5}},
    ],
}  # fmt: skip


def test_a_row_for_each_way_and_the_one_that_was_taken_is_marked() -> None:
    (table,) = tables.candidates(FOUND)
    assert table.title == "ways to switch Chinese off"
    assert table.columns[-2:] == ("en", "zh")
    assert table.rows[1] == ("2. 5% of the neurons", "80", "+1.70", "+0.05", "+0.05", "+1.70")
    assert table.rows[2] == ("3. all", "–", "–", "+0.50", "+0.50", "–")
    assert {row for row, _ in table.marked} == {1}
    assert (
        "no other language more than +0.1. Reached." in table.note
        and "In Chinese there was no other text" in table.note
    )


def test_what_was_not_reached_is_said() -> None:
    (table,) = tables.candidates({**FOUND, "reached": False})
    assert "NOT reached: the way that was taken is the best of these." in table.note


def test_the_figure_has_a_point_a_way() -> None:
    pytest.importorskip("matplotlib")
    figure = draw.draw({"candidates": FOUND})["candidates"]
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"1", "2"}  # the third has no figure
    marks = {line.get_marker() for line in axes.lines if line.get_linestyle() == "None"}
    assert marks == {"o", "D"}
    assert draw.draw({"candidates": {**FOUND, "rows": FOUND["rows"][2:], "chosen": 0}}) == {}


ON: dict[str, Any] = {
    "kind": "on", "languages": ["es"], "target_accuracy": 0.9, "reached": True, "chosen": 0, "subset": True,
    "refused": {"neurons": "it has none."},
    "rows": [
        {"name": "tokens redirected", "neurons": 0, "gain": 1.0, "damage": 0.1, "interval": [0.9, 1.0], "answers": 24,
         "accuracy": 1.0, "perplexity": 12.5},
        {"name": "a vector", "neurons": 0, "gain": 0.5, "damage": 0.4, "answers": 6, "accuracy": 0.75, "perplexity": None},
    ],
}  # fmt: skip


def test_ways_to_answer_in_a_language() -> None:
    (table,) = tables.candidates(ON)
    assert table.title == "ways to make it answer in Spanish"
    assert table.rows[0] == ("1. tokens redirected", "0", "100% (90% to 100%)", "+0.10", "100%", "24", "12.5")
    assert table.rows[1][2:] == ("50%", "+0.40", "75%", "6", "–")
    assert (
        "Only the likeliest way of each kind" in table.note and "Not possible here: neurons: it has none." in table.note
    )
    assert "Asked for: 90% whole answers. Reached." in table.note
    assert "NOT reached by any way." in tables.candidates({**ON, "reached": False})[0].note
    (section,) = sections.sections({"candidates": ON})
    assert section.title == "Neurons, vectors or redirecting?" and section.finding == table.note
    assert sections.sections({"candidates": FOUND})[0].title == "What was tried"


def test_what_all_answers_come_to() -> None:
    row = {"answers": 48, "accuracy": 0.9, "whole": 0.8, "leaks": 0.02, "interval": [0.8, 0.97], "relevance": 0.3,
           "by_hundred": [1.0, 0.75]}  # fmt: skip
    said = generated.overall({"all": {"this model": row, "base": {"relevance": 0.5}}})
    assert said == (
        "In all: 90% of 48 answers (80% to 97% by chance), 80% whole besides, 2% with a letter of another script. Fewer than "
        "200: take it as a first look. By hundred tokens: 100%, 75%. Relevance, in nats a token: this model +0.30, the base "
        "+0.50."
    )
    assert "first look" not in generated.overall({"all": {"this model": {**row, "answers": 200}}})
    assert generated.overall({}) == generated.overall({"all": {"this model": {}}}) == ""


ASKED: dict[str, Any] = {
    "kind": "corpus", "by_language": {"en": {"this model": {"accuracy": 0.8}}},
    "all": {"this model": {"answers": 48, "accuracy": 0.8, "interval": [0.7, 0.9]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("saw", "said"),
    [
        (0.9, "Chance may be all"), (0.7, "Chance may be all"), (0.91, "more than chance: expect the second figure"),
        (0.69, "more than chance, to the better"),
    ],
)  # fmt: skip
def test_what_the_search_saw_beside_answers_to_prompts_of_another_kind(saw: float, said: str) -> None:
    search = {**ON, "rows": [{**ON["rows"][0], "accuracy": saw}]}
    sentence = beside(search, ASKED)
    assert sentence.startswith(f"The search saw {saw:.0%} of the answers") and "gives 80% on" in sentence
    assert said in sentence
    (section,) = (
        part for part in sections.sections({"candidates": search, "activated": ASKED}) if part.finding == sentence
    )
    assert section.name == "activated"


@pytest.mark.parametrize(
    ("search", "asked"),
    [
        (None, ASKED), (FOUND, ASKED), (ON, None), (ON, {**ASKED, "kind": "beginnings"}), (ON, {**ASKED, "all": None}),
        (ON, {**ASKED, "all": {"this model": {"interval": [0.5]}}}),
        (ON, {**ASKED, "all": {"this model": {"interval": ["x", 1.0]}}}),
        ({**ON, "rows": [{**ON["rows"][0], "accuracy": None}]}, ASKED), ({**ON, "chosen": 9}, ASKED),
    ],
)  # fmt: skip
def test_nothing_is_said_where_a_figure_is_missing(search: Any, asked: Any) -> None:
    assert beside(search, asked) == ""
