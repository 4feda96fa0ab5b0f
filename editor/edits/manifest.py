"""`monoglot.json`: what a checkpoint is made of, and what was proved about it.

    {"format": 1, "monoglot": version, "base": {model, revision, fingerprint, model_type, layers, width},
     "recipe": {…}, "edited": {"zh": 53}, "kept": {"zh": 12}, "neurons_edited": 53,
     "carrier": null | {name, layers_left_out, spare_neurons, calibration: null | [per layer {…}]},
     "rounding": {weights, biases}, "left_out": […], "files": {name: {sha256, size}}, "certificate": null | {…},
     "card": {body, metadata: {key: sha256}}}

It holds no time, no path and no user's name, so the same inputs give the same file.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, MonoglotError, OutputError, RecipeError, VerificationError
from ..files import kinds
from ..files.checkpoint import parse_json
from ..files.kinds import FILE
from ..files.output import finish_pending, replace_file, replace_together
from ..files.streams import sha256
from ..models.target import Target, is_sampled
from ..neurons.neurons import Neurons
from ..version import VERSION
from . import calibration as calibration_file
from . import recipe as recipe_file
from .calibration import Calibration
from .carriers import Carried, carried
from .recipe import Recipe

FORMAT = 1
CARD = "README.md"
FIGURES = "figures/"


def new(
    target: "Target",
    recipe: "Recipe",
    what: "Carried",
    rounding: dict[str, float],
    files: dict[str, Any],
    left_out: tuple[str, ...],
) -> dict[str, Any]:
    """The manifest of a freshly baked checkpoint. `files` may be added to until it is written."""
    return {
        "format": FORMAT,
        "monoglot": VERSION,
        "base": vars(recipe.base)
        | {
            "hub": target.source.hub,
            "model_type": target.feed_forward.model_type,
            "layers": target.feed_forward.layers,
            "width": target.feed_forward.width,
        },
        "recipe": recipe_record(recipe),
        "edited": what.plan.edited,
        "kept": what.plan.kept,
        "neurons_edited": what.plan.size,
        "carrier": _carrier(what),
        "rounding": rounding,
        "left_out": list(left_out),
        "files": files,
        "certificate": None,
    }


def recipe_record(recipe: "Recipe") -> dict[str, Any]:
    """A recipe without its base, as the manifest keeps it."""
    from .recipe import as_data

    data = as_data(recipe)
    return {key: data[key] for key in data if key not in ("format", "base", "neurons")}


def _carrier(what: "Carried") -> dict[str, Any] | None:
    if what.carrier is None:
        return None
    return {
        "name": what.carrier,
        "layers_left_out": list(what.left_out),
        "spare_neurons": what.spared,
        "calibration": what.calibration.record() if what.calibration else None,
    }


def entry(data: bytes) -> dict[str, Any]:
    """What `files` says of a file with these bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def serialise(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()


def write(folder: Path, manifest: dict[str, Any]) -> None:
    replace_file(folder / FILE, serialise(manifest))


def read(folder: Path) -> dict[str, Any]:
    """Raises VerificationError when the folder is no checkpoint of monoglot's, or of an unknown format."""
    path = folder / FILE
    if not folder.is_dir():
        raise VerificationError(kinds.instead(folder, "a checkpoint") or f"there is no folder {folder}.")
    if not path.is_file():
        raise VerificationError(f"{folder} has no {FILE}: it was not made by monoglot.")
    finish_pending(folder)  # of a run that was killed while it wrote
    try:
        manifest = parse_json(path.read_bytes(), str(path))
    except CheckpointError as error:
        raise VerificationError(str(error)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise VerificationError(f"{path} has format {found!r}, this version reads {FORMAT}. Upgrade monoglot.")
    return manifest


def replace_text(folder: Path, manifest: dict[str, Any], name: str, text: str) -> None:
    """Write a text file of the checkpoint anew, together with its hash in the manifest."""
    write_with(folder, manifest, {name: text.encode()})


def write_with(
    folder: Path, manifest: dict[str, Any], listed: Mapping[str, bytes], unlisted: Mapping[str, bytes] | None = None
) -> None:
    """Write the manifest and other files of the checkpoint: all of them, or none. Those that are `listed` it then lists."""
    manifest["files"].update({name: entry(data) for name, data in listed.items()})
    replace_together(folder, {**(unlisted or {}), **listed, FILE: serialise(manifest)})


def unchanged(folder: Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as it is now, to be added to, where it is still that of the same checkpoint.

    Whoever measured for hours adds to what others have written meanwhile, and not to another checkpoint that took the
    place. Raises VerificationError.
    """
    now = read(folder)
    if _made_of(now) != _made_of(before):
        raise VerificationError(
            f"{folder} was replaced by another checkpoint in the meantime, so what was measured is not kept. Run it again."
        )
    return now


def _made_of(record: Mapping[str, Any]) -> Any:
    """What a checkpoint was when it was baked: everything but what later commands write anew."""
    files = record.get("files")
    baked = (
        {k: v for k, v in files.items() if k != CARD and not k.startswith(FIGURES)}
        if isinstance(files, dict)
        else files
    )
    return [baked, *(record.get(key) for key in ("base", "recipe", "edited", "carrier"))]


def check_whole(folder: Path) -> None:
    """Raise OutputError unless every file that the manifest in a folder lists is there with its size."""
    found = compare_files(folder, read(folder)["files"], hashes=False)
    if wrong := [*found["missing"], *found["changed"]]:
        raise OutputError(
            f"{', '.join(wrong[:5])} went missing or changed while the checkpoint was written, so it was not published. See "
            "whether another program cleans up there, and run it again."
        )


def check_recipe(record: Mapping[str, Any]) -> None:
    """Raise RecipeError, KeyError or TypeError when a manifest's recipe is not one."""
    base = {"model": str(record["base"]["model"])}
    recipe_file.of_data({**record["recipe"], "format": recipe_file.FORMAT, "base": base})


def compare_files(folder: Path, listed: Mapping[str, Any], *, hashes: bool) -> dict[str, Any]:
    """The manifest's files as they are now: how many, by what they were compared, which are missing or others."""
    missing, changed = [], []
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            missing.append(name)
        elif path.stat().st_size != entry["size"] or (hashes and sha256(path) != entry["sha256"]):
            changed.append(name)
    return {"listed": len(listed), "by": "sha256" if hashes else "size", "missing": missing, "changed": changed}


def recipe_of(record: Mapping[str, Any], target: Target) -> Recipe:
    """The recipe that a manifest records. Raises VerificationError when it can't be read."""
    try:
        data = {**record["recipe"], "format": recipe_file.FORMAT, "base": vars(target.base)}
    except (KeyError, TypeError) as error:
        raise VerificationError(f"the manifest's recipe cannot be read ({error!r}).") from None
    try:
        return recipe_file.of_data(data)
    except RecipeError as error:
        raise VerificationError(f"the manifest's recipe cannot be read: {error}") from None


def carried_in(folder: Path, target: Target, neurons: Neurons) -> Carried:
    """What the manifest in `folder` says was done, with the calibration that lies beside it. Raises VerificationError."""
    record = read(folder)
    check_base(record, target)
    calibration: Calibration | None = None
    try:
        if (folder / calibration_file.FILE).is_file():
            calibration = calibration_file.load(folder / calibration_file.FILE)
        return carried(target, recipe_of(record, target), neurons, calibration)
    except VerificationError:
        raise
    except MonoglotError as error:
        raise VerificationError(f"what {folder} says of itself cannot be carried out: {error}") from None


def check_base(record: Mapping[str, Any], target: Target) -> None:
    """Raise VerificationError when `target` is not the model that the checkpoint was made from.

    The fingerprint that an earlier version gave it is enough: whoever goes on holds the bytes against each other.
    """
    recorded = record["base"]["fingerprint"]
    if recorded != target.fingerprint and not is_sampled(target, recorded):
        raise VerificationError(
            f"{target.source.name} is not the model this checkpoint was made from ({record['base']['model']}): "
            f"its fingerprint is {target.fingerprint[:12]}…, not {str(record['base']['fingerprint'])[:12]}…."
        )
