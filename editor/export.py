"""Export: detect, find, bake and verify in one call, from a model and text to a proved checkpoint with a card."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .edits import calibration as calibration_file
from .edits import manifest
from .edits import silence as silence_file
from .edits.adapter import check_adaptable
from .edits.bake import Baked, check_place
from .edits.calibration import Calibration
from .edits.card_maker import NO_CARD, CardMaker
from .edits.carrier_choice import choose
from .edits.carriers import needed_of
from .edits.fit import open_calibration, source_of
from .edits.recipe import Recipe
from .edits.request import ADAPTER, AUTO, CHECKPOINT, Request
from .edits.silence import Silence
from .edits.silencing import check_needed, offered, prepare
from .edits.vectors import in_layers
from .errors import CorpusError, ModelError, NeuronsError, OutputError, StatisticsError, VerificationError
from .files.hashes import remember
from .files.output import absolute, check_free, check_room, claimed, publish
from .measures.again import ask_again
from .measures.bench import Bench
from .measures.kinds import read_at
from .measures.off import search_off, way_of
from .measures.pick import RUNGS, candidate_of, search_on
from .measures.search import bake_requested, check_search, prompts_of
from .measures.whole import check_whole
from .models.residual import route_of
from .models.source import resolve
from .models.target import Target, open_target
from .neurons import neurons as neurons_file
from .neurons.find import find
from .neurons.neurons import QUANTILE, RATE, Neurons
from .neurons.origin import open_origin
from .progress import NOBODY, Listener
from .proof.logits import read_held_out
from .proof.prove import NEURONS, Proof, prove
from .proof.settings import CONTEXT, TOKENS
from .runtimes.capabilities import settled
from .statistics import vocabulary as vocabulary_file
from .statistics.detection import Detection
from .statistics.kept_vocabulary import OUTPUTS, RESIDUAL, complete, count_or_reuse
from .statistics.reuse import detect_or_reuse
from .statistics.statistics import Statistics
from .statistics.vocabulary import Vocabulary
from .text.corpus import Text, open_corpus
from .text.letters import count_characters
from .text.prompts import digest
from .version import VERSION

STATISTICS = "stats.safetensors"


@dataclass(frozen=True)
class Exported:
    """A checkpoint in `folder` and what it was made by.

    The files of that are in `work`. There are no statistics, and `NONE` for neurons, where tokens alone are edited, no
    vocabulary where neurons alone are. `silenceable` are scripts that only deactivated languages are written in, and that
    could be silenced too. `baked` is None where the folder was this checkpoint already. Where the proof did
    not pass, `folder` is the one beside, OUTPUT.unproved. `answers` are what the checkpoint said when it was asked again
    after a search, by measure.
    """

    folder: Path
    work: Path
    target: Target
    statistics: Statistics | None
    neurons: Neurons
    vocabulary: Vocabulary | None
    baked: Baked | None
    proof: Proof
    silenceable: tuple[str, ...] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the checkpoint is proved."""
        return self.proof.passed


Made = Callable[[Statistics | Neurons | Vocabulary | Baked], object]  # gets each as soon as it is made


