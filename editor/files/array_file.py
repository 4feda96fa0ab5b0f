"""Files of arrays that monoglot writes: safetensors whose metadata say, as JSON under one key, what the arrays are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import MalformedError, StatisticsError
from . import json_text, kinds, schema

T = TypeVar("T")


@dataclass(frozen=True)
class ArrayFile:
    """One kind of these files, a key of `kinds.METADATA`: its version, and what its messages call it and advise.

    `made` says how one comes about, as a sentence; `again` what makes it anew, as the end of one.
    """

    kind: str
    version: int
    called: str
    made: str
    again: str

    @contextmanager
    def reading(self, path: Path, head: type[T]) -> Iterator[tuple[T, Any]]:
        """Open a file: what its metadata say as a `head`, and safetensors' handle of the arrays.

        Raises StatisticsError when it is missing, is not one, or has another version; and when what is done with it finds
        that it is damaged, by any of the errors that reading raises.
        """
        from safetensors import SafetensorError, safe_open

        key = kinds.METADATA[self.kind]
        if not path.is_file():
            raise StatisticsError(f"there is no {self.called} {path}. {self.made}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if key not in metadata:
                    raise StatisticsError(
                        kinds.instead(path, self.kind) or f"{path} is not a {self.called}. {self.made}"
                    )
                data = json_text.parse(metadata[key].encode())
                if not isinstance(data, dict) or data.get("version") != self.version:
                    version = data.get("version") if isinstance(data, dict) else None
                    raise StatisticsError(
                        f"{path} has format {version}, this version reads {self.version}. Upgrade monoglot, or {self.again}."
                    )
                yield schema.read(head, data), file
        except (SafetensorError, MalformedError, KeyError, TypeError, ValueError, IndexError, OSError) as error:
            again = self.again[0].upper() + self.again[1:]
            raise StatisticsError(kinds.instead(path, self.kind) or f"{path} is damaged ({error}). {again}.") from None
