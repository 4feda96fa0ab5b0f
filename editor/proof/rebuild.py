"""A checkpoint made again from what it says of itself, and held against the first.

The manifest's recipe, `neurons.json`, where constants are carried by a calibrated direction `calibration.monoglot`, where
tokens are redirected `vocabulary.monoglot`, and where a script is silenced `silence.monoglot` are all that a checkpoint is
made of besides its base. None of it is weights, so of a checkpoint on the Hub no weights are downloaded; its base's are.

Weights, config, index and every other file have to have the sha256 of the manifest again. README.md need not: it speaks of
what was measured since. Nor has what was drawn or added afterwards, which `bake` doesn't make.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..edits import calibration as calibration_file
from ..edits import manifest as manifest_file
from ..edits import recipe as recipe_file
from ..edits import silence as silence_file
from ..edits.adapter import bake_adapter
from ..edits.bake import Progress, bake, check_place
from ..edits.calibration import Calibration
from ..edits.card_maker import NO_CARD, CardMaker, Describe
from ..edits.fit import open_calibration
from ..edits.manifest import Manifest
from ..edits.manifest_base import neurons_of, open_source, recipe_of
from ..errors import MonoglotError, RecipeError, VerificationError
from ..files.kinds import FILE
from ..files.output import check_free
from ..models.source import Source, fetch
from ..models.target import Target, open_target
from ..neurons import neurons as neurons_file
from ..progress import NOBODY, Listener, in_megabytes
from ..statistics import vocabulary as vocabulary_file
from ..version import VERSION

NEURONS = "neurons.json"
CARD = "README.md"
# what is downloaded of a checkpoint
NEEDED = (FILE, recipe_file.FILE, NEURONS, calibration_file.FILE, vocabulary_file.FILE, silence_file.FILE)
MEASURED = {
    "certificate": "what `verify` found", "evaluation": "what `evaluate` found", "strength": "the search for its strength",
    "candidates": "the search for how to do it",
}  # fmt: skip


@dataclass(frozen=True)
class Rebuilt:
    """The outcome of a rebuild.

    `same`: names of the files with the sha256 of the manifest. `differ`: name -> why, of those that should have had it.
    `excused`: name -> why, of those that need not.
    """

    folder: Path
    same: tuple[str, ...]
    differ: dict[str, str]
    excused: dict[str, str]


def open_base(manifest: Manifest, base: str | None, *, beside: Path) -> Target:
    """Open the base that a manifest records, at its revision, or the one that is named.

    If that is the same model it goes by the name that the manifest has, as the recipe and the card do. Raises ModelError
    when it can't be found.
    """
    recorded = manifest.base
    target = open_target(open_source(recorded, base, beside=beside))
    if target.fingerprint != recorded.fingerprint:
        return target
    source = Source(target.source.folder, recorded.model, recorded.revision, recorded.hub)
    return replace(target, source=source)


def rebuild(
    folder: Path,
    target: Target,
    destination: Path,
    *,
    calibration_path: Path | None = None,
    force: bool = False,
    describe: Describe | None = None,
    progress: Progress | None = None,
) -> Rebuilt:
    """Bake the checkpoint in `folder`, or what was downloaded of it, again from `target`, to `destination`.

    `calibration_path` is needed where the folder has lost its calibration. Raises VerificationError when the manifest or
    the neurons are missing or malformed, RecipeError when the calibration is missing or is not needed, and what `bake`
    raises.
    """
    check_place(folder, destination)
    manifest = manifest_file.read(folder)
    recipe = recipe_of(manifest, target)
    for needed, name, what in (
        (recipe.needs_neurons, NEURONS, "which neurons were edited"),
        (recipe.of_vocabulary, vocabulary_file.FILE, "which language uses which token"),
        (recipe.scripts, silence_file.FILE, "which tokens write a script"),
    ):
        if needed and not (folder / name).is_file():
            raise VerificationError(f"{folder} has no {name}, so {what} is not known. Download it.")
    neurons = neurons_of(folder, manifest)
    vocabulary = vocabulary_file.load(folder / vocabulary_file.FILE) if recipe.of_vocabulary else None
    silence = silence_file.load(folder / silence_file.FILE) if recipe.scripts else None
    files = {name: entry.sha256 for name, entry in manifest.files.items()}
    calibration = _calibration(folder, target, manifest.carrier_name, calibration_path)
    if manifest.adapter:
        baked = bake_adapter(
            target, neurons, recipe, destination, calibration=calibration, vocabulary=vocabulary,
            max_rank=manifest.adapter.max_rank, force=force, describe=describe, progress=progress,
        )  # fmt: skip
    else:
        baked = bake(
            target, neurons, recipe, destination, calibration=calibration, vocabulary=vocabulary, silence=silence,
            force=force, describe=describe, progress=progress,
        )  # fmt: skip
    made = {name: entry.sha256 for name, entry in baked.manifest.files.items()}
    changed = [
        *([] if manifest.base.fingerprint == target.fingerprint else [_other_base(manifest, target)]),
        *([] if manifest.monoglot == VERSION else [f"it was made by monoglot {manifest.monoglot}, this is {VERSION}"]),
    ]
    differ: dict[str, str] = {}
    excused: dict[str, str] = {}
    for name in sorted(files.keys() | made.keys()):
        if files.get(name) == made.get(name):
            continue
        if name == CARD:
            excused[name] = _about_card(
                folder, manifest, files.get(name), _with_all(manifest, target, describe), changed
            )
        elif name.startswith("figures/"):
            excused[name] = "drawn by `evaluate`, not by `bake`"
        else:
            differ[name] = _why(folder, name, files, made, changed, calibration_path)
    if _edited(folder / recipe_file.FILE, files.get(recipe_file.FILE)):
        excused[f"{recipe_file.FILE} in {folder.name}"] = "edited since; the manifest's recipe is what was made again"
    same = tuple(name for name in made if files.get(name) == made[name])
    return Rebuilt(baked.folder, same, differ, excused)


def rebuild_named(
    checkpoint: str,
    destination: Path,
    *,
    base: str | None = None,
    calibration_path: Path | None = None,
    force: bool = False,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
) -> Rebuilt:
    """Rebuild a checkpoint that is a folder or a Hub id, of which no weights are downloaded.

    Its base is named, or found by the manifest. Raises what `rebuild` raises, and ModelError when one of them can't be
    found.
    """
    check_free(destination, force=force)
    folder = fetch(checkpoint, NEEDED)
    check_place(folder, destination)
    target = open_base(manifest_file.read(folder), base, beside=folder)
    method = neurons_file.load(folder / NEURONS).method if (folder / NEURONS).is_file() else {}
    with listener.stage("rebuild", "MB") as update:
        return rebuild(
            folder, target, destination, calibration_path=calibration_path, force=force, describe=card.describe(method),
            progress=in_megabytes(update),
        )  # fmt: skip


def _calibration(folder: Path, target: Target, carrier: str, named: Path | None) -> Calibration | None:
    if carrier != "calibrated":
        if named:
            raise RecipeError("the checkpoint's constants need no calibration. Leave `calibration` out.")
        return None
    own = folder / calibration_file.FILE
    if not named and not own.is_file():
        raise RecipeError(
            f"{folder} has no {calibration_file.FILE}: the direction w of each of the {target.feed_forward.layers} layers, "
            f"{target.feed_forward.hidden} numbers each, that carries its constants is not known. Name a copy of the file "
            "with `calibration`, or the statistics of `monoglot detect --calibrate` that it was baked with."
        )
    return open_calibration(named or own, target)


def _other_base(manifest: Manifest, target: Target) -> str:
    return (
        f"the base is another one: fingerprint {target.fingerprint[:12]}…, "
        f"{manifest.base.model} had {manifest.base.fingerprint[:12]}…"
    )


def _with_all(manifest: Manifest, target: Target, describe: Describe | None) -> str | None:
    """Return the card as it would be with all that was measured of the first one."""
    try:
        return describe(manifest, target.source.folder) if describe else None
    except MonoglotError:  # metadata that the Hub refuses
        return None


def _about_card(folder: Path, manifest: Manifest, listed: str | None, again: str | None, changed: list[str]) -> str:
    """Why the card is another one. `again` is what `_with_all` gives."""
    if listed is None:
        return "the first one had none"
    if again is None:
        return "it was not written again"
    measured = [what for key, what in MEASURED.items() if getattr(manifest, key)]
    if manifest_file.entry(again.encode()).sha256 == listed:
        return f"the first one also tells {', '.join(measured)}; written with that it is the same"
    if _edited(folder / CARD, listed):
        return "the first one was edited by hand since"
    reasons = [*changed, *([f"it also tells {', '.join(measured)}"] if measured else [])]
    return "; ".join(reasons) or "it was written with another card of the base, or a person has added to it"


def _why(
    folder: Path,
    name: str,
    files: Mapping[str, str],
    made: Mapping[str, str],
    changed: list[str],
    calibration_path: Path | None,
) -> str:
    if name not in made or name not in files:
        return "; ".join(changed) or (
            "the base has no such file now" if name not in made else "the base had no such file"
        )
    inputs = [each for each in (NEURONS, calibration_file.FILE) if each in made and made[each] != files.get(each)]
    if name == calibration_file.FILE and calibration_path:
        return f"{calibration_path} is another calibration than the one that it was baked with"
    if name in inputs and _edited(folder / name, files[name]):
        return f"the one in {folder.name} was changed since the manifest was written"
    reasons = [*changed, *(f"{each} is another one" for each in inputs if each != name)]
    return "; ".join(reasons) or "the base's files are others than they were, where its fingerprint doesn't look"


def _edited(path: Path, listed: str | None) -> bool:
    """Whether a file that is there has another sha256 than the manifest lists."""
    return path.is_file() and manifest_file.entry(path.read_bytes()).sha256 != listed
