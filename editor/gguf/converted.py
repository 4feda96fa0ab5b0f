"""`OUT.gguf.convert.json`: what a GGUF file was converted from, and whether the steering survived.

{"format": 1, "monoglot": version, "checkpoint": {base, recipe: as the manifest has them}, "type": "q8_0",
 "file": {sha256, size}, "survival": null | {wanted, shares, kl, positions, faded}}
"""

from pathlib import Path
from typing import Any

from ..errors import CheckpointError, VerificationError
from ..files.checkpoint import parse_json

SUFFIX = ".convert.json"
LARGEST = 2**24  # bytes
AGAIN = "Convert the checkpoint again."
KEYS = {"monoglot", "checkpoint", "type", "file", "survival"}


def beside(path: Path) -> Path:
    """`path` is that of the GGUF file."""
    return path.with_name(f"{path.name}{SUFFIX}")


def read(path: Path) -> dict[str, Any]:
    """What lies beside a GGUF file. Raises VerificationError when it is malformed."""
    file = beside(path)
    found = parsed(file, LARGEST, AGAIN)
    parts = {"file": {"sha256", "size"}, "checkpoint": {"base", "recipe"}}
    whole = isinstance(found, dict) and found.keys() >= KEYS
    if not whole or not all(
        isinstance(found[part], dict) and found[part].keys() >= keys for part, keys in parts.items()
    ):
        raise VerificationError(f"{file} is malformed. {AGAIN}")
    checked: dict[str, Any] = found
    return checked


def parsed(file: Path, largest: int, again: str) -> Any:
    """The JSON that lies beside a GGUF file; `again` says what to do where it can't be. Raises VerificationError."""
    try:
        if file.stat().st_size > largest:
            raise VerificationError(f"{file} is too large to be monoglot's. {again}")
        return parse_json(file.read_bytes(), str(file))
    except CheckpointError as error:
        raise VerificationError(str(error)) from None
    except OSError as error:
        raise VerificationError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from None


def edits(found: dict[str, Any]) -> str:
    """What was done to the checkpoint, in a few words: "deactivate zh, add fr"."""
    return ", ".join(f"{edit['op']} {edit['language']}" for edit in found["checkpoint"]["recipe"]["edits"])
