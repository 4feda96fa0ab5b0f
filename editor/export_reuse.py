"""What an earlier export left and still fits: the strength or the way that its search chose, and the checkpoint itself."""

from pathlib import Path

from .edits import calibration as calibration_file
from .edits import manifest
from .edits import silence as silence_file
from .edits.calibration import Calibration
from .edits.carriers import needed_of
from .edits.recipe import Recipe
from .edits.request import ADAPTER, AUTO, Request
from .edits.silence import Silence
from .errors import VerificationError
from .measures.bench import both_kinds
from .measures.off import way_of
from .measures.pick import candidate_of
from .measures.search import prompts_of
from .models.target import Target
from .neurons import neurons as neurons_file
from .neurons.neurons import Neurons
from .proof.prove import NEURONS
from .statistics import vocabulary as vocabulary_file
from .statistics.vocabulary import Vocabulary
from .text.prompts import digest
from .version import VERSION


def known_strength(output: Path, request: Request) -> tuple[float | None, tuple[int, int] | None, bool]:
    """Return the strength and the layers to bake with, and whether they are known.

    They are known at strength AUTO when a search for the same was already made for the checkpoint in `output`.
    """
    if request.strength != AUTO:
        return None if request.strength is None else float(request.strength), None, True
    asked = (request.target_accuracy, digest(prompts_of(request)))
    try:
        found = manifest.read(output).strength
    except VerificationError:
        found = None
    if found and found["checkpoint"] and (found.get("target_accuracy"), found.get("prompts")) == asked:
        first, last = found["layers"]
        return found["checkpoint"][-1]["strength"], (first, last), True
    return 1.0, None, False


def chosen_before(output: Path, request: Request, layers: int) -> Request | None:
    """Return what a search for the same chose for the checkpoint in `output`, of a model with so many layers."""
    try:
        record = manifest.read(output).candidates
    except VerificationError:
        return None
    if record is None:
        return None
    if way := way_of(record, request):
        return way.request(request)
    candidate = candidate_of(record, request, both_kinds(request)) if request.searches_on else None
    return candidate.request(request, layers) if candidate else None


def same_recipe(output: Path, target: Target, recipe: Recipe, request: Request) -> bool:
    """Whether `output` was already baked from this base and recipe, in this form, by this version."""
    try:
        there = manifest.read(output)
    except VerificationError:
        return False
    return (
        there.monoglot == VERSION
        and (request.form == ADAPTER) == (there.adapter is not None)
        and (there.adapter is None or there.adapter.max_rank == request.max_rank)
        and there.base.model == target.base.model
        and there.base.fingerprint == target.fingerprint
        and manifest.recipe_record(there.recipe) == manifest.recipe_record(recipe)
    )


def same_checkpoint(
    output: Path,
    target: Target,
    recipe: Recipe,
    request: Request,
    neurons: Neurons,
    calibration: Calibration | None,
    vocabulary: Vocabulary | None,
    silence: Silence | None,
    *,
    searched: bool = False,
) -> bool:
    """Whether `output` was already baked from all of this, and has the record of a search where it was `searched` for."""
    if not same_recipe(output, target, recipe, request):
        return False
    there = manifest.read(output)
    if searched and there.candidates is None:
        return False
    files = there.files
    wanted = {}
    if recipe.needs_neurons:
        wanted[NEURONS] = neurons_file.serialise(neurons).encode()
    if recipe.carrier == "calibrated" and calibration:
        wanted[calibration_file.FILE] = calibration_file.serialise(calibration)
    if vocabulary:
        wanted[vocabulary_file.FILE] = vocabulary_file.serialise(needed_of(vocabulary, recipe))
    if silence:
        wanted[silence_file.FILE] = silence_file.serialise(silence)
    return all(files.get(name) == manifest.entry(data) for name, data in wanted.items())