def export(
    model: str,
    corpus: Sequence[str],
    request: Request,
    output: Path,
    *,
    languages: Sequence[str] = (),
    rate: float | None = None,
    quantile: float | None = None,
    detection: Detection | None = None,
    verify_tokens: int = TOKENS,
    fast: bool = False,
    base_id: str | None = None,
    neurons_of: str | None = None,
    work: Path | None = None,
    force: bool = False,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
    made: Made = lambda thing: None,
) -> Exported:
    """Detect, find, bake and prove.

    `model` with what is requested, to `output`. The strength is searched for where it is not given. Where the request leaves
    open how languages are switched off, and neither `rate` nor `quantile` is said, the mildest set of neurons that does it
    is searched for. `neurons_of` names the model that a quantised one was made from: statistics and neurons are of that.

    Statistics and neurons are kept in `work`, by default OUTPUT.work, and taken from there while they fit; so is a
    checkpoint that is the same already. After a search for a language to answer in, the proved checkpoint is asked again.
    Where tokens alone are redirected, there are none, but a vocabulary. A new checkpoint
    is baked to OUTPUT.unproved and moves to `output` when it is proved. `fast` proves bytes alone. `made` gets what is new of
    statistics and vocabulary, neurons, and the baked checkpoint, each as soon as it is there. Raises MonoglotError for
    everything that can be wrong, before anything slow starts where that can be known.
    """
    output = output if output.name not in ("", "..") else absolute(output)
    work = work or default_work(output)
    unproved = output.with_name(f"{output.name}.unproved")
    opened = ask(
        model, corpus, request, output, languages=languages, base_id=base_id, neurons_of=neurons_of, work=work,
        chosen=rate is not None or quantile is not None,
    )  # fmt: skip
    target, texts, request, recipe, known = opened.target, opened.texts, opened.request, opened.recipe, opened.known
    asked, searches, carrier = opened.asked, opened.searches, opened.carrier
    if not known:
        check_whole(target, asked, detection or Detection())
    counts = {language: count_characters(text) for language, text in texts.items()}
    check_needed(recipe, counts, request.lose)
    if not fast:
        read_held_out(target, texts, tokens=verify_tokens, context=min((detection or Detection()).context, CONTEXT))
    same = known and _same_recipe(output, target, recipe, request)
    with (
        claimed(output, partial(check_free, force=force or same)),
        claimed(unproved, partial(check_free, force=True)),
        claimed(work / STATISTICS, _no_folder),
    ):
        if not same and request.form == CHECKPOINT:
            check_room(output, sum(shard.size for shard in target.checkpoint.shards))
        detection = replace(
            detection or Detection(), calibrate=opened.calibrated, quantiles=request.value != "mean"
        )  # fmt: skip
        silence = _silence(target, texts, recipe, request, work, detection, listener) if recipe.scripts else None
        vocabulary, statistics, calibration = None, None, None
        neurons, record = neurons_file.NONE, None
        if recipe.of_vocabulary or asked.searches_on:
            try:
                vocabulary = count_or_reuse(target, texts, work / vocabulary_file.FILE, detection.minimum)
            except ModelError as error:
                if recipe.of_vocabulary:
                    raise
                listener.told(f"Redirecting and vectors are not tried: {error}")
        if recipe.needs_neurons or searches:
            statistics, calibration = _statistics(opened.origin, texts, work, detection, listener, made)
        if vocabulary:
            inside = asked.searches_on or in_layers(recipe)
            parts = ([OUTPUTS] if not recipe.untie else []) + ([RESIDUAL] if inside else [])
            read = sorted({int(str(edit.point)) for edit in recipe.readers})
            add = partial(
                complete, target=target, texts=texts, detection=detection, statistics=work / STATISTICS, listener=listener
            )  # fmt: skip
            try:
                vocabulary = add(vocabulary, parts=parts, layers=read)
            except ModelError as error:
                if recipe.of_vocabulary:
                    raise
                listener.told(f"Redirecting and vectors are not tried: {error}")
                vocabulary = None
            if asked.searches_on and vocabulary and not route_of(target).norm:
                try:
                    vocabulary = add(vocabulary, layers=read_at(target.feed_forward.layers))
                except (CorpusError, StatisticsError) as error:
                    listener.told(f"Readers are not tried: {error}")
        if vocabulary:
            _keep(vocabulary, work / vocabulary_file.FILE, made)
        if asked.searches_off and statistics:
            way = search_off(
                target, statistics, texts, asked, work, after=detection.tokens, device=detection.device,
                dtype=detection.dtype, streaming=detection.streaming, listener=listener,
            )  # fmt: skip
            neurons, record, request = way.neurons, way.record, way.way.request(asked)
        elif asked.searches_on and statistics:
            bench = Bench(
                target, statistics, calibration, vocabulary, texts, asked, prompts_of(asked, RUNGS[-1]), detection.tokens,
                detection.device, detection.dtype,
            )  # fmt: skip
            pick = search_on(bench, work, listener=listener)
            neurons, vocabulary, record, request = pick.neurons, pick.vocabulary, pick.record, pick.request
        elif statistics:
            neurons = find(
                statistics,
                rate=RATE if rate is None else rate,
                quantile=QUANTILE if quantile is None else quantile,
            )
        if searches:
            strength = None if request.strength is None else float(request.strength)
            recipe, known = request.recipe(target, list(texts), strength, None, list(texts)), True
            recipe = replace(recipe, carrier=carrier if _constant(recipe) and carrier else AUTO)
            if request.form == ADAPTER:
                recipe = replace(recipe, compat_config=False)
        if neurons.languages:
            neurons_file.save(neurons, work / NEURONS)
            made(neurons)
        elif opened.calibrated:
            statistics, calibration = _statistics(target, texts, work, detection, listener, made)
        inputs = (neurons, calibration, vocabulary, silence)
        baked, place = None, unproved
        if known and _same(output, target, recipe, request, *inputs):
            listener.told(f"{output} is this checkpoint already.")
            place = output
        elif known and _same(unproved, target, recipe, request, *inputs):
            listener.told(f"{unproved} is this checkpoint already, and has to be proved.")
        else:
            check_free(output, force=force)  # a checkpoint of the same recipe there has other inputs
            baked = bake_requested(
                target, neurons, request, unproved, calibration=calibration, vocabulary=vocabulary, silence=silence,
                force=True, device=detection.device, dtype=detection.dtype, candidates=record, card=card,
                listener=listener,
            )  # fmt: skip
            baked = replace(baked, folder=output)
            made(baked)
        proved = prove(
            place, target, None if fast else lambda: texts, tokens=verify_tokens,
            context=min(detection.context, CONTEXT), device=detection.device, dtype=detection.dtype,
            streaming=detection.streaming, card=card,
            listener=listener,
        )  # fmt: skip
        if place == unproved and proved.passed:
            publish(unproved, output, force=force)
            for name, entry in manifest.read(output).files.items():  # each was read for the proof
                remember(output / name, entry.sha256)
            proved = replace(proved, folder=output)
        answers: Mapping[str, Any] = {}
        if asked.searches_on and proved.passed and not fast:
            answers = ask_again(
                proved.folder, target, asked.activate[0], corpus, detection, card=card, listener=listener
            )
        could = tuple(offered(recipe, counts))
        return Exported(proved.folder, work, target, statistics, neurons, vocabulary, baked, proved, could, answers)


