"""What a search has tried already is kept, and what is of another search, or damaged, is not taken for it."""

from pathlib import Path

import pytest

from monoglot.editor.measures.tried import Tried


def test_rows_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "work" / "search.json"
    Tried(path, ["off", "zh"]).put("1 %", {"zh": 1.5})
    assert Tried(path, ["off", "zh"]).get("1 %") == {"zh": 1.5}
    assert Tried(path, ["off", "zh"]).get("2 %") is None


def test_another_search_starts_anew(tmp_path: Path) -> None:
    Tried(tmp_path / "search.json", ["off", "zh"]).put("1 %", {"zh": 1.5})
    assert Tried(tmp_path / "search.json", ["off", "ja"]).get("1 %") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"rows": []}', "\x00", '{"format": 1, "of": "x", "rows": {"1 %": 1}}']
)
def test_a_damaged_file_starts_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "search.json"
    path.write_text(text)
    kept = Tried(path, ["off", "zh"])
    assert kept.get("1 %") is None
    kept.put("1 %", {"zh": 1.0})
    assert Tried(path, ["off", "zh"]).get("1 %") == {"zh": 1.0}
