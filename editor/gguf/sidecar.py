"""`OUT.gguf.json`: what a GGUF file was made from, what was done to it, and what was proved about it.

    {"format": 1, "monoglot": version, "base": {name, sha256, size, architecture, layers, width},
     "recipe": {shared, edits}, "neurons": {sha256, model: null | {name, fingerprint}}, "edited": {"zh": 53},
     "kept": {"zh": 12}, "neurons_edited": 53, "cleared": [[3, 17], … one per layer],
     "file": {sha256, size}, "certificate": null | {bytes: {passed, …}}}

It lies beside the file, as a GGUF's own header stays as it was. It holds no time, no path and no user's name, so the same
inputs give the same file.
"""

import json
from pathlib import Path
from typing import Any

from ..edits import recipe as recipe_file
from ..errors import CheckpointError, RecipeError, VerificationError
from ..files.checkpoint import parse_json
from ..files.output import replace_file
from . import converted

FORMAT = 1
LARGEST = 2**28  # bytes


def sidecar_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def serialise(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def write(path: Path, record: dict[str, Any]) -> None:
    """`path` is that of the GGUF file. Raises OutputError."""
    replace_file(sidecar_of(path), serialise(record))


def is_ours(sidecar: Path) -> bool:
    """Whether a file is a sidecar that monoglot wrote, whichever version."""
    try:
        data = parse_json(sidecar.read_bytes(), str(sidecar)) if sidecar.stat().st_size <= LARGEST else None
    except (OSError, CheckpointError):
        return False
    return isinstance(data, dict) and {"format", "monoglot", "base", "file"} <= data.keys()


def read(path: Path) -> dict[str, Any]:
    """What lies beside the GGUF file `path`, checked. Raises VerificationError when either is missing, when it is malformed,
    or of an unknown format."""
    sidecar = sidecar_of(path)
    if not path.is_file():
        raise VerificationError(f"there is no file {path}. Name a GGUF file that monoglot wrote.")
    if not sidecar.is_file() and converted.beside(path).is_file():
        raise VerificationError(
            f"{path} was converted from a checkpoint, and `monoglot inspect` says from which. Verify the checkpoint, with "
            "--runtime llama.cpp to see what llama.cpp makes of it."
        )
    if not sidecar.is_file():
        raise VerificationError(f"{path} has no {sidecar.name} beside it: it was not made by monoglot, or lost it.")
    record = converted.parsed(sidecar, LARGEST, "Bake the file again.")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise VerificationError(f"{sidecar} has format {found!r}, this version reads {FORMAT}. Upgrade monoglot.")
    try:
        _check(record)
    except (KeyError, TypeError, ValueError, AttributeError, RecipeError) as error:
        raise VerificationError(
            f"{sidecar} is malformed ({type(error).__name__}: {error}). Bake the file again with `force`."
        ) from None
    return record


def _check(record: dict[str, Any]) -> None:
    """Raise one of many errors when something that is used isn't what it should be."""
    base, file = record["base"], record["file"]
    texts = (record["monoglot"], base["name"], base["sha256"], base["architecture"], file["sha256"])
    whole = (base["size"], base["layers"], base["width"], file["size"], record["neurons_edited"])
    recipe = recipe_file.of_data({**record["recipe"], "format": recipe_file.FORMAT, "base": {"model": "base"}})
    counts = [record[what][edit.language] for what in ("edited", "kept") for edit in recipe.edits]
    if not all(isinstance(text, str) for text in texts) or not all(type(n) is int for n in (*whole, *counts)):
        raise ValueError("texts and whole numbers are expected in its base and its file")
    cleared = record["cleared"]
    if len(cleared) != base["layers"]:
        raise ValueError(f"it names neurons of {len(cleared)} layers")
    for layer in cleared:
        if not isinstance(layer, list) or not all(type(j) is int and 0 <= j < base["width"] for j in layer):
            raise ValueError("the neurons of a layer are not whole numbers below its width")
        if layer != sorted(set(layer)):
            raise ValueError("the neurons of a layer are not in order, each once")
    certificate = record["certificate"]
    if certificate is not None and type(certificate["bytes"]["passed"]) is not bool:
        raise ValueError("its certificate does not say whether it passed")
