"""What a search has tried already, in a file beside the statistics, so that an interrupted search goes on where it was.

    {"format": 1, "of": digest, "rows": {key: row}}

`of` is the digest of all that a row depends on: model, texts, prompts, settings and version. A file of something else, or
one that cannot be read, is started anew.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import MalformedError
from ..files import json_text
from ..files.output import replace_file
from ..version import VERSION

FILE = "search.json"
FORMAT = 1


class Tried:
    """The rows of one search, by key. Each is written as soon as it is there."""

    def __init__(self, path: Path, of: Any) -> None:
        self.path = path
        self.of = hashlib.sha256(json.dumps([VERSION, of], sort_keys=True).encode()).hexdigest()
        self.rows: dict[str, Any] = _read(path, self.of)

    def get(self, key: str) -> Any | None:
        """Return the row of a key, None where it was not tried yet."""
        return self.rows.get(key)

    def put(self, key: str, row: Any) -> None:
        """Keep a row."""
        self.rows[key] = row
        data = {"format": FORMAT, "of": self.of, "rows": self.rows}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, (json.dumps(data, ensure_ascii=False) + "\n").encode())


def _read(path: Path, of: str) -> dict[str, Any]:
    try:
        data = json_text.parse(path.read_bytes())
    except (OSError, MalformedError, ValueError, RecursionError):
        return {}
    whole = isinstance(data, dict) and data.get("format") == FORMAT and data.get("of") == of
    rows = data.get("rows") if whole else None
    return dict(rows) if isinstance(rows, dict) else {}
