"""Baking: a recipe becomes a checkpoint, as an edit of files.

The model is never built: each file is copied, rows of edited tensors are edited on the way, and all is hashed meanwhile (see
`streaming`). So the cost is that of copying, the memory constant, and every byte that no edit touches stays as it was,
headers included.
What becomes of which tensor is `tensor_edits`' to say, which files there are `layout`'s; tokenizer and every other file of
the base come along byte for byte.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from ..errors import OutputError, RecipeError
from ..files import card_text
from ..files.beside import beside
from ..files.checkpoint import Checkpoint
from ..files.hashes import remember
from ..files.kinds import FILE
from ..files.output import check_free, claimed, staged_folder
from ..files.staging import keep_mode
from ..models.target import Target, about_sampled, check_unchanged
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons
from ..statistics import vocabulary as vocabulary_file
from ..statistics.vocabulary import Vocabulary
from . import calibration as calibration_file
from . import manifest as manifest_file
from . import manifest_files, manifest_made
from . import recipe as recipe_file
from . import silence as silence_file
from .calibration import Calibration
from .card_maker import Describe
from .carriers import Carried, carried
from .layout import layout
from .manifest import FileEntry, Manifest
from .one_table import TableError, check_errors, table_errors
from .recipe import Recipe
from .silence import Silence
from .streaming import of_file, of_shard, of_tensor, write_files

OWN_FILES = (
    FILE,
    recipe_file.FILE,
    "neurons.json",
    calibration_file.FILE,
    vocabulary_file.FILE,
    silence_file.FILE,
    "README.md",
)  # made anew, not copied
# What was measured of a checkpoint of ours says nothing of one that is made from it.
FIGURES = ("perplexity", "deactivate_each", "strength", "profile", "overlap", "similarity", "candidates")
FINDINGS = (*(f"figures/{name}.png" for name in FIGURES), "report.html", "README.md.bak")

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Baked:
    """The result of `bake` on `target`.

    It has the manifest as written, what was carried out, and the base's files that did not come along.
    """

    target: Target
    folder: Path
    manifest: Manifest
    carried: Carried
    left_out: tuple[str, ...]


def bake(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    destination: Path,
    *,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    silence: Silence | None = None,
    force: bool = False,
    describe: Describe | None = None,
    progress: Progress | None = None,
) -> Baked:
    """Write the edited checkpoint to `destination`, whole or not at all; `neurons.NONE` where only tokens are edited.

    The same base, neurons, recipe, calibration, vocabulary and silence give the same bytes. Raises RecipeError (another model
    than the recipe's, no place for a constant), NeuronsError, CheckpointError (NaN in a tensor to edit), OutputError.
    """
    check_base_of(recipe, target)
    folder = target.source.folder
    check_place(folder, destination)
    with claimed(destination, partial(check_free, force=force)):
        what = carried(target, recipe, neurons, calibration, vocabulary, silence)
        return _bake(target, neurons, recipe, destination, what, force, describe, progress)


def _bake(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    destination: Path,
    what: Carried,
    force: bool,
    describe: Describe | None,
    progress: Progress | None,
) -> Baked:
    """Bake to a destination that is held."""
    folder = target.source.folder
    recipe = replace(
        recipe,
        base=target.base,
        neurons="neurons.json",
        vocabulary=vocabulary_file.FILE,
        silence=silence_file.FILE,
        carrier=what.carrier or "auto",
        compat_config=what.compat_config,
    )
    one_table = _one_table(target, what, recipe)
    files = layout(target, what)
    others, left_out = side_files(target.checkpoint)
    copied = [name for name in others if name not in files.made]
    sources = {name: of_shard(header, shard, files.edits) for name, (header, shard) in files.shards.items()}
    sources |= {name: of_tensor(copy, files.edits) for name, copy in files.copies.items()}
    sources |= {name: of_file(folder / name) for name in copied}
    size = sum(source.end - source.begin for source in sources.values())
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, size)

    made = dict(files.made)
    if recipe.needs_neurons:
        made["neurons.json"] = neurons_file.serialise(neurons).encode()
    made[recipe_file.FILE] = recipe_file.to_yaml(recipe).encode()
    if what.calibration:
        made[calibration_file.FILE] = calibration_file.serialise(what.calibration)
    if what.vocabulary:
        made[vocabulary_file.FILE] = vocabulary_file.serialise(what.vocabulary)
    if what.silenced:
        made[silence_file.FILE] = silence_file.serialise(what.silenced.silence)
    with staged_folder(
        destination, size=size + sum(map(len, made.values())), force=force, whole=manifest_files.check_whole
    ) as staging:
        written = write_files(sources, staging, files.edits, files.rounding, advance)
        check_unchanged(target)
        written |= {name: write_small(staging / name, data) for name, data in made.items()}
        for name in files.made:  # nobody may read what is made of a file who could not read that
            keep_mode(staging / name, like=folder / name)
        manifest = manifest_made.new(
            target, recipe, what, files.rounding.relative, written, left_out, one_table, neurons.model
        )  # fmt: skip
        if describe:
            card = describe(manifest, folder)
            write_small(staging / "README.md", card.encode())
            manifest = replace(manifest, card=card_text.memory(card)).with_file("README.md", card.encode())
        manifest_file.write(staging, manifest)
    for name, entry in written.items():
        remember(destination / name, entry.sha256)
    return Baked(target, destination, manifest, what, left_out)


def _one_table(target: Target, what: Carried, recipe: Recipe) -> dict[str, TableError] | None:
    """Measure what a table that is the output's too does to what is written, where one is edited."""
    if what.tokens is None or what.tokens.asked is None:
        return None
    tokens = what.tokens
    if what.vocabulary is None:
        return None
    errors = table_errors(target, tokens.table, tokens.redirection, what.vocabulary)
    check_errors(target, errors, [edit.language for edit in recipe.of_tokens], recipe.tolerance)
    return errors


def side_files(checkpoint: Checkpoint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the base's files besides the shards, relative: those that come along, and those that are left behind."""
    found = beside(checkpoint)
    ours = (*OWN_FILES, *(FINDINGS if (checkpoint.folder / FILE).is_file() else ()))
    indices = set(checkpoint.files) - {shard.path.name for shard in checkpoint.shards}
    along = sorted({*found.along, *indices} - set(OWN_FILES))
    return tuple(along), tuple(
        name for name in found.left_behind if not any(fnmatch(name, pattern) for pattern in ours)
    )


def check_base_of(recipe: Recipe, target: Target) -> None:
    """Raise RecipeError when a recipe is for another model."""
    if recipe.base.fingerprint not in (None, target.fingerprint):
        raise RecipeError(
            f"the recipe is for {recipe.base.model} with fingerprint {str(recipe.base.fingerprint)[:12]}…, "
            f"{target.source.name} has {target.fingerprint[:12]}…. Use that model, or write a new recipe."
            f"{about_sampled(target, str(recipe.base.fingerprint))}"
        )


def check_place(folder: Path, destination: Path) -> None:
    real, base = (Path(os.path.realpath(path)) for path in (destination, folder))  # resolve() fails on a loop of links
    if real == base or base in real.parents:
        raise OutputError(f"{destination} lies inside the model's own folder. Choose another place with -o.")
    if real in base.parents:
        raise OutputError(f"{destination} holds the model's own folder. Choose another place with -o.")


def write_small(path: Path, data: bytes) -> FileEntry:
    """Write a small file, which is synced with all others, and return what the manifest says of it."""
    path.write_bytes(data)
    return manifest_file.entry(data)
