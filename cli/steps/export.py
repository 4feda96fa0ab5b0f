"""The whole row: detect, find, bake, verify."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..console import answer, note
from ..edit_options import Edits
from ..show import show_baked
from .bake import about_config, about_runtimes, run_edits
from .detect import reused, show_statistics
from .find import show_neurons
from .push import finish
from .verify import run_verify


def run_export(
    model: str,
    corpus: tuple[str, ...],
    languages: list[str],
    edits: Edits,
    *,
    rate: float,
    quantile: float,
    detection: dict[str, Any],
    device: str,
    dtype: str,
    verify_tokens: int,
    fast: bool,
    base_id: str | None,
    work: Path,
    output: Path,
    force: bool,
    as_json: bool,
    push: str | None = None,
    yes: bool = False,
) -> bool:
    """The whole row; whether the proof passed. Only what passed is pushed."""
    from ...editor.edits import manifest
    from ...editor.edits.bake import check_place
    from ...editor.edits.carriers import choose
    from ...editor.errors import CorpusError, NeuronsError
    from ...editor.files.output import check_free
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target
    from ...editor.neurons import neurons
    from ...editor.neurons.find import find
    from ...editor.text.corpus import open_corpus

    # everything that can be wrong is looked at before anything slow starts
    target = open_target(resolve(model, base_id))
    texts = open_corpus(corpus, languages)
    strength, layers, settled = _strength(output, edits)
    recipe = edits.recipe(target, list(texts), strength, layers)
    carrier = choose(recipe.carrier, target) if any(edit.constant for edit in recipe.edits) else None
    recipe = replace(recipe, carrier=carrier or "auto")
    if absent := [edit.language for edit in recipe.edits if edit.language not in texts]:
        raise NeuronsError(f"there is no text in {', '.join(absent)}; the corpus has {', '.join(texts)}.")
    check_place(target.source.folder, output)
    if len(texts) < 2:
        raise CorpusError(
            "a language is told from others: give text in two languages or more, best all that are to be kept."
        )
    check_free(output, force=force or (settled and _same_recipe(output, target, recipe)))

    asked = {"calibrate": carrier == "calibrated", "quantiles": edits.value != "mean"}
    settings = {**detection, **asked, "device": device, "dtype": dtype}
    statistics, calibration = _statistics(target, texts, work, settings, silent=as_json)
    found = find(statistics, rate=rate, quantile=quantile)
    neurons.save(found, work / "neurons.json")
    if not as_json:
        show_neurons(found, False)

    if settled and _same_recipe(output, target, recipe) and _same_neurons(output, found):
        note(f"{output} is this checkpoint already.")
    else:
        baked = run_edits(target, found, edits, calibration, output, force, device=device, dtype=dtype)
        about_config(target, baked, edits.compat_config)
        about_runtimes(target, baked, edits.for_runtimes)
        if not as_json:
            show_baked(baked, False)
    passed = run_verify(
        output, target, None, corpus, list(texts), tokens=verify_tokens, context=min(detection["context"], 256),
        device=device, dtype=dtype, fast=fast, as_json=False, silent=as_json,
    )  # fmt: skip
    note(f"The card is {output / 'README.md'}; statistics and neurons are in {work}.")
    pushed = {"pushed": finish(output, push, yes, silent=as_json)} if push and passed else {}
    if as_json:
        record = manifest.read(output)
        keys = ("neurons_edited", "edited", "kept", "carrier", "rounding", "strength", "certificate")
        answer({"folder": str(output), **{key: record.get(key) for key in keys}, **pushed})
    return passed


def _statistics(target: Any, texts: Any, work: Path, settings: dict[str, Any], *, silent: bool) -> tuple[Any, Any]:
    """From `work` if what lies there was made of the same model, texts and settings, else anew and shown; and the
    calibration, if `settings` ask for one."""
    from ...editor.edits import calibration
    from ...editor.edits.fit import open_calibration

    path, fitted = work / "stats.safetensors", work / calibration.FILE
    found, new = reused(target, texts, path, **settings)
    if new:
        fitted.unlink(missing_ok=True)
        if not silent:
            show_statistics(found, False)
    if not settings["calibrate"]:
        return found, None
    if not fitted.is_file():
        calibration.save(open_calibration(path, target), fitted)
    return found, open_calibration(fitted, target)


def _strength(output: Path, edits: Edits) -> tuple[float | None, Any, bool]:
    """The strength and the layers to bake with, and whether they are settled: with --strength auto, when a search for the
    same was already made for the checkpoint in `output`."""
    from ...editor.edits import manifest
    from ...editor.errors import VerificationError
    from .strength import digest, prompts_of

    if edits.strength != "auto":
        return None if edits.strength is None else float(edits.strength), None, True
    asked = (edits.target_accuracy, digest(prompts_of(edits)))
    try:
        found = manifest.read(output)["strength"]
        if (found["target_accuracy"], found["prompts"]) == asked:
            return float(found["checkpoint"][-1]["strength"]), tuple(found["layers"]), True
    except (VerificationError, KeyError, TypeError, IndexError):
        pass
    return 1.0, None, False


def _same_recipe(output: Path, target: Any, recipe: Any) -> bool:
    """Whether `output` was already baked from this base and recipe, by this version."""
    from ...editor.edits import manifest
    from ...editor.errors import VerificationError
    from ...editor.version import VERSION

    try:
        record = manifest.read(output)
    except VerificationError:
        return False
    return bool(
        record["monoglot"] == VERSION
        and record["base"]["model"] == target.base.model
        and record["base"]["fingerprint"] == target.fingerprint
        and record["recipe"] == manifest.recipe_record(recipe)
    )


def _same_neurons(output: Path, found: Any) -> bool:
    from ...editor.edits import manifest
    from ...editor.neurons import neurons

    return bool(manifest.read(output)["files"]["neurons.json"] == manifest.entry(neurons.serialise(found).encode()))
