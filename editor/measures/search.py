"""Bakes a checkpoint. Where the strength is "auto", searches for it first and checks it on the checkpoint."""

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..edits import manifest, manifest_files
from ..edits.adapter import adaptable, bake_adapter
from ..edits.bake import Baked, bake, check_place
from ..edits.calibration import Calibration
from ..edits.card_maker import NO_CARD, CardMaker
from ..edits.carriers import carried
from ..edits.evaluation import Candidates, Search
from ..edits.plan import Plan
from ..edits.recipe import Recipe
from ..edits.redirect import told
from ..edits.request import ADAPTER, AUTO, CHECKPOINT, FORMS, Request
from ..edits.silence import Silence
from ..errors import CorpusError, MonoglotWarning, RecipeError
from ..files import schema
from ..files.output import check_free
from ..files.together import updating
from ..live.adapted import load_baked
from ..live.load import load_model
from ..live.memory import warn_of_size
from ..live.modules import activation_modules
from ..models.hf import load_tokenizer
from ..models.target import Target
from ..neurons.neurons import Neurons
from ..progress import NOBODY, Listener, in_megabytes
from ..runtimes.capabilities import settled
from ..statistics.vocabulary import Vocabulary
from ..text import prompts as prompts_file
from ..text.identify import check
from ..text.prompts import Prompts, digest, passages

PROMPTS = 4  # a language
TRIES = 3  # checkpoints, each at the next strength when the one before falls short of what the hooks promised


