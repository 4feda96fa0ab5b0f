"""Tells which kind of monoglot file a file is, from its first bytes and its keys, never from its name.

For `inspect`, and for every reader that was given another file than its own: that one is not damaged, it belongs to
another command.
"""

import re
import zipfile
from pathlib import Path

from ..errors import CheckpointError, MonoglotError
from .checkpoint import parse_json, read_shard
from .companions import check_content

METADATA = {  # keys of safetensors metadata
    "statistics": "monoglot_statistics",
    "calibration": "monoglot_calibration",
    "vocabulary": "monoglot_vocabulary",
    "silence": "monoglot_silence",
}
KEYS = {  # a JSON file's that no other kind has, the first that fits
    "manifest": {"files", "recipe"},
    "sidecar": {"cleared", "file"},
    "converted": {"checkpoint", "survival"},
    "findings": {"evaluation", "neurons"},
    "comparison": {"methods", "overlap"},
    "config": {"model_type"},
    "neurons": {"languages"},
}
EDITS = re.compile(rb"^(edits|scripts):", re.MULTILINE)
RECIPE_SIZE = 2**20  # bytes; people write them

FOLDER = "take the folder that it lies in"
OF = {  # what each holds, and who takes it
    "calibration": ("a calibration", "`monoglot bake --calibration` takes it"),
    "comparison": ("what `monoglot compare` found", "no command reads it"),
    "config": ("a model's config", f"`monoglot detect`, `export` and `inspect` {FOLDER}"),
    "converted": ("what a GGUF file was converted from", "`monoglot inspect` takes that file"),
    "findings": ("what `monoglot evaluate` found", "`monoglot report` takes the folder that it lies in"),
    "manifest": ("a checkpoint's manifest", f"`monoglot verify`, `evaluate` and `inspect` {FOLDER}"),
    "mask": ("a mask of tensors", "`monoglot find --import` reads it"),
    "neurons": ("neurons", "`monoglot bake` and `evaluate` take them"),
    "recipe": ("a recipe", "`monoglot bake --recipe` takes it"),
    "sidecar": ("what was done to a GGUF file", "`monoglot verify` and `inspect` take that file"),
    "silence": ("a silence", "`monoglot bake --recipe` finds it beside the recipe"),
    "statistics": ("statistics", "`monoglot find` and `compare` read them"),
    "vocabulary": ("a vocabulary", "`monoglot bake --vocabulary` takes it"),
    "weights": ("weights of a model", f"`monoglot detect`, `export` and `inspect` {FOLDER}"),
}


def kind(path: Path) -> str | None:
    """Return a key of `OF`, or "tensors"; None for any other file.

    Raises CheckpointError for malformed JSON or safetensors.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        about = parse_json(read_shard(path).header[8:], f"the header of {path}").get("__metadata__", {})
        others = "weights" if (path.parent / "config.json").is_file() else "tensors"
        return next((name for name, key in METADATA.items() if key in about), others)
    if start.lstrip()[:1] == b"{":
        keys = set(parse_json(path.read_bytes(), str(path)))
        return next((name for name, own in KEYS.items() if own <= keys), None)
    if zipfile.is_zipfile(path):
        return "mask"
    return "recipe" if path.stat().st_size <= RECIPE_SIZE and EDITS.search(path.read_bytes()) else None


def instead(path: Path, wanted: str) -> str | None:
    """Say what a file holds when it is of another kind than `wanted`, which may be none of these, as "a model" is.

    None where it may be one that is damaged, or anything else.
    """
    try:
        check_content(path)
    except CheckpointError as error:  # a pointer of Git LFS, or a web page
        return str(error)
    except OSError:
        return None
    try:
        found = kind(path)
    except (MonoglotError, OSError):
        return None
    if found not in OF or found == wanted:
        return None
    what, takes = OF[found]
    return f"{path} holds {what}, not {OF[wanted][0] if wanted in OF else wanted}: {takes}."


FILE = "monoglot.json"
