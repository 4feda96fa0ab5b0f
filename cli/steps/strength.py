"""--strength auto: look for the strength under hooks, bake at it, and measure what the checkpoint itself does."""

import hashlib
import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...cards.refresh import renew
from ..console import bar, note
from ..edit_options import Edits
from .bake import run_bake

PROMPTS = 4  # a language
TRIES = 3  # checkpoints, each at the next strength when the one before falls short of what the hooks promised


def run_auto(
    target: Any, found: Any, edits: Edits, calibration: Any, output: Path, force: bool, *, device: str, dtype: str
) -> Any:
    """The baked checkpoint, its curve in the manifest and on the card."""
    from ...editor.edits import manifest
    from ...editor.edits.bake import check_place
    from ...editor.edits.carriers import carried
    from ...editor.errors import MonoglotWarning
    from ...editor.files.output import check_free, updating
    from ...editor.live.load import load_model
    from ...editor.live.modules import activation_modules
    from ...editor.measures import strength
    from ...editor.models.hf import load_tokenizer
    from ...editor.text.prompts import passages

    check_place(target.source.folder, output)
    check_free(output, force=force)
    (language,) = edits.activated
    asked = prompts_of(edits)

    def recipe_at(value: float, layers: tuple[int, int]) -> Any:
        return edits.recipe(target, found.languages, value, layers)

    def plan_at(value: float, layers: tuple[int, int]) -> Any:
        return carried(target, recipe_at(value, layers), found, calibration).plan

    candidates = edits.candidates(target)
    for layers in candidates:
        plan_at(1.0, layers)  # what can't be carried is said before the model is built
    base, tokenizer = load_model(target.source.folder, device=device, dtype=dtype), load_tokenizer(target.source.folder)
    task = strength.Task(base, tokenizer, language, asked, passages(language))
    modules = activation_modules(base, target.feed_forward.family)
    curves: list[tuple[Any, tuple[int, int]]] = []
    for layers in candidates:
        with bar(f"strength, layers {layers[0]}-{layers[1]}", "answers") as update, warnings.catch_warnings():
            warnings.simplefilter("ignore", MonoglotWarning)  # said below, of the best
            curve = strength.search(
                task, modules, partial(plan_at, layers=layers), target_accuracy=edits.target_accuracy, progress=update
            )
        curves.append((curve, layers))
        if curve.reached:
            break
    curve, layers = max(curves, key=lambda one: (one[0].reached, one[0].best.answers.whole))
    tried: list[Any] = []
    baked: Any = None
    for value in [one for one in strength.STRENGTHS if one >= curve.chosen][: TRIES if curve.reached else 1]:
        baked = run_bake(target, found, recipe_at(value, layers), calibration, output, force or bool(tried))
        with bar("checkpoint", "answers") as update:
            model = load_model(output, device=device, dtype=dtype)
            tried.append(strength.of_checkpoint(task, model, value, progress=update))
        if tried[-1].good(edits.target_accuracy):
            break
    best = max(tried, key=lambda point: (point.good(edits.target_accuracy), point.answers.whole))
    if best is not tried[-1]:
        baked = run_bake(target, found, recipe_at(best.strength, layers), calibration, output, True)
        tried.append(best)
    if not best.good(edits.target_accuracy):
        note("Warning: " + strength.advice(best, language, edits.target_accuracy))
    with updating(output):
        record = manifest.unchanged(output, baked.manifest)
        record["strength"] = {
            **strength.to_json(curve, tried, strength.samples(task, best)), "layers": list(layers), "prompts": digest(asked),
        }  # fmt: skip
        renew(output, record, found.method, target.source.folder)
    return replace(baked, manifest=record)


def prompts_of(edits: Edits) -> dict[str, list[str]]:
    """What the model is asked, by language; that in the language itself is not. Of the embedded prompts those that
    `evaluate` does not ask, so that its figures are of unseen ones."""
    from ...editor.text import prompts

    if edits.prompts:
        return prompts.load(edits.prompts, count=None)
    every = prompts.embedded_prompts(count=prompts.COUNT + PROMPTS)
    return {language: own[prompts.COUNT :] for language, own in every.items()}


def digest(prompts: dict[str, list[str]]) -> str:
    """What the manifest says of them, so that another run knows whether they are the same."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
