"""The README.md of a checkpoint, from its manifest and the base's card.

Everything on it comes from the manifest, so it says nothing that was not recorded; a name that the template uses and
nobody defines is an error. No local path, user or token is ever put on it.
"""

import html
import re
import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..editor import embedded
from ..editor.edits.card_maker import Describe
from ..editor.edits.manifest import Manifest
from ..editor.errors import CardError, CheckpointError, MonoglotWarning
from ..editor.files import card_text
from ..editor.files.companions import check_content
from ..editor.files.kinds import FILE
from ..editor.models.identity import shape_in_words
from ..editor.text import languages
from ..editor.text.token_sets import SETS
from .figures import draw as figures
from .metadata import metadata, results
from .words import adapters, candidates, changes, generated, notes, origin, runtimes, sections, wording
from .words.foreign import cell, code, fenced, line
from .words.table import grid
from .words.verdicts import verdicts

TAGS = ["monoglot", "lape"]
ON_CARD = (
    "candidates",
    "perplexity",
    "deactivate_each",
    "profile",
    "overlap",
    "similarity",
    "methods",
    "effect",
)  # with a heading of their own
WIDTH = 800  # pixels, of a figure
PROMPTS = {  # without quotes or anything else that a shell or JSON has a use for
    "en": "The best way to learn is", "zh": "学习最好的方法是", "fr": "Pour bien apprendre, il faut",
    "es": "La mejor manera de aprender es", "vi": "Cách học tốt nhất là", "id": "Cara terbaik untuk belajar adalah",
    "ja": "学ぶための最良の方法は",
}  # fmt: skip


def render(manifest: Manifest, base_folder: Path, recipe: str, method: dict[str, Any]) -> str:
    """Render the whole text of README.md.

    `recipe` is the text of recipe.yaml, `method` what neurons.json says of itself. Raises CardError when the Hub would refuse
    its metadata.
    """
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    # no autoescape, as it makes Markdown: what is foreign goes through `words.foreign`
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    template = environment.from_string(files(__package__).joinpath("card.md").read_text(encoding="utf-8"))
    base, body = read_base_card(base_folder)
    data = front_matter(manifest, base, method, base_folder)
    if found := metadata.problems(data):
        raise CardError(f"the card of this checkpoint would have metadata that the Hub refuses: {found[0]}")
    text = template.render(**context(manifest, recipe, method), base_card=body)
    return f"---\n{metadata.to_yaml(data)}\n---\n{text.rstrip()}\n"


def read_base_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of the base's card; empty when there is none, metadata empty when it is malformed."""
    path = folder / "README.md"
    if not path.is_file():
        return {}, ""
    try:
        check_content(path)
    except CheckpointError as error:
        warnings.warn(
            f"the base's card is none: {error} Until then the new one names no licence.", MonoglotWarning, stacklevel=2
        )
        return {}, ""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        warnings.warn(
            f"the base's card is not UTF-8 ({path}: {error.reason}). So the new card does not name its licence and task: "
            "convert it, or add them to the card. Licence files come along.",
            MonoglotWarning,
            stacklevel=2,
        )
        return {}, ""
    try:
        data, body = card_text.split(text)
    except CardError as error:
        warnings.warn(
            f"the metadata of the base's card cannot be read ({path}: {str(error).rstrip('.')}). So the new card does not "
            "name the base's licence and task: add them to the card. Licence files come along.",
            MonoglotWarning,
            stacklevel=2,
        )
        return {}, text.strip()
    body = card_text.unmarked(body)
    if (folder / FILE).is_file():  # a checkpoint of ours: its figures are not among our files
        drawn = "|".join(map(re.escape, map(figures.file, figures.DRAWN)))
        body = re.sub(rf'<img src="(?:{drawn})"[^>]*>\n*', "", body)
    return data, body.strip()


def front_matter(manifest: Manifest, base: dict[str, Any], method: dict[str, Any], base_folder: Path) -> dict[str, Any]:
    """Make the metadata that the Hub reads.

    Licence, task and tags are the base's, the languages are those that are left, and the results are this model's alone.
    """
    model = manifest.base.model if manifest.base.hub else None
    kept = metadata.inherited(base, base_folder, model)
    off = [*manifest.deactivated, *(edit.language for edit in manifest.recipe.redirects)]
    active = manifest.activated
    spoken, tagged = kept.pop("language"), kept.pop("language_bcp47")
    if active:
        spoken, tagged = metadata.codes(active)
    elif not spoken:
        counted = method.get("tokens") or manifest.vocabulary or {}
        spoken, tagged = metadata.codes(sorted(code for code in counted if code not in off))
    ours = TAGS if manifest.neurons_edited else TAGS[:1]  # "lape" is how neurons are found
    if manifest.adapter:
        ours = [*ours, "lora"]
    data = {
        "base_model": model,
        "base_model_relation": ("adapter" if manifest.adapter else "finetune") if model else None,
        **{key: value for key, value in kept.items() if key.startswith("license")},
        "language": [code for code in spoken if code not in off],
        "language_bcp47": [code for code in tagged if code not in off],
        "library_name": "peft" if manifest.adapter else "transformers",
        "pipeline_tag": kept["pipeline_tag"],
        "tags": [*ours, *(tag for tag in kept["tags"] if tag not in TAGS)],
        "model-index": results.model_index(manifest),
    }
    return {key: value for key, value in data.items() if value}