def bake_requested(
    target: Target,
    neurons: Neurons,
    request: Request,
    output: Path,
    *,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    silence: Silence | None = None,
    force: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    candidates: Candidates | None = None,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
) -> Baked:
    """Bake what is asked for to `output`. Where the strength is AUTO, the model runs, and the manifest gets the curve.

    `candidates` are the record of a search that chose what is asked for; the manifest and the card get it.

    Raises what `bake` raises, and CorpusError for prompts that can't be asked. Warns (MonoglotWarning) when no strength is
    good enough; what is there then is the best of them.
    """
    _check_form(request.form, request.max_rank)
    request = settled(request, target)
    if request.strength != AUTO:
        given = None if request.strength is None else float(request.strength)
        recipe = request.recipe(target, neurons.languages, given, counted=vocabulary.languages if vocabulary else ())
        baked = bake_recipe(
            target, neurons, recipe, output, calibration=calibration, vocabulary=vocabulary, silence=silence, force=force,
            card=card, listener=listener, form=request.form, max_rank=request.max_rank,
        )  # fmt: skip
        return _told_of(baked, neurons, card, candidates=candidates) if candidates else baked
    if request.redirect:
        raise RecipeError("a strength is not searched for where tokens are redirected. Give `strength` a number.")
    check_place(target.source.folder, output)
    check_free(output, force=force)
    check_search(request)
    from . import strength  # what measures answers is not loaded by a bake that measures none

    language, asked = request.searched, prompts_of(request)

    def recipe_at(value: float, layers: tuple[int, int]) -> Recipe:
        return request.recipe(target, neurons.languages, value, layers)

    def plan_at(value: float, layers: tuple[int, int]) -> Plan:
        if request.form == ADAPTER:
            return adaptable(target, recipe_at(value, layers), neurons, calibration).plan
        return carried(target, recipe_at(value, layers), neurons, calibration, silence=silence).plan

    def bake_at(value: float, layers: tuple[int, int], *, force: bool) -> Baked:
        return bake_recipe(
            target, neurons, recipe_at(value, layers), output, calibration=calibration, silence=silence, force=force,
            card=card, listener=listener, form=request.form, max_rank=request.max_rank,
        )  # fmt: skip

    places = request.candidates(target)
    for layers in places:
        plan_at(1.0, layers)  # what can't be carried is said before the model is built
    warn_of_size(target.source.folder, device=device, dtype=dtype, models=2)
    base, tokenizer = load_model(target.source.folder, device=device, dtype=dtype), load_tokenizer(target.source.folder)
    task = strength.Task(base, tokenizer, language, asked, passages(language))
    modules = activation_modules(base, target.feed_forward.family)
    curves: list[tuple[strength.Curve, tuple[int, int]]] = []
    for layers in places:
        with (
            listener.stage(f"strength, layers {layers[0]}-{layers[1]}", "answers") as update,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", MonoglotWarning)  # said below, of the best
            curve = strength.search(
                task,
                modules,
                partial(plan_at, layers=layers),
                target_accuracy=request.target_accuracy,
                progress=update,
            )
        curves.append((curve, layers))
        if curve.reached:
            break
    curve, layers = max(curves, key=lambda one: (one[0].reached, one[0].best.answers.whole))
    tried: list[strength.Point] = []
    for value in [one for one in strength.STRENGTHS if one >= curve.chosen][: TRIES if curve.reached else 1]:
        baked = bake_at(value, layers, force=force or bool(tried))
        with listener.stage("checkpoint", "answers") as update:
            model = load_baked(output, target.source.folder, device=device, dtype=dtype)
            tried.append(strength.of_checkpoint(task, model, value, progress=update))
        if tried[-1].good(request.target_accuracy):
            break
    best = max(tried, key=lambda point: (point.good(request.target_accuracy), point.answers.whole))
    if best is not tried[-1]:
        baked = bake_at(best.strength, layers, force=True)
        tried.append(best)
    if not best.good(request.target_accuracy):
        warnings.warn(strength.advice(best, language, request.target_accuracy), MonoglotWarning, stacklevel=2)
    searched = {
        **strength.to_json(curve, tried, strength.samples(task, best)),
        "layers": list(layers),
        "prompts": digest(asked),
    }
    return _told_of(baked, neurons, card, strength=schema.read(Search, searched, "strength"))


def _told_of(baked: Baked, neurons: Neurons, card: CardMaker, **found: Any) -> Baked:
    """Add to the manifest of a checkpoint, and to its card, what a search found."""
    folder = baked.folder
    with updating(folder):
        now = replace(manifest_files.unchanged(folder, baked.manifest), **found)
        drawn = card.draw({"candidates": now.candidates}, None) if now.candidates else {}
        card.renew(folder, now, neurons.method, baked.target.source.folder, drawn)
    return replace(baked, manifest=manifest.read(folder))


def bake_recipe(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    output: Path,
    *,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    silence: Silence | None = None,
    force: bool = False,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
    form: str = CHECKPOINT,
    max_rank: int | None = None,
) -> Baked:
    """Bake a recipe to `output`, with its card, as a stage of its own; as an adapter where that is the `form`.

    Raises what `bake` and `bake_adapter` raise.
    """
    _check_form(form, max_rank)
    if recipe.redirects and vocabulary:
        for line in told(target, recipe.redirects, vocabulary, untie=recipe.untie):
            listener.told(line)
    if recipe.scripts and silence:
        from ..edits.silencing import told as told_of_silence

        for line in told_of_silence(target, recipe, silence):
            listener.told(line)
    with listener.stage("bake", "MB") as update:
        if form == ADAPTER:
            return bake_adapter(
                target, neurons, recipe, output, calibration=calibration, vocabulary=vocabulary, max_rank=max_rank,
                force=force, describe=card.describe(neurons.method), progress=in_megabytes(update), told=listener.told,
            )  # fmt: skip
        return bake(
            target, neurons, recipe, output, calibration=calibration, vocabulary=vocabulary, silence=silence, force=force,
            describe=card.describe(neurons.method), progress=in_megabytes(update),
        )  # fmt: skip


def _check_form(form: str, max_rank: int | None) -> None:
    if form not in FORMS:
        raise RecipeError(f"unknown `form` {form!r}; known: {', '.join(FORMS)}.")
    if max_rank is not None and form != ADAPTER:
        raise RecipeError("`max_rank` is that of an adapter. Set `form` to adapter, or leave it out.")


def check_search(request: Request) -> None:
    """Raise CorpusError when the strength of what is requested can't be searched for.

    That is so when there is nothing to ask, or a language that can't be identified.
    """
    asked = {code for code, own in prompts_of(request).items() if own} - {request.searched}
    if not asked:
        raise CorpusError(
            f"there are no prompts in another language than {request.searched}. Give some with `prompts` FILE."
        )
    check([request.searched])


def prompts_of(request: Request, count: int = PROMPTS) -> Prompts:
    """Give what the model is asked in a search, by language; prompts in the activated language are left out later.

    Of the embedded prompts they are `count` that `evaluate` does not ask, so that its figures are of unseen ones.
    """
    if request.prompts:
        return prompts_file.load(request.prompts, count=None)
    every = prompts_file.embedded_prompts(count=prompts_file.COUNT + count)
    return {language: own[prompts_file.COUNT :] for language, own in every.items()}
