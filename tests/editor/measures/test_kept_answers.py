"""Answers of an interrupted run: taken by the same run, by no other, whatever became of the file."""

import json
from pathlib import Path

import pytest

from monoglot.editor.errors import OutputError
from monoglot.editor.measures.kept_answers import KeptAnswers

OF = {"engine": "x", "tokens": 24}


def test_the_same_run_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    first = KeptAnswers(path, OF)
    assert not path.exists()
    first.put("base", "Hi\n", "an\nswer\u2028é")
    first.put("this", "Hi\n", "")
    again = KeptAnswers(path, dict(reversed(OF.items())))
    assert (again.get("base", "Hi\n"), again.get("this", "Hi\n"), again.get("base", "Hi")) == (
        "an\nswer\u2028é",
        "",
        None,
    )
    again.put("base", "more", "yes")
    assert len(KeptAnswers(path, OF).found) == 3
    again.done()
    assert not path.exists() and KeptAnswers(path, OF).found == {}
    again.done()


def test_another_run_takes_none(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    KeptAnswers(path, OF).put("base", "a", "b")
    other = KeptAnswers(path, {**OF, "tokens": 25})
    assert other.found == {}
    other.put("base", "a", "c")
    assert KeptAnswers(path, OF).found == {} and KeptAnswers(path, {**OF, "tokens": 25}).get("base", "a") == "c"


@pytest.mark.parametrize("end", ['["ab', "[1, 2]\n", "nonsense\n", "[]\n", "\n", '["a", "b", "c"]\n', "\x00"])
def test_a_file_that_was_cut_off(tmp_path: Path, end: str) -> None:
    path = tmp_path / "kept"
    KeptAnswers(path, OF).put("base", "a", "b")
    with path.open("a") as file:
        file.write(end)
    found = KeptAnswers(path, OF)
    assert list(found.found.values()) == ["b"]
    found.put("base", "x", "y")
    assert KeptAnswers(path, OF).get("base", "a") == "b"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", json.dumps(OF).encode()[:5]])
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kept").write_bytes(content)
    kept = KeptAnswers(tmp_path / "kept", OF)
    assert kept.found == {}
    kept.put("base", "a", "b")
    assert KeptAnswers(tmp_path / "kept", OF).get("base", "a") == "b"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / "kept").symlink_to("precious")
    KeptAnswers(tmp_path / "kept", OF).put("base", "a", "b")
    assert (tmp_path / "precious").read_text() == "x" and not (tmp_path / "kept").is_symlink()


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        KeptAnswers(tmp_path / "gone" / "kept", OF).put("base", "a", "b")
    none = KeptAnswers(None, OF)
    none.put("base", "a", "b")
    none.done()
    assert none.get("base", "a") is None
