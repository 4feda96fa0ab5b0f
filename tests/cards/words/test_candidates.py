"""A search among several ways, in words and as a figure."""

from typing import Any

import pytest

from monoglot.cards.figures import draw
from monoglot.cards.words import tables

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
