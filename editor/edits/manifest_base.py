"""What a manifest says was done, held against the model that it was done to, so that it can be done again."""

from dataclasses import replace
from pathlib import Path

from ..errors import MonoglotError, VerificationError
from ..models.source import Source, resolve_base
from ..models.target import Target, is_sampled
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons
from ..statistics import vocabulary as vocabulary_file
from ..statistics.vocabulary import Vocabulary
from . import calibration as calibration_file
from . import silence as silence_file
from .calibration import Calibration
from .carriers import Carried, carried
from .manifest import Base, Manifest, read
from .recipe import Recipe
from .silence import Silence


def recipe_of(manifest: Manifest, target: Target) -> Recipe:
    """Return the recipe that a manifest records, for a model that is at hand."""
    return replace(manifest.recipe, base=target.base)


def carried_in(folder: Path, target: Target, neurons: Neurons) -> Carried:
    """Return what the manifest in `folder` says was done, with the calibration that lies beside it.

    Raises VerificationError.
    """
    manifest = read(folder)
    check_base(manifest, target)
    calibration: Calibration | None = None
    vocabulary: Vocabulary | None = None
    silence: Silence | None = None
    try:
        if (folder / calibration_file.FILE).is_file():
            calibration = calibration_file.load(folder / calibration_file.FILE)
        if (folder / vocabulary_file.FILE).is_file():
            vocabulary = vocabulary_file.load(folder / vocabulary_file.FILE)
        if (folder / silence_file.FILE).is_file():
            silence = silence_file.load(folder / silence_file.FILE)
        return carried(target, recipe_of(manifest, target), neurons, calibration, vocabulary, silence)
    except MonoglotError as error:
        raise VerificationError(f"what {folder} says of itself cannot be carried out: {error}") from None


def neurons_of(folder: Path, manifest: Manifest) -> Neurons:
    """Load the neurons that lie in a checkpoint's folder; `NONE` where its recipe edits tokens only. Raises NeuronsError."""
    return neurons_file.load(folder / "neurons.json") if manifest.recipe.needs_neurons else neurons_file.NONE


def check_base(manifest: Manifest, target: Target) -> None:
    """Raise VerificationError when `target` is not the model that the checkpoint was made from.

    The fingerprint that an earlier version gave it is enough: whoever goes on holds the bytes against each other.
    """
    recorded = manifest.base.fingerprint
    if recorded != target.fingerprint and not is_sampled(target, recorded):
        raise VerificationError(
            f"{target.source.name} is not the model this checkpoint was made from ({manifest.base.model}): "
            f"its fingerprint is {target.fingerprint[:12]}…, not {manifest.base.fingerprint[:12]}…."
        )


def open_source(base: Base, named: str | None, *, beside: Path) -> Source:
    """Find the base of the checkpoint in `beside`: the one that is named, else the one that its manifest names.

    Raises ModelError when it can't be found.
    """
    return resolve_base(base.model, base.revision, base.hub, named, beside=beside)
