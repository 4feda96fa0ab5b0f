"""The documents of a file, as a stream: .txt, .jsonl, .jsonl.gz, .csv, .tsv and .parquet.

A document is a record's field `text`, however long, or a block between empty lines of a .txt file. A long block is cut at
the end of a line after about 4,000 characters, or within a line that is longer than that.

In every format a record whose text is null or blank is passed over. A record or a file without the field `text`, and a text
that is no string, is an error with its place. So is text that was decoded in the wrong way (see `encoding`).
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import CheckpointError, CorpusError
from ..files.companions import check_content
from .encoding import encoding_of, rightly_decoded

FIELD = "text"
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet")
DOCUMENT_CHARACTERS = 4_000
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
LONGEST_RECORD = 64 * 2**20  # characters of a line: a few kilobytes of .gz can unpack to gigabytes


def suffix_of(path: Path) -> str | None:
    """Return the suffix by which a file is read, None for a file that is not read."""
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)


def read_documents(path: Path, warned: set[str] | None = None) -> Iterator[str]:
    """Yield the documents of one file. Raises CorpusError with the file, and the line if one is to blame.

    Warns of documents that were decoded wrongly and are left out, where the file is not among those `warned` of.
    """
    readers = {
        ".txt": _read_txt, ".jsonl": _read_jsonl, ".jsonl.gz": _read_jsonl, ".csv": _read_csv, ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }  # fmt: skip
    try:
        check_content(path)
        documents = readers[suffix_of(path) or ".txt"](path)
        yield from rightly_decoded(documents, str(path), set() if warned is None else warned)
    except CheckpointError as error:  # a pointer of Git LFS, or a web page
        raise CorpusError(str(error)) from None
    except UnicodeDecodeError as error:
        if path.suffix != ".gz" and (packed := _packed(path)):
            raise CorpusError(f"{path} is packed ({packed}). Unpack it, or name it .jsonl.gz if it is that.") from None
        line, sample = _undecodable_line(path)
        likely = encoding_of(sample)
        convert = f"iconv -f {likely} -t UTF-8" if likely else "iconv"
        raise CorpusError(
            f"{path}{f', line {line},' if line else ''} is not UTF-8 ({error.reason})"
            f"{f'; it looks like {likely}' if likely else ''}. Convert it, for example with {convert}."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None


def text_of(record: Any, place: str) -> Iterator[str]:
    """Yield a record's text, or nothing where it is null or blank. Raises CorpusError, which says the `place`."""
    if not isinstance(record, dict) or FIELD not in record:
        has = f"; it has {', '.join(map(str, list(record)[:20]))}" if isinstance(record, dict) and record else ""
        if not isinstance(record, dict):
            has = f": it is {_kind(record)}, not an object"
        raise CorpusError(f"{place} has no field '{FIELD}'{has}.")
    text = record[FIELD]
    if text is None:
        return
    if not isinstance(text, str):
        raise CorpusError(f"{place} has no field '{FIELD}' with a string in it: it holds {_kind(text)}.")
    try:
        text.encode()  # half of a surrogate pair is JSON, but no tokenizer takes it
    except UnicodeEncodeError as error:
        raise CorpusError(f"{place} has a broken character: {error.reason}.") from None
    if text.strip():
        yield text.strip()


def _packed(path: Path) -> str | None:
    """Name the format that a file's first bytes are of, where it is one that packs files."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((name for mark, name in PACKED.items() if start.startswith(mark)), None)


def _kind(value: Any) -> str:
    """Call a value what JSON calls it."""
    names = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        int: "a number",
        float: "a number",
        str: "a string",
    }
    return names.get(type(value), "null" if value is None else "something else")


def _undecodable_line(path: Path) -> tuple[int, bytes]:
    """Return the first line that is not UTF-8, counted from 1, and the file's first bytes.

    The decoder works in blocks and does not know the line. A file without lines gives 0.
    """
    if path.suffix == ".parquet":
        return 0, b""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        sample = file.read(2**16)
        file.seek(0)
        number = 1
        while line := file.readline(LONGEST_RECORD):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number, sample
            number += 1
    return 0, sample


def _opened(path: Path) -> TextIO:
    """Open a text file, unpacked where it is packed."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig", newline="" if path.suffix in (".csv", ".tsv") else None)


def _read_txt(path: Path) -> Iterator[str]:
    block: list[str] = []
    size = 0
    with _opened(path) as file:
        while line := file.readline(DOCUMENT_CHARACTERS):
            if line.strip():
                block.append(line)
                size += len(line)
            if block and (not line.strip() or size >= DOCUMENT_CHARACTERS):
                yield "".join(block).strip()
                block, size = [], 0
    if block:
        yield "".join(block).strip()


def _read_jsonl(path: Path) -> Iterator[str]:
    with _opened(path) as file:
        number = 0
        while line := file.readline(LONGEST_RECORD):
            number += 1
            if len(line) == LONGEST_RECORD:
                raise CorpusError(f"{path}, line {number}, is longer than {LONGEST_RECORD:,} characters.")
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{path}, line {number}, is not JSON: {error}.") from None
            yield from text_of(record, f"{path}, line {number},")


def columns(path: Path) -> list[str]:
    """Return the names in the first line of a .csv or .tsv file, none where that line can't be read."""
    try:
        with _opened(path) as file:
            return next(_rows(path, file), [])
    except (OSError, ValueError, csv.Error):
        return []


def _rows(path: Path, file: TextIO) -> Iterator[list[str]]:
    """Read a table; of .csv files some have semicolons, as spreadsheets write them where a comma stands in numbers."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    first = file.readline(LONGEST_RECORD)
    file.seek(0)
    if path.suffix == ".csv" and FIELD not in next(csv.reader([first]), []):
        delimiter = next((mark for mark in ";\t|" if FIELD in next(csv.reader([first], delimiter=mark), [])), delimiter)
    return csv.reader(file, delimiter=delimiter, strict=True)


def _read_csv(path: Path) -> Iterator[str]:
    csv.field_size_limit(LONGEST_RECORD)
    with _opened(path) as file:
        rows = _rows(path, file)
        try:
            names = next(rows, [])
            if FIELD not in names:
                raise CorpusError(f"{path} has no column '{FIELD}'; it has {', '.join(names[:20]) or 'none'}.")
            if names.count(FIELD) > 1:
                raise CorpusError(f"{path} has {names.count(FIELD)} columns '{FIELD}'. Leave one of them.")
            for number, row in enumerate(rows, start=2):
                if row:
                    yield from text_of(dict(zip(names, row, strict=False)), f"{path}, row {number},")
        except csv.Error as error:
            raise CorpusError(f"{path} is not readable as {path.suffix}: {error}.") from None


def _read_parquet(path: Path) -> Iterator[str]:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError:
        raise CorpusError(f"reading {path} needs pyarrow: pip install 'monoglot[datasets]'.") from None
    try:
        file = parquet.ParquetFile(path)
        if "text" not in file.schema_arrow.names:
            raise CorpusError(f"{path} has no column 'text'; it has {', '.join(file.schema_arrow.names)}.")
        kind = file.schema_arrow.field("text").type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(kind) or types.is_large_string(kind)):
            raise CorpusError(f"{path}: the column 'text' holds {kind}, not strings.")
        for batch in file.iter_batches(batch_size=256, columns=["text"]):
            for text in batch.column(0).to_pylist():
                yield from text_of({FIELD: text}, str(path))
    except ArrowException as error:
        raise CorpusError(f"{path} is not a readable parquet file: {str(error).rstrip('.')}.") from None