@dataclass(frozen=True)
class Opened:
    """What is asked of `export`, opened and checked.

    Neurons are found in `origin`, which is `target` itself, or what that was quantised from.
    `asked` is the request as it was made, `request` with what an earlier search chose; `known` says that the recipe is the
    one to bake, `carrier` where constants go that the recipe has, or that a search tries.
    """

    target: Target
    origin: Target
    texts: Mapping[str, Text]
    asked: Request
    request: Request
    recipe: Recipe
    known: bool
    carrier: str | None

    @property
    def calibrated(self) -> bool:
        """Whether a calibrated direction carries the constants."""
        return self.carrier == "calibrated"

    @property
    def searches(self) -> bool:
        """Whether a search says how it is done."""
        return self.asked.searches_off or self.asked.searches_on


def ask(
    model: str,
    corpus: Sequence[str],
    request: Request,
    output: Path,
    *,
    languages: Sequence[str] = (),
    base_id: str | None = None,
    neurons_of: str | None = None,
    work: Path | None = None,
    chosen: bool = False,
) -> Opened:
    """Open the model and the text, and see that what is requested can be done. Raises MonoglotError.

    `chosen` says that a rate or a quantile was given, so that none is searched for.
    """
    unproved = output.with_name(f"{output.name}.unproved")
    target = open_target(resolve(model, base_id))
    origin = open_origin(neurons_of, target) if neurons_of else target
    texts = open_corpus(corpus, languages)
    if chosen:
        request = replace(request, choose=False)
    asked = request = settled(request.without_shorthand().searching(), target)
    if request.strength == AUTO:
        _ = request.searched  # raises for several languages
    strength, layers, known = _strength(output, request)
    if not known:
        strength, layers, known = _strength(unproved, request)
    if request.searches_off or request.searches_on:  # what an earlier search chose, until this one has chosen
        depth = target.feed_forward.layers
        before = _chosen(output, request, depth) or _chosen(unproved, request, depth)
        request, known = before or request, before is not None
        strength = None if request.strength is None else float(request.strength)
    recipe = request.recipe(target, list(texts), strength, layers, list(texts))
    if request.form == ADAPTER:
        check_adaptable(target, recipe)
        recipe = replace(recipe, compat_config=False)
    carrier = choose(recipe.carrier, target) if _constant(recipe) or asked.searches_on else None
    recipe = replace(recipe, carrier=carrier if _constant(recipe) and carrier else AUTO)
    named = dict.fromkeys([edit.language for edit in recipe.edits] + [str(edit.to) for edit in recipe.redirects])
    if absent := [language for language in named if language not in texts]:
        raise NeuronsError(f"there is no text in {', '.join(absent)}; the corpus has {', '.join(texts)}.")
    for each in (target, origin):
        check_place(each.source.folder, output)
    if len(texts) < 2 and (recipe.edits or recipe.experts):
        raise CorpusError(
            "a language is told from others: give text in two languages or more, best all that are to be kept."
        )
    for each in (target, origin):
        _check_work(work or default_work(output), output, unproved, each)
    if request.strength == AUTO or asked.searches_on:
        check_search(asked)
    return Opened(target, origin, texts, asked, request, recipe, known, carrier)


