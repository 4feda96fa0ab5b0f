"""Export: detect, find, bake and verify in one call, from a model and text to a proved checkpoint with a card."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .edits import calibration as calibration_file
from .edits import manifest
from .edits import silence as silence_file
from .edits.bake import Baked
from .edits.calibration import Calibration
from .edits.card_maker import NO_CARD, CardMaker
from .edits.fit import open_calibration, source_of
from .edits.recipe import Recipe
from .edits.request import ADAPTER, AUTO, CHECKPOINT, Request
from .edits.silence import Silence
from .edits.silencing import check_needed, offered, prepare
from .edits.vectors import in_layers
from .errors import CorpusError, ModelError, StatisticsError
from .export_request import ask, check_no_folder, default_work, needs_carrier
from .export_reuse import same_checkpoint, same_recipe
from .files.hashes import remember
from .files.output import absolute, check_free, check_room, claimed, publish
from .measures.again import ask_again
from .measures.bench import Bench, both_kinds
from .measures.kinds import read_at
from .measures.off import search_off
from .measures.pick import search_on
from .measures.search import bake_requested
from .measures.whole import check_whole
from .models.residual import route_of
from .models.target import Target
from .neurons import neurons as neurons_file
from .neurons.find import find
from .neurons.neurons import QUANTILE, RATE, Neurons
from .progress import NOBODY, Listener
from .proof.logits import read_held_out
from .proof.prove import NEURONS, Proof, prove
from .proof.settings import CONTEXT, TOKENS
from .statistics import vocabulary as vocabulary_file
from .statistics.detection import Detection
from .statistics.kept_vocabulary import OUTPUTS, RESIDUAL, complete, count_or_reuse
from .statistics.reuse import detect_or_reuse
from .statistics.statistics import Statistics
from .statistics.vocabulary import Vocabulary
from .text.corpus import Text
from .text.letters import count_characters

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
    same = known and same_recipe(output, target, recipe, request)
    with (
        claimed(output, partial(check_free, force=force or same)),
        claimed(unproved, partial(check_free, force=True)),
        claimed(work / STATISTICS, check_no_folder),
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
                target, statistics, calibration, vocabulary, texts, asked, both_kinds(asked), detection.tokens,
                detection.device, detection.dtype, silence, listener,
            )  # fmt: skip
            pick = search_on(bench, work, listener=listener)
            neurons, vocabulary, record, request = pick.neurons, pick.vocabulary, pick.record, pick.request
            silence = pick.silence
        elif statistics:
            neurons = find(
                statistics,
                rate=RATE if rate is None else rate,
                quantile=QUANTILE if quantile is None else quantile,
            )
        if searches:
            strength = None if request.strength is None else float(request.strength)
            recipe, known = request.recipe(target, list(texts), strength, None, list(texts)), True
            recipe = replace(recipe, carrier=carrier if needs_carrier(recipe) and carrier else AUTO)
            if request.form == ADAPTER:
                recipe = replace(recipe, compat_config=False)
        if neurons.languages:
            neurons_file.save(neurons, work / NEURONS)
            made(neurons)
        elif opened.calibrated:
            statistics, calibration = _statistics(target, texts, work, detection, listener, made)
        inputs = (neurons, calibration, vocabulary, silence)
        baked, place = None, unproved
        if known and same_checkpoint(output, target, recipe, request, *inputs):
            listener.told(f"{output} is this checkpoint already.")
            place = output
        elif known and same_checkpoint(unproved, target, recipe, request, *inputs, searched=record is not None):
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
