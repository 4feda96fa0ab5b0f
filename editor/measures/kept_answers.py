"""Answers that were paid for, kept until a run is at its end, so that the same run goes on where it was cut off.

A file of JSON lines: what the answers are of, then an answer a line. Of another model, engine, prompt or setting nothing is
taken; a last line that was cut off is passed over.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputError


class KeptAnswers:
    """The answers in a file, which is made with the first of them and removed by `done`. A None path keeps nothing."""

    def __init__(self, path: Path | None, made_of: Mapping[str, Any]) -> None:
        self.path = path
        self.head = json.dumps(made_of, sort_keys=True)
        self.found: dict[str, str] = {}
        self._begun = False
        with contextlib.suppress(OSError, ValueError):
            if path and not path.is_symlink():
                first, *lines = path.read_text(encoding="utf-8").split("\n")
                if first == self.head:
                    self._begun = True
                    self._take(lines)

    def _take(self, lines: list[str]) -> None:
        for line in lines[:-1]:  # after the last line break comes what was cut off
            with contextlib.suppress(ValueError, TypeError):
                key, text = json.loads(line)
                if isinstance(key, str) and isinstance(text, str):
                    self.found[key] = text

    @staticmethod
    def key(model: str, prompt: str) -> str:
        """Name the answer of a model to a prompt."""
        return hashlib.sha256(json.dumps([model, prompt]).encode()).hexdigest()

    def get(self, model: str, prompt: str) -> str | None:
        return self.found.get(self.key(model, prompt))

    def put(self, model: str, prompt: str, text: str) -> None:
        """Keep an answer. Raises OutputError."""
        if self.path is None:
            return
        line = json.dumps([self.key(model, prompt), text]) + "\n"
        try:
            if not self._begun:
                self.path.unlink(missing_ok=True)
                with self.path.open("x", encoding="utf-8") as file:
                    file.write(self.head + "\n")
                self._begun = True
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise OutputError(f"{self.path}, where answers are kept, cannot be written: {error.strerror}.") from None

    def done(self) -> None:
        """Remove the file: all that is in it stands in what was made of it."""
        if self.path:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
