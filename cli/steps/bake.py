"""Bake with a progress bar, and say what the user should know of the result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cards.render import card_writer
from ..console import bar, note
from ..edit_options import Edits


def run_edits(
    target: Any, found: Any, edits: Edits, calibration: Any, output: Path, force: bool, *, device: str, dtype: str
) -> Any:
    """Bake what the options say; with --strength auto, at the strength that a search finds and the checkpoint confirms."""
    if edits.strength != "auto":
        recipe = edits.recipe(target, found.languages, edits.strength)
        return run_bake(target, found, recipe, calibration, output, force)
    from .strength import run_auto

    return run_auto(target, found, edits, calibration, output, force, device=device, dtype=dtype)


def run_bake(target: Any, found: Any, recipe: Any, calibration: Any, output: Path, force: bool) -> Any:
    from ...editor.edits.bake import bake

    describe = card_writer(found.method)
    with bar("bake", "MB") as update:
        return bake(
            target, found, recipe, output, calibration=calibration, force=force, describe=describe,
            progress=lambda done, whole: update("", done // 10**6, whole // 10**6),
        )  # fmt: skip


def about_config(target: Any, baked: Any, asked: bool | None) -> None:
    """Which keys config.json got and for whom, or, where nobody `asked` for it to be left as it is, why it got none."""
    from ...editor.models.compat_config import READERS, old_keys, unread_tokenizer

    keys = {key for found in old_keys(target.checkpoint.config).values() for key in found}
    named = ", ".join(f"{key} ({READERS[key]})" for key in sorted(keys))
    if baked.carried.compat_config:
        note(
            "The base's config.json has only the spelling of transformers 5. Added what others read, with the same values: "
            f"{named}. --no-compat-config leaves it as it is."
        )
    elif keys and asked is None:  # the recipe didn't say
        note(
            f"Warning: config.json has only the spelling of transformers 5, and others take their defaults for {named}. "
            "`compat_config: true` in the recipe adds what they read."
        )
    elif asked:
        note("--compat-config had nothing to add: config.json has the older spelling of all that it says.")
    if name := unread_tokenizer(target.checkpoint.folder):
        note(
            f"The base's tokenizer_config.json names {name}, which transformers 4 does not know, nor what converts with it "
            '(ctranslate2, optimum-onnx): for them write "PreTrainedTokenizerFast" there, in the base, and bake again.'
        )


def about_runtimes(target: Any, baked: Any, runtimes: Sequence[str]) -> None:
    """Which of the runtimes that it is for were seen to lose what was chosen, and which were not run."""
    from ...editor.runtimes.capabilities import dropping, seen

    model_type, carrier = target.feed_forward.model_type, baked.carried.carrier or "none"
    lost = dropping(runtimes, carrier, model_type)
    unknown = [name for name in runtimes if seen(name, carrier, model_type) is None]
    for name in lost:
        note(
            f"Warning: {name} was seen not to honour constants by {carrier} in a {model_type}: it would run the model "
            "without them, or not at all. --carrier calibrated has nothing that it could drop."
        )
    if unknown:
        note(
            f"{', '.join(unknown)}: not run yet with {'constants by ' + carrier if carrier != 'none' else 'such edits'} in a "
            f"{model_type}. See with: monoglot verify {baked.folder} --runtime {','.join(unknown)}"
        )
