"""YAML as people write it, and as strangers do."""

import time

import pytest
import yaml

from monoglot.editor.errors import MalformedError
from monoglot.editor.files import yaml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-1", 0.1), ("1E5", 1e5), ("-1.5e+3", -1500.0), (".5e1", 5.0), ("2e0", 2.0), ("12", 12), ("1.5", 1.5), ("e1", "e1"),
     ("1e", "1e"),
     ("'1e-1'", "1e-1"), ("no", False), ("~", None), ("010", "010"), ("1:30", "1:30"), ("1_0", "1_0"), ("0x10", "0x10"),
     ("0b1", "0b1"), ("0o7", "0o7"), ("-3", -3), ("+3", 3), ("0", 0), ("-0.5", -0.5), ("00.5", "00.5"), ("5.", 5.0),
     ("0.1.2", "0.1.2"), (".inf", float("inf")), ("-.inf", -float("inf")), ("1:30.5", "1:30.5"), ("190:20:30", "190:20:30")],
)  # fmt: skip
def test_numbers_as_people_write_them(text: str, value: object) -> None:
    found = yaml_text.parse(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["1e-1", "12e345", "1.5e3", "no", "null", "~", "12", "0x1f", "1_000", "2020-01-01", "a: b", "x #y", "`", "| x |", "---",
     "two\nlines", "&a", "*a", "!!python/name:os.system", "\u202e", "'", '"', "", " x "],
)  # fmt: skip
def test_a_text_that_is_written_is_read_as_the_same_text(text: str) -> None:
    written = yaml_text.written({"a": text, text or "b": [text, 1, 0.1, None, True]})
    assert yaml_text.parse(written) == {"a": text, text or "b": [text, 1, 0.1, None, True]}


@pytest.mark.parametrize("text", ["a: 1\na: 2", "b: {c: 1, c: 2}", "- {a: 1, 'a': 2}"])
def test_a_key_twice(text: str) -> None:
    with pytest.raises(MalformedError, match="twice"):
        yaml_text.parse(text)


def test_aliases_are_read_while_they_are_few() -> None:
    assert yaml_text.parse("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [(BOMB, "more than 100,000 values"), ("a: &x [*x]", "contains itself"), ("[" * 150 + "]" * 150, "nested more than 100"),
     (" " * 2**20 + "a: 1", "characters")],
)  # fmt: skip
def test_bombs_are_refused_at_once(text: str, said: str) -> None:
    before = time.monotonic()
    with pytest.raises(MalformedError, match=said):
        yaml_text.parse(text)
    assert time.monotonic() - before < 5


def test_no_object_is_built() -> None:
    with pytest.raises(yaml.YAMLError):
        yaml_text.parse("!!python/object/apply:os.system ['true']")
