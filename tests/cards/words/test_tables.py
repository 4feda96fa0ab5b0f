"""What was measured as text: the right figure in the right cell, a dash where there is none, and nothing in it is markup."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support import measured

from monoglot.cards.words import amounts, generated, tables
from monoglot.cards.words.table import Table, grid, with_title

EVALUATION = measured.evaluation()


def cells(table: Table) -> dict[tuple[str, str], str]:
    """By the row's name and the column's."""
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert all(isinstance(text, str) for row in table.rows for text in row)
    return {(row[0], name): text for row in table.rows for name, text in zip(table.columns, row, strict=True)}


def test_the_matrix_holds_changes_and_then_perplexities() -> None:
    found = EVALUATION["perplexity"]
    changes, reached = tables.perplexity(found)
    shown, perplexities = cells(changes), cells(reached)
    for off, row in {**found["change"], "random neurons": found["random"]}.items():
        for text, nats in row.items():
            assert float(shown[off, text]) == pytest.approx(nats, abs=0.0051)
            assert (shown[off, text][0] in "+-") == (float(shown[off, text]) != 0)
            assert float(perplexities[off, text]) == pytest.approx(math.exp(found["base"][text] + nats), rel=0.01)
    assert ("en", "en") not in shown  # it has no neurons of its own
    assert shown["zh", "neurons"] == str(found["neurons"]["zh"]) and shown["random neurons", "neurons"] == "–"
    assert float(perplexities["nothing", "ja"]) == pytest.approx(math.exp(found["base"]["ja"]), rel=0.01)


def test_the_diagonal_is_marked_in_both() -> None:
    for table in tables.perplexity(EVALUATION["perplexity"]):
        marked = {(table.rows[row][0], table.columns[column]) for row, column in table.marked}
        assert marked == {(code, code) for code in EVALUATION["perplexity"]["change"]}


def test_dominance_is_said_in_words() -> None:
    words = tables.dominance(EVALUATION["perplexity"])
    assert words.startswith("91% of the damage falls on the language switched off; evenly spread it would be 14%.")
    assert words.endswith("0.00 by random neurons.")
    without = {**EVALUATION["perplexity"], "dominance": {"share": None, "diagonal": 0.5, "elsewhere": math.nan}}
    assert tables.dominance(without) == "Mean change: +0.50 on the language switched off."
    assert tables.dominance({"base": {}, "change": {}}) == ""


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, "x", True, 10**400])
def test_what_is_no_number_is_a_dash(nothing: Any) -> None:
    found = {"base": {"en": 3.0, "zh": nothing}, "change": {"en": {"en": nothing, "zh": 0.5}}}
    changes, reached = map(cells, tables.perplexity(found))
    assert changes["en", "en"] == "–" and changes["en", "zh"] == "+0.50"
    assert reached["en", "en"] == reached["en", "zh"] == reached["nothing", "zh"] == "–"


def test_layers_add_up_and_their_ends_are_told() -> None:
    (table,) = tables.profile({"width": 1000, "layers": {"en": [3, 0, 0, 1], "fr": [0, 0], "zh": []}})
    shown = cells(table)
    assert [shown[name, "en"] for name in ("0", "1", "2", "3", "all")] == ["3", "0", "0", "1", "4"]
    assert shown["3", "fr"] == "–" and shown["all", "zh"] == "0"
    assert table.note.startswith("In the first and the last quarter of the layers lie en 100%; evenly spread 50%.")
    assert "1,000 neurons" in table.note


def test_overlap_is_a_count_with_jaccard() -> None:
    shown = cells(tables.overlap(EVALUATION["overlap"])[0])
    found = EVALUATION["overlap"]
    assert shown["zh", "ja"] == f"{found['shared']['zh']['ja']} ({found['jaccard']['zh']['ja']:.2f})"
    assert shown["zh", "zh"] == "–" and shown["zh", "neurons"] == str(found["neurons"]["zh"])


def test_similarity_names_the_pairs_at_both_ends() -> None:
    found = {"pairs": {"en-zh": [0.5, 0.1], "en-fr": [0.25, math.nan], "zh-fr": [0.75]}, "mean": [0.5, 0.1], "texts": 2}
    (table,) = tables.similarity({**found, "unrelated": [0.125]})
    assert table.columns == ("layer", "mean", "unrelated texts", "least alike", "most alike")
    assert table.rows == (
        ("0", "0.500", "0.125", "en-fr 0.250", "zh-fr 0.750"), ("1", "0.100", "–", "en-zh 0.100", "en-zh 0.100"),
    )  # fmt: skip
    assert "unrelated texts" not in tables.similarity({**found, "unrelated": None})[0].columns


def test_answers_are_a_row_a_model() -> None:
    (table,) = generated.generation(EVALUATION["activated"])
    assert table.title == "answers in French"
    assert [row[:2] for row in table.rows[:4]] == [
        ("en", "base"), ("en", "this model"), ("en", "random neurons"), ("en", "real text"),
    ]  # fmt: skip
    assert table.columns[2:] == (
        "in the language", "and whole", "LPR", "LCPR", "perplexity", "repeated 3-grams", "quality, 1–5"
    )  # fmt: skip
    assert table.rows[1][2:] == ("93%", "85%", "93%", "93%", "41.2", "8%", "3.6")
    assert table.rows[3][2:] == ("–", "–", "–", "–", "23.4", "1%", "–")
    assert {row for row, _ in table.marked} == set(range(1, len(table.rows), 4))
    assert "LCPR: " in table.note and "WPR: " not in table.note


def test_wanted_is_the_prompt_s_own_language_or_another() -> None:
    assert generated.wanted({"wanted": {"en": ["en"], "zh": ["zh"]}}) == "the prompt's own language"
    assert generated.wanted({"wanted": {"en": ["fr"], "fr": ["fr"]}}) == "French"
    asked = {**EVALUATION["activated"], "answer_in": "fr"}
    assert generated.generation(asked)[0].title == "answers in French, asked for in so many words"


def test_on_a_card_lines_and_words_are_a_table_of_their_own() -> None:
    first, second = generated.answers(EVALUATION["activated"])
    assert len(first.columns) == 9 and len(first.rows) == len(second.rows) == 6
    assert second.columns[1:4] == ("LPR, base", "LPR, this model", "LPR, random neurons")
    assert not any(name.startswith("WPR") for name in second.columns)  # French is in Latin script
    older = {"by_language": {"en": {"base": {"accuracy": 0.5}, "this model": {"accuracy": 1.0}}}}
    (only,) = generated.answers(older)
    assert "random neurons" not in only.columns  # nobody measured it
    assert only.rows == (("en", "–", "50%", "100%", "–", "–", "–", "–"),)


def test_answers_with_a_language_off_are_a_matrix_a_measure() -> None:
    accuracy, whole, lcpr = generated.deactivate_each(EVALUATION["deactivate_each"])
    shown = cells(accuracy)
    assert [row[0] for row in accuracy.rows] == ["nothing", "random neurons", *measured.SEVEN[1:]]
    assert shown["zh", "zh"] == "20%" and cells(whole)["zh", "zh"] == "12%" and cells(lcpr)["zh", "zh"] == "20%"
    assert {(accuracy.rows[row][0], accuracy.columns[at]) for row, at in accuracy.marked} == {
        (code, code) for code in measured.SEVEN[1:]
    }


def test_methods_stand_side_by_side() -> None:
    rows, alike = tables.methods(EVALUATION["methods"])
    shown = cells(rows)
    assert shown["lap", "neurons"] == "1,368" and shown["lap", "damage on the diagonal"] == "–"
    assert shown["lape", "damage on the diagonal"] == "80%" and shown["lape", "change there"] == "+1.00"
    assert "elsewhere" not in rows.columns  # nobody said
    assert cells(alike)["lape", "lap"] == cells(alike)["lap", "lape"] == "0.41 / –"


def test_the_curve_ends_with_the_checkpoint() -> None:
    (table,) = generated.strength(measured.strength())
    names = ["0 (the base)", "0.5, by hooks", "1, by hooks", "1.5, by hooks", "1.5, this checkpoint"]
    assert [row[0] for row in table.rows] == names
    assert table.rows[-1][1:] == ("93%", "85%", "55", "8%", "0.75")
    assert table.marked == {(4, 0)}


def test_every_gives_those_that_were_measured() -> None:
    assert tables.every({}) == []
    assert [table.title for table in tables.every({"profile": EVALUATION["profile"], "overlap": {}})] == [
        "neurons per layer"
    ]
    whole = tables.every(EVALUATION, measured.strength())
    assert len(whole) == 2 + 3 + 1 + 1 + 1 + 1 + 1 + 2
    for table in whole:
        cells(table)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20) | st.text(
    "|\\*_`<>[]()~&$!#", max_size=8
)


@given(
    st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3), st.sets(st.tuples(st.integers(0, 2), st.integers(0, 1)))
)
def test_markdown_gives_back_the_text_and_nothing_else(
    rows: list[tuple[str, str]], marked: set[tuple[int, int]]
) -> None:
    table = Table("t", ("a", "b"), tuple(rows), marked=frozenset(marked))
    tokens = MarkdownIt("commonmark").enable("table").parse(grid(table))
    shown = [token.children or [] for token in tokens if token.type == "inline"]
    assert tokens[0].type == "table_open" and tokens[-1].type == "table_close"
    assert len(shown) == 2 + 2 * len(rows)
    for at, inline in enumerate(shown[2:]):
        text = " ".join(rows[at // 2][at % 2].split())
        assert {child.type for child in inline} <= {"text", "text_special", "strong_open", "strong_close"}
        assert "".join(child.content for child in inline) == text
        assert any(child.type == "strong_open" for child in inline) <= ((at // 2, at % 2) in marked)


def test_a_table_in_markdown_has_its_title_and_note() -> None:
    text = with_title(Table("a*b", ("x", "y"), (("1", ""), ("<i>", "2")), "a note", frozenset({(0, 0), (0, 1)})))
    assert text == "**a\\*b**\n\n| x | y |\n|---|---|\n| **1** |  |\n| \\<i\\> | 2 |\n\na note"


def test_amounts_are_short() -> None:
    assert [amounts.perplexity_figure(value) for value in (3.14159, 99.96, 1234.5, 5e20)] == [
        "3.14",
        "100",
        "1,234",
        "5.0e+20",
    ]
    assert [amounts.change(value) for value in (0.004, -0.004, 0.5, -12.345)] == ["0.00", "0.00", "+0.50", "-12.35"]
    assert amounts.share(0.125) == "12%" and amounts.count(12345.0) == "12,345"
