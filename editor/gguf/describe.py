"""What a GGUF file is, and what was done to it."""

from collections import Counter
from pathlib import Path
from typing import Any

from ..edits.manifest import FileEntry
from ..errors import ModelError
from ..files.gguf import read_gguf
from ..files.streams import sha256
from . import converted as converted_file
from . import sidecar
from .up_projection import locate_up


def of_gguf(path: Path, *, hashes: bool = False) -> dict[str, Any]:
    """Describe a GGUF file, and from its sidecar what was done to it.

    `file` says whether it still has the sidecar's size, with `hashes` its sha256. Raises the errors of `read_gguf`, and
    VerificationError when the sidecar is malformed.
    """
    gguf = read_gguf(path)
    found: dict[str, Any] = {
        "kind": "gguf",
        "name": path.name,
        "title": gguf.keys.get("general.name"),
        "architecture": gguf.architecture,
        "bytes": gguf.size,
        "tensors": len(gguf.tensors),
        "types": dict(gguf.types.most_common()),
        "editable": False,
        "reason": None,
        "made": None,
        "converted": None,
    }
    try:
        up = locate_up(gguf)
    except ModelError as error:
        found["reason"] = str(error)
    else:
        found |= {
            "editable": True,
            "layers": up.layers,
            "width": up.width,
            "neurons": up.layers * up.width,
            "hidden": up.hidden,
            "gate_in_up": bool(up.first),
            "row_types": dict(Counter(weight.type.name for weight in up.weights).most_common()),
        }
    if converted_file.beside(path).is_file():
        about = converted_file.read(path)
        made = {key: value for key, value in about.to_data().items() if key not in ("format", "file")}
        found["converted"] = made | {"file": _compared(path, about.file, hashes)}
    if sidecar.sidecar_of(path).is_file():
        said = sidecar.read(path)
        shown = ("monoglot", "base", "recipe", "neurons_edited", "edited", "kept", "certificate")
        data = said.to_data()
        found["made"] = {key: data[key] for key in shown} | {"file": _compared(path, said.file, hashes)}
    return found


def _compared(path: Path, listed: FileEntry, hashes: bool) -> dict[str, Any]:
    """Whether a file is still what its record lists, and by what they were compared."""
    same = path.stat().st_size == listed.size and (not hashes or sha256(path) == listed.sha256)
    return {"by": "sha256" if hashes else "size", "same": same}