def context(manifest: Manifest, recipe: str, method: dict[str, Any]) -> dict[str, Any]:
    """Everything the template names, apart from the base's card."""
    off, active = manifest.deactivated, manifest.activated
    others = [code for code in PROMPTS if code not in (active or off)]
    evaluation, strength, answered = manifest.shown, manifest.strength, manifest.measures.get("activated") or {}
    found = {part.name: part for part in sections.sections(evaluation, strength)}
    proved = verdicts(manifest.certificate, adapter=manifest.adapter is not None)
    return {
        "title": cell(wording.title(manifest)),
        "summary": cell(wording.summary(manifest)),
        "form": wording.form(manifest),
        "adapter": adapters.about(manifest),
        "weights_note": cell(notes.weights_note(manifest)),
        "config_note": notes.config_note(manifest),
        "advice": runtimes.advice(manifest),
        "unconvertible": runtimes.unconvertible(manifest),
        "checked": runtimes.checked(manifest),
        "proved": runtimes.proved(manifest),
        "known": runtimes.known(runtimes.carrier(manifest)),
        "prompt": PROMPTS[others[0]] if others else "…",
        "edits": changes.edits(manifest),
        "off": bool(off),
        "weak": [
            code for code, kept in manifest.kept.items() if kept > manifest.edited[code] and not manifest.candidates
        ],
        "activated": cell(languages.listed(active)) if active else "",
        "constant": any(edit.constant for edit in manifest.recipe.edits) or bool(manifest.recipe.vectors),
        "neurons": bool(manifest.neurons_edited),
        "redirected": bool(manifest.redirected or manifest.readers),
        "tokens_note": notes.tokens_note(manifest),
        "vectors_note": " ".join(filter(None, (notes.vectors_note(manifest), notes.readers_note(manifest)))),
        "silence_note": notes.silence_note(manifest),
        "silenced": any(edit.script not in SETS for edit in manifest.recipe.scripts),
        "quieter": any(edit.script in SETS for edit in manifest.recipe.scripts),
        "read_as_before": manifest.recipe.untie or not manifest.floor,
        "leaks": generated.leaks(evaluation["leaks"]) if evaluation.get("leaks") else [],
        "control": notes.control(manifest),
        "carrier": cell(wording.carrier(manifest)),
        "calibration": changes.calibration(manifest.carrier),
        "answers": generated.answers(evaluation["activated"]) if evaluation.get("activated") else [],
        "overall": " ".join(
            filter(None, (generated.overall(answered), candidates.beside(manifest.candidates, answered)))
        ),
        "wanted": cell(generated.wanted(answered)),
        "drawn": bool(answered.get("temperature")),
        "answered_by": cell(generated.answered_by(answered)),
        "strength": generated.strength(strength) if strength else [],
        "strength_figure": picture(found["strength"], manifest.files) if strength else "",
        "samples": _samples(manifest),
        "kept_answers": [
            (found[name], generated.answers(evaluation[name])[0], cell(generated.answered_by(evaluation[name])))
            for name in ("same_language", "asked")
            if name in found
        ],
        "sections": [
            {"part": part, "figure": picture(part, manifest.files)} for name, part in found.items() if name in ON_CARD
        ],
        "shape": shape_in_words(manifest.base.layers, manifest.base.width, manifest.base.networks or 0),
        "method": cell(wording.found_by(method)) if manifest.neurons_edited else "",
        "found_in": cell(origin.found_in(manifest)),
        "recipe": fenced(recipe, "yaml"),
        "verified": manifest.certificate is not None,
        "verdicts": [verdict.markdown() for verdict in proved],
        "effect": changes.effect(manifest.certificate),
        "version": manifest.monoglot,
        **_base(manifest),
        "grid": grid,
        "cell": cell,
        "line": line,
    }


def picture(part: sections.Section, files: Collection[str]) -> str:
    """Write a figure as HTML in Markdown; nothing where the checkpoint has none.

    It has a background of its own, so that it can be read on dark pages too.
    """
    file = figures.file(part.name)
    return f'<img src="{file}" alt="{html.escape(line(part.alt))}" width="{WIDTH}">' if file in files else ""


def _base(manifest: Manifest) -> dict[str, str]:
    """Return the base's name and revision, and how a command is told where it is.

    A base that was a folder has to be named."""
    base = manifest.base
    known = base.hub or base.model == embedded.NAME
    linked = base.hub and metadata.is_model(base.model)
    where = f"[{cell(base.model)}](https://huggingface.co/{base.model})" if linked else code(base.model)
    revision = f" at revision {code(base.revision)}" if base.revision else ""
    told = "" if base.hub else ", which comes with monoglot" if known else ", a folder: `BASE` is where you have it"
    return {
        "base": f"{where}{revision}{told}",
        "base_option": "" if known else " --base BASE",
        "base_argument": "" if known else " BASE",
    }


def _samples(manifest: Manifest) -> list[tuple[str, str]]:
    """Three real answers, the first to a prompt in each of the first three languages: chosen by rule."""
    found = manifest.measures.get("activated")
    if found:
        first = {
            sample["language"]: (sample["prompt"], sample.get("this model", ""))
            for sample in reversed(found.get("samples") or [])
        }
        pairs = [first[code] for code in found["by_language"] if code in first]
    else:
        pairs = [(one["prompt"], one["answer"]) for one in (manifest.strength["samples"] if manifest.strength else ())]
    return [(cell(prompt), cell(answer)) for prompt, answer in pairs[:3]]


def card_writer(method: dict[str, Any]) -> Describe:
    """Return the function that README.md is rendered with at baking.

    `refresh.renew` keeps what a person wrote on a card that is there already.
    """
    from ..editor.edits import recipe as recipes

    def describe(manifest: Manifest, base_folder: Path) -> str:
        recipe = replace(manifest.recipe, base=manifest.base.identity)
        return render(manifest, base_folder, recipes.to_yaml(recipe), method)

    return describe
