"""Files of every kind as documents: what is read, where long text is cut, and what is refused."""

import gzip
import json
from pathlib import Path

import pytest
from support.texts import write_jsonl, write_parquet

from monoglot.editor.errors import CorpusError
from monoglot.editor.text import documents
from monoglot.editor.text.documents import read_documents


def test_null_is_passed_over_and_nesting_refused_in_every_format(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a", None, " ", "b"])
    records = [{"text": "a"}, {"text": None}, {"text": " "}, {"text": "b"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "a.csv").write_text("text,id\na,1\n,2\n ,3\nb,4\n")
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        assert list(read_documents(tmp_path / name)) == ["a", "b"], name
    for nested in (["a"], {"a": "b"}, 1, True):
        (tmp_path / "n.jsonl").write_text(json.dumps({"text": nested}))
        with pytest.raises(CorpusError, match=r"line 1, has no field 'text' with a string in it"):
            list(read_documents(tmp_path / "n.jsonl"))
    write_parquet(tmp_path / "n.parquet", [["a"]])
    with pytest.raises(CorpusError, match=r"column 'text' holds list"):
        list(read_documents(tmp_path / "n.parquet"))


def test_a_line_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_RECORD", 10_000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b"a" * 10**6))
    with pytest.raises(CorpusError, match=r"line 1, is longer than 10,000 characters"):
        list(read_documents(tmp_path / "a.jsonl.gz"))


def test_blocks_of_a_text_file(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, spaces on an empty line, no line end at the end."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\nstill one\r\n\r\n  \t\r\n\r\ntwo\r\n\r\n three")
    assert list(read_documents(path)) == ["one\nstill one", "two", "three"]
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "  "}\r\n{"text": "two"}')
    path = path.rename(tmp_path / "a.jsonl")
    assert list(read_documents(path)) == ["one", "two"]


def test_long_blocks_are_cut_at_a_lines_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    lines = [f"{number:03} " + "x" * 995 for number in range(9)]  # 1000 characters each with the line's end
    path.write_text("\n".join(lines))
    assert list(read_documents(path)) == ["\n".join(lines[:4]), "\n".join(lines[4:8]), lines[8]]


def test_a_line_longer_than_a_document_is_cut_within(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("汉" * 9_000 + "\n\nend\n", encoding="utf-8")
    assert list(read_documents(path)) == ["汉" * 4_000, "汉" * 4_000, "汉" * 1_000, "end"]


def test_records_are_not_cut(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x" * 20_000])
    assert [len(document) for document in read_documents(tmp_path / "a.jsonl")] == [20_000]


def test_parquet_needs_a_column_of_strings(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a"], column="content")
    with pytest.raises(CorpusError, match=r"no column 'text'; it has id, content"):
        list(read_documents(tmp_path / "a.parquet"))
    write_parquet(tmp_path / "a.parquet", [1, 2])
    with pytest.raises(CorpusError, match=r"column 'text' holds int64, not strings"):
        list(read_documents(tmp_path / "a.parquet"))
    write_parquet(tmp_path / "a.parquet", ["a", None, " ", "b"])
    assert list(read_documents(tmp_path / "a.parquet")) == ["a", "b"]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize(
    ("content", "message"),
    [("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer"),
     ("<!DOCTYPE html><html><body>Sign in to read this text.</body></html>", "a web page"),
     ("\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page")],
)  # fmt: skip
def test_a_pointer_or_a_page_in_place_of_a_text(tmp_path: Path, suffix: str, content: str, message: str) -> None:
    """It would be measured as text in the language of its name."""
    path = tmp_path / f"fr{suffix}"
    path.write_text(content)
    with pytest.raises(CorpusError, match=message) as found:
        list(read_documents(path))
    assert str(path) in str(found.value)


@pytest.mark.parametrize("mark", [";", "|", "\t", ","])
def test_tables_of_spreadsheets(tmp_path: Path, mark: str) -> None:
    """A spreadsheet separates with semicolons where numbers have commas, and begins with a byte order mark."""
    rows = [("id", "text"), ("1,5", "un; deux | trois"), ("2", "quatre\ncinq")]
    content = "\r\n".join(mark.join(f'"{cell}"' for cell in row) for row in rows)
    (tmp_path / "fr.csv").write_text("\ufeff" + content, encoding="utf-8", newline="")
    assert list(read_documents(tmp_path / "fr.csv")) == ["un; deux | trois", "quatre\ncinq"]
    assert documents.columns(tmp_path / "fr.csv") == ["id", "text"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fr.csv").write_text("text,text\na,b\n")
    with pytest.raises(CorpusError, match=r"has 2 columns 'text'\. Leave one"):
        list(read_documents(tmp_path / "fr.csv"))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (gzip.compress(b"a", mtime=0), "gzip"),
        (b"PK\x03\x04\xff\xff", "zip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh\xff", "bzip2"),
    ],
)
def test_a_packed_file_is_called_so(tmp_path: Path, start: bytes, name: str) -> None:
    (tmp_path / "fr.txt").write_bytes(start + b"\xff\xfe")
    with pytest.raises(CorpusError, match=rf"fr\.txt is packed \({name}\)\. Unpack it"):
        list(read_documents(tmp_path / "fr.txt"))


@pytest.mark.parametrize(
    ("record", "kind"),
    [('["a"]', "a list"), ('"a"', "a string"), ("1.5", "a number"), ("true", "true or false"), ("null", "null")],
)
def test_a_line_that_is_no_object_is_called_what_it_is(tmp_path: Path, record: str, kind: str) -> None:
    (tmp_path / "fr.jsonl").write_text(record)
    with pytest.raises(CorpusError, match=rf"line 1, has no field 'text': it is {kind}, not an object"):
        list(read_documents(tmp_path / "fr.jsonl"))
