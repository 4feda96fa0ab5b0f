"""What lies in a folder, for tests that say what was written there, or that nothing was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every path below a folder with what it holds."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes() if path.is_file() else "/"
    return found


def manifest_data(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint as data, to be looked at or changed."""
    data: dict[str, Any] = json.loads((folder / "monoglot.json").read_text(encoding="utf-8"))
    return data


def write_manifest(folder: Path, data: Mapping[str, Any]) -> None:
    """Write a manifest, whether it is one or not."""
    (folder / "monoglot.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def listed(data: bytes) -> dict[str, Any]:
    """What a manifest says of a file with these bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
