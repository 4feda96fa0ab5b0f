"""A few documents, written into files of every kind that a corpus is read from."""

import gzip
import json
from pathlib import Path
from typing import Any

from monoglot.editor.text.corpus import Text

DOCUMENTS = ["Un renard.\nDeux lignes.", "敏捷的棕色狐狸。", "Tiếng Việt có dấu."]


def write_jsonl(path: Path, documents: list[str] = DOCUMENTS) -> None:
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(documents))
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


def write_parquet(path: Path, documents: list[Any] = DOCUMENTS, column: str = "text") -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": list(range(len(documents))), column: documents}), path)


def text_of(documents: list[str], language: str = "en") -> Text:
    return Text(language, "a list", lambda: iter(documents))
