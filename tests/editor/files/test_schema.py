"""Data held against types: what fits is read, what does not is named with its place, and writing gives the same."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import pytest

from monoglot.editor.errors import MalformedError
from monoglot.editor.files import json_text, schema
from monoglot.editor.files.schema import Count, Figure, FileName, Sha256


class Row(TypedDict):
    name: str


@dataclass(frozen=True)
class Inner:
    size: Count
    share: Annotated[float, schema.Range(0, 1)] = 0.5


@dataclass(frozen=True)
class Whole:
    text: str
    kind: Literal["a", "b"]
    inner: Inner
    files: dict[FileName, Sha256]
    rows: tuple[Row, ...]
    pair: tuple[int, int] | None
    figure: Figure
    yes: bool
    free: Any
    last: str | None = None


GOOD: dict[str, Any] = {
    "text": "x", "kind": "a", "inner": {"size": 3, "share": 1}, "files": {"a/b.json": "0" * 64},
    "rows": [{"name": "n", "more": 1}],    "pair": [1, 2], "figure": float("nan"), "yes": True, "free": {"x": [None]},
}  # fmt: skip


def test_what_fits_is_read_and_written_as_it_was() -> None:
    found = schema.read(Whole, GOOD)
    assert found.inner == Inner(3, 1) and found.pair == (1, 2) and found.last is None
    assert json.dumps(schema.to_data(found)) == json.dumps(GOOD)
    assert schema.read(Whole, {**GOOD, "inner": {"size": 3}}).inner.share == 0.5
    assert schema.read(Whole, {**GOOD, "pair": None}).pair is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": 3}, "text is not a text: it is 3"),
        ({"kind": "c"}, "kind is not one of a, b: it is 'c'"),
        ({"inner": []}, "inner is not a mapping: it is a list"),
        ({"inner": {}}, "inner has no size"),
        ({"inner": {"size": True}}, "inner.size is not a whole number: it is True"),
        ({"inner": {"size": -1}}, "inner.size is not a number from 0: it is -1"),
        ({"inner": {"size": 1, "share": 1.5}}, "inner.share is not a number from 0 up to 1: it is 1.5"),
        ({"inner": {"size": 1, "share": float("inf")}}, "inner.share is not a finite number: it is inf"),
        ({"inner": {"size": 1, "more": 2}}, "inner has the unknown key 'more'; known: share, size"),
        ({"files": {"../x": "0" * 64}}, "a name in files is not the name of a file in this folder: it is '../x'"),
        ({"files": {"a": "0"}}, "files.a is not a sha256 in hex: it is '0'"),
        ({"rows": {}}, "rows is not a list: it is a mapping"),
        ({"rows": [{}]}, "rows[0] has no name"),
        ({"pair": [1]}, "pair is not a list of 2: it is a list"),
        ({"figure": "1"}, "figure is not a number: it is '1'"),
        ({"yes": 1}, "yes is not true or false: it is 1"),
        ({"extra": 1}, "it has the unknown key 'extra'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(MalformedError) as error:
        schema.read(Whole, {**GOOD, **change})
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a/..", "", ".", "a//b", "a\\b", "C:a", "a\nb", "./a"])
def test_names_stay_in_their_folder(name: str) -> None:
    with pytest.raises(MalformedError):
        schema.read(Whole, {**GOOD, "files": {name: "0" * 64}})


@pytest.mark.parametrize(
    ("text", "said"),
    [(b'{"a": 1, "a": 1}', "twice"), (b"[" * 300 + b"]" * 300, "too deeply"), (b"[" * 10**5, "too deeply"),
     (b'"\\ud800"', "surrogate")],
)  # fmt: skip
def test_json_that_nothing_should_read(text: bytes, said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        json_text.parse(text)