def _constant(recipe: Recipe) -> bool:
    """Whether it needs a carrier."""
    return any(edit.constant for edit in recipe.edits) or bool(in_layers(recipe))


def _check_work(work: Path, output: Path, unproved: Path, target: Target) -> None:
    """Raise OutputError for a folder of intermediate files that is another one."""
    real, *others = (Path(os.path.realpath(path)) for path in (work, output, unproved))
    if any(real == other or other in real.parents for other in others):
        raise OutputError(f"{work}, where statistics are kept, is the checkpoint's own folder. Choose another `work`.")
    base = Path(os.path.realpath(target.source.folder))
    if real == base or base in real.parents:
        raise OutputError(f"{work}, where statistics are kept, lies in the model's own folder. Choose another `work`.")
    if os.path.lexists(work) and not work.is_dir():
        raise OutputError(f"{work}, where statistics are kept, is not a folder. Choose another `work`.")


def _no_folder(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and statistics are kept there. Choose another `work`.")


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


def _keep(vocabulary: Vocabulary, path: Path, made: Made) -> None:
    """Write a vocabulary, unless it is there already."""
    if not path.is_file() or path.read_bytes() != vocabulary_file.serialise(vocabulary):
        path.parent.mkdir(parents=True, exist_ok=True)
        vocabulary_file.save(vocabulary, path)
        made(vocabulary)


def _silence(
    target: Target,
    texts: Mapping[str, Text],
    recipe: Recipe,
    request: Request,
    work: Path,
    detection: Detection,
    listener: Listener,
) -> Silence:
    """Make a silence, as a look at the text takes no longer than seeing whether it is the same, and keep it in `work`."""
    made = prepare(
        target, texts, recipe, lose=request.lose, device=detection.device, dtype=detection.dtype,
        streaming=detection.streaming, listener=listener,
    )  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    silence_file.save(made, work / silence_file.FILE)
    return made


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


def _chosen(output: Path, request: Request, layers: int) -> Request | None:
    """Return what a search for the same chose for the checkpoint in `output`, of a model with so many layers."""
    try:
        record = manifest.read(output).candidates
    except VerificationError:
        return None
    if record is None:
        return None
    if way := way_of(record, request):
        return way.request(request)
    candidate = candidate_of(record, request, prompts_of(request, RUNGS[-1])) if request.searches_on else None
    return candidate.request(request, layers) if candidate else None


def _same_recipe(output: Path, target: Target, recipe: Recipe, request: Request) -> bool:
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


def _same(
    output: Path,
    target: Target,
    recipe: Recipe,
    request: Request,
    neurons: Neurons,
    calibration: Calibration | None,
    vocabulary: Vocabulary | None,
    silence: Silence | None,
) -> bool:
    """Whether `output` was already baked from all of this."""
    if not _same_recipe(output, target, recipe, request):
        return False
    files = manifest.read(output).files
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
