"""A README.md as text: what is monoglot's on it, what a person's, and that the one never takes the other's place."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from monoglot.editor.errors import CardError
from monoglot.editor.files import card_text


def place(name: str) -> str:
    return f"<!-- monoglot: yours, {name}. What you write here stays. -->\n{card_text.END}\n"


BODY = f"# Title\n\nSummary.\n\n{place('about')}\nMore.\n\n{place('notes')}"
TEXT = f"---\nlicense: mit\ntags:\n- a\n---\n{BODY}"


def test_metadata_and_body() -> None:
    assert card_text.split(TEXT) == ({"license": "mit", "tags": ["a"]}, BODY)
    assert card_text.split(f"\ufeff{TEXT}") == card_text.split(TEXT)
    assert card_text.split("---\n---\nx") == ({}, "x")
    assert card_text.split("no metadata\n---\nx") == ({}, "no metadata\n---\nx")
    windows = card_text.split(TEXT.replace("\n", "\r\n"))
    assert windows == ({"license": "mit", "tags": ["a"]}, BODY.replace("\n", "\r\n"))
    assert card_text.split("---\na: b\n---") == ({"a": "b"}, "")
    assert card_text.split("---\na: '---'\n---\nx") == ({"a": "---"}, "x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("---\nlicense: mit\n", "is not closed"),
        ("---\nlicense: [\n---\n", "is no YAML"),
        ("---\nlicense: a\nx: b: c\n---\n", "in line 3"),
        ("---\nlicense: mit\nlicense: gpl\n---\n", "license twice"),
        ("---\n- a\n---\n", "is no mapping"),
        ("---\ntext\n---\n", "is no mapping"),
        ("---\na: &x [*x]\n---\n", "cannot be read"),
        ("---\n? [a]\n: b\n---\n", "no YAML"),
        ("---\n2024-01-01: b\n---\n", "cannot be read"),
        ("---\na: !!python/object:os.system x\n---\n", "no YAML"),
        ("---\na: \x07\n---\n", "cannot be read"),
    ],
)
def test_metadata_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(CardError, match=words):
        card_text.split(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for one in (text, f"---\n{text}\n---\n{text}"):
        try:
            metadata, body = card_text.split(one)
        except CardError as error:
            assert str(error).endswith(".")
        else:
            assert one.endswith(body) and isinstance(metadata, dict)
            assert card_text.untouched(body, card_text.memory(one))


@given(
    st.dictionaries(
        st.sampled_from(["about", "notes"]), st.text().filter(lambda text: "monoglot:" not in text and "\r" not in text)
    )
)
def test_what_is_written_into_the_places_comes_back_and_does_not_count(contents: dict[str, str]) -> None:
    body = card_text.filled(BODY, contents)
    assert card_text.places(body) == {name: text for name, text in contents.items() if text.strip()}
    assert card_text.untouched(body, card_text.memory(TEXT))
    assert card_text.filled(BODY, card_text.places(body)) == card_text.filled(
        BODY, {name: text for name, text in contents.items() if text.strip()}
    )


@pytest.mark.parametrize(
    ("body", "same"),
    [
        (BODY.replace("\n", "\r\n"), True),
        (BODY.replace("Summary.", "Summary.  \t"), True),
        (BODY + "\n\n", True),
        (BODY.replace("Summary.", "Summary!"), False),
        (BODY.replace("More.", ""), False),
        (BODY.replace(card_text.END, "", 1), False),
        (BODY.replace("yours, about", "yours, abut"), False),
        (f"{BODY}\nAt the end.", False),
    ],
)
def test_what_counts_as_untouched(body: str, same: bool) -> None:
    assert card_text.untouched(body, card_text.memory(TEXT)) is same
    assert not card_text.untouched(body, {})


def test_a_missing_end_loses_nothing() -> None:
    """The place then reaches to the next end, which is not what monoglot wrote."""
    body = BODY.replace(card_text.END, "mine\n", 1)
    assert "More." in card_text.places(body)["about"] and not card_text.untouched(body, card_text.memory(TEXT))


def test_marks_of_a_base_s_card_go_and_its_words_stay() -> None:
    body = card_text.filled(BODY, {"about": "Mine.\n"})
    bare = card_text.unmarked(body)
    assert "monoglot:" not in bare and "Mine.\n" in bare and "More." in bare
    assert "monoglot:" not in card_text.unmarked(body.replace("\n", "\r\n"))


WROTE: dict[str, Any] = {"license": "other", "license_name": "x", "tags": ["a", "b"], "language": ["en"]}
NEW = {**WROTE, "license_name": "y", "tags": ["a"], "pipeline_tag": "p"}  # of a later rendering
REMEMBERED = card_text.memory(f"---\n{yaml.safe_dump(WROTE, sort_keys=False)}---\n")


@pytest.mark.parametrize(
    ("current", "merged"),
    [
        (WROTE, NEW),
        (WROTE | {"license": "mit"}, NEW | {"license": "mit"}),
        (WROTE | {"tags": ["a", "b", "c"]}, NEW | {"tags": ["a", "b", "c"]}),
        (
            {key: WROTE[key] for key in WROTE if key != "license_name"},
            {key: NEW[key] for key in NEW if key != "license_name"},
        ),
        (WROTE | {"co2": 3, False: 1}, NEW | {"co2": 3, False: 1}),
    ],
)
def test_what_a_person_changed_in_the_metadata_wins(current: dict[Any, Any], merged: dict[Any, Any]) -> None:
    assert card_text.merged(NEW, current, REMEMBERED) == merged
