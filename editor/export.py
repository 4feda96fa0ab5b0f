"""The whole row: from a model and text to a checkpoint that is proved and described."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .edits import calibration as calibration_file
from .edits import manifest
from .edits.bake import Baked, check_place
from .edits.calibration import Calibration
from .edits.card_maker import NO_CARD, CardMaker
from .edits.carriers import choose
from .edits.fit import open_calibration, source_of
from .edits.recipe import Recipe
from .edits.request import AUTO, Request
from .errors import CorpusError, NeuronsError, StatisticsError, VerificationError
from .files.output import check_free
from .measures.search import bake_requested, digest, prompts_of
from .models.source import resolve
from .models.target import Target, open_target
from .neurons import neurons as neurons_file
from .neurons.find import find
from .neurons.neurons import QUANTILE, RATE, Neurons
from .progress import NOBODY, Listener
from .proof.prove import NEURONS, Proof, prove
from .proof.settings import CONTEXT, TOKENS
from .runtimes.capabilities import settled
from .statistics.detection import Detection
from .statistics.reuse import detect_or_reuse
from .statistics.statistics import Statistics
from .text.corpus import Text, open_corpus
from .version import VERSION

STATISTICS = "stats.safetensors"


@dataclass(frozen=True)
class Exported:
    """A checkpoint in `folder` and what it was made by. `work` has the files of statistics and neurons. `baked` is None where
    the folder was this checkpoint already."""

    folder: Path
    work: Path
    target: Target
    statistics: Statistics
    neurons: Neurons
    baked: Baked | None
    proof: Proof

    @property
    def passed(self) -> bool:
        """Whether the checkpoint is proved."""
        return self.proof.passed


Made = Callable[[Statistics | Neurons | Baked], object]  # gets each as soon as it is made


def export(
    model: str,
    corpus: Sequence[str],
    request: Request,
    output: Path,
    *,
    languages: Sequence[str] = (),
    rate: float = RATE,
    quantile: float = QUANTILE,
    detection: Detection | None = None,
    verify_tokens: int = TOKENS,
    fast: bool = False,
    base_id: str | None = None,
    work: Path | None = None,
    force: bool = False,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
    made: Made = lambda thing: None,
) -> Exported:
    """Detect, find, bake and prove: `model` with what is requested, to `output`. The strength is searched for where it is not
    given.

    Statistics and neurons are kept in `work`, by default OUTPUT.work, and taken from there while they fit; so is a
    checkpoint that is the same already. `fast` proves bytes alone. `made` gets statistics that are new, neurons, and the
    baked checkpoint, each as soon as it is there. Raises MonoglotError for everything that can be wrong, before anything
    slow starts where that can be known.
    """
    work = work or default_work(output)
    target = open_target(resolve(model, base_id))
    texts = open_corpus(corpus, languages)
    request = settled(request.searching(), target)
    if request.strength == AUTO:
        _ = request.searched  # raises for several languages
    strength, layers, known = _strength(output, request)
    recipe = request.recipe(target, list(texts), strength, layers)
    carrier = choose(recipe.carrier, target) if any(edit.constant for edit in recipe.edits) else None
    recipe = replace(recipe, carrier=carrier or AUTO)
    if absent := [edit.language for edit in recipe.edits if edit.language not in texts]:
        raise NeuronsError(f"there is no text in {', '.join(absent)}; the corpus has {', '.join(texts)}.")
    check_place(target.source.folder, output)
    if len(texts) < 2:
        raise CorpusError(
            "a language is told from others: give text in two languages or more, best all that are to be kept."
        )
    check_free(output, force=force or (known and _same_recipe(output, target, recipe)))

    detection = replace(
        detection or Detection(), calibrate=carrier == "calibrated", quantiles=request.value != "mean"
    )  # fmt: skip
    statistics, calibration = _statistics(target, texts, work, detection, listener, made)
    neurons = find(statistics, rate=rate, quantile=quantile)
    neurons_file.save(neurons, work / NEURONS)
    made(neurons)
    baked = None
    if known and _same_recipe(output, target, recipe) and _same_neurons(output, neurons):
        listener.told(f"{output} is this checkpoint already.")
    else:
        baked = bake_requested(
            target, neurons, request, output, calibration=calibration, force=force, device=detection.device,
            dtype=detection.dtype, card=card, listener=listener,
        )  # fmt: skip
        made(baked)
    proved = prove(
        output, target, None if fast else lambda: texts, tokens=verify_tokens,
        context=min(detection.context, CONTEXT), device=detection.device, dtype=detection.dtype, card=card,
        listener=listener,
    )  # fmt: skip
    return Exported(output, work, target, statistics, neurons, baked, proved)


def default_work(output: Path) -> Path:
    """Name the folder of the intermediate files."""
    return output.with_name(f"{output.name}.work")


def _statistics(
    target: Target, texts: Mapping[str, Text], work: Path, detection: Detection, listener: Listener, made: Made
) -> tuple[Statistics, Calibration | None]:
    """Give the statistics of `work` or new ones, and the calibration where one is asked for."""
    path, fitted = work / STATISTICS, work / calibration_file.FILE
    statistics, new = detect_or_reuse(target, texts, path, detection, listener=listener)
    if new:
        fitted.unlink(missing_ok=True)
        made(statistics)
    if not detection.calibrate:
        return statistics, None
    return statistics, _calibration(path, fitted, statistics, target)


def _calibration(path: Path, fitted: Path, statistics: Statistics, target: Target) -> Calibration:
    """Give the calibration in `fitted` if it was made from these statistics, else a new one, kept there."""
    if fitted.is_file():
        with contextlib.suppress(StatisticsError):
            kept = open_calibration(fitted, target)
            if kept.source == source_of(statistics):
                return kept
    calibration_file.save(open_calibration(path, target), fitted)
    return open_calibration(fitted, target)


def _strength(output: Path, request: Request) -> tuple[float | None, tuple[int, int] | None, bool]:
    """Give the strength and the layers to bake with, and whether they are known: at strength AUTO, when a search for the same
    was already made for the checkpoint in `output`."""
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


def _same_recipe(output: Path, target: Target, recipe: Recipe) -> bool:
    """Whether `output` was already baked from this base and recipe, by this version."""
    try:
        there = manifest.read(output)
    except VerificationError:
        return False
    return (
        there.monoglot == VERSION
        and there.base.model == target.base.model
        and there.base.fingerprint == target.fingerprint
        and manifest.recipe_record(there.recipe) == manifest.recipe_record(recipe)
    )


def _same_neurons(output: Path, neurons: Neurons) -> bool:
    entry = manifest.entry(neurons_file.serialise(neurons).encode())
    return manifest.read(output).files.get(NEURONS) == entry
