"""`OUT.gguf.convert.json`: what a GGUF file was converted from, and whether the steering survived.

{"format": 1, "monoglot": version, "checkpoint": {base, recipe: as the manifest has them}, "type": "q8_0",
 "file": {sha256, size}, "survival": null | {wanted, shares, kl, positions, faded}}
"""

from pathlib import Path
from typing import Any

from .checkpoint import parse_json
from .errors import CheckpointError, VerificationError

SUFFIX = ".convert.json"
LARGEST = 2**24  # bytes
KEYS = {"monoglot", "checkpoint", "type", "file", "survival"}


def beside(path: Path) -> Path:
    """`path` is that of the GGUF file."""
    return path.with_name(f"{path.name}{SUFFIX}")


def read(path: Path) -> dict[str, Any]:
    """What lies beside a GGUF file. Raises VerificationError when it is malformed."""
    file = beside(path)
    try:
        if file.stat().st_size > LARGEST:
            raise VerificationError(f"{file} is too large to be monoglot's. Convert the checkpoint again.")
        found = parse_json(file.read_bytes(), str(file))
    except CheckpointError as error:
        raise VerificationError(str(error)) from None
    if not isinstance(found, dict):
        raise VerificationError(f"{file} is malformed. Convert the checkpoint again.")
    whole = found.keys() >= KEYS and isinstance(found["file"], dict) and {"sha256", "size"} <= found["file"].keys()
    checkpoint = found.get("checkpoint")
    if not whole or not isinstance(checkpoint, dict) or not {"base", "recipe"} <= checkpoint.keys():
        raise VerificationError(f"{file} is malformed. Convert the checkpoint again.")
    return found
