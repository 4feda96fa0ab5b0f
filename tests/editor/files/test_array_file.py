"""Files of arrays: what is missing, of another kind, of another version or damaged is told in the kind's own words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from monoglot.editor.errors import StatisticsError
from monoglot.editor.files.array_file import ArrayFile

KIND = ArrayFile("vocabulary", 3, "list of words", "Make one by hand.", "write it again")


@dataclass(frozen=True)
class Head:
    version: int
    words: int


def read(path: Path) -> int:
    with KIND.reading(path, Head) as (head, file):
        return int(head.words + file.get_tensor("array").sum())


def save(path: Path, text: str, key: str = "monoglot_vocabulary") -> Path:
    save_file({"array": np.arange(3)}, path, metadata={key: text})
    return path


def test_what_it_says_and_its_arrays(tmp_path: Path) -> None:
    assert read(save(tmp_path / "a", '{"version": 3, "words": 4}')) == 7


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("{}", "other", r"is not a list of words\. Make one by hand\."),
        ("{}", "monoglot_statistics", "statistics"),
        ('{"version": 4, "words": 1}', "monoglot_vocabulary",
         r"has format 4, this version reads 3\. Upgrade monoglot, or write it again\."),
        ("[]", "monoglot_vocabulary", "has format None"),
        ('{"version": 3}', "monoglot_vocabulary", r"is damaged \(.*words.*\)\. Write it again\."),
        ("{", "monoglot_vocabulary", r"is damaged \(.*\)\. Write it again\."),
    ],
)  # fmt: skip
def test_what_is_none(tmp_path: Path, text: str, key: str, said: str) -> None:
    with pytest.raises(StatisticsError, match=said):
        read(save(tmp_path / "a", text, key))


def test_missing_cut_and_found_wrong_by_the_reader(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match=r"there is no list of words .*/none\. Make one by hand\."):
        read(tmp_path / "none")
    path = save(tmp_path / "a", '{"version": 3, "words": 4}')
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StatisticsError, match="is damaged"):
        read(path)
    with (
        pytest.raises(StatisticsError, match=r"is damaged \(the words are odd\)"),
        KIND.reading(save(tmp_path / "b", '{"version": 3, "words": 4}'), Head),
    ):
        raise ValueError("the words are odd")
