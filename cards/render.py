"""The README.md of a checkpoint, from its manifest and the base's card.

Everything on it comes from the manifest, so it says nothing that was not recorded; a name that the template uses and
nobody defines is an error. No local path, user or token is ever put on it.
"""

import html
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..editor.neurons import SETTINGS
from . import languages, sections, tables, wording
from .amounts import change as change  # what the commands ask for here
from .amounts import perplexity as perplexity
from .wording import operation as operation

TAGS = ["monoglot", "lape"]
ON_CARD = (
    "perplexity",
    "deactivate_each",
    "profile",
    "overlap",
    "similarity",
    "methods",
)  # with a heading of their own
METHODS = {  # the neurons were found by …
    "lape": "LAPE", "lap": "LAP", "lave": "LAVE", "pv": "parameter variation", "ap": "average precision",
    "random": "drawing at random",
}  # fmt: skip
PICTURE = re.compile(r'<picture>\n(?:<source [^>]*>\n)?<img src="figures/[^>]*>\n</picture>\n*')
PROMPTS = {
    "en": "The best way to learn is", "zh": "学习最好的方法是", "fr": "La meilleure façon d'apprendre est",
    "es": "La mejor manera de aprender es", "vi": "Cách học tốt nhất là", "id": "Cara terbaik untuk belajar adalah",
    "ja": "学ぶための最良の方法は",
}  # fmt: skip


def render(manifest: dict[str, Any], base_folder: Path, recipe: str, method: dict[str, Any]) -> str:
    """The whole text of README.md. `recipe` is that of recipe.yaml, `method` what neurons.json says of itself."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    # no autoescape, as it makes Markdown; `tables.cell` takes care of what a model wrote
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    template = environment.from_string(files(__package__).joinpath("card.md").read_text(encoding="utf-8"))
    data, body = read_base_card(base_folder)
    body = PICTURE.sub("", body)  # of a base that is a checkpoint of ours: its figures are not among our files
    text = template.render(**context(manifest, recipe, method), base_card=body.strip())
    return f"---\n{front_matter(manifest, data, method)}\n---\n{text.rstrip()}\n"


def read_base_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of the base's card; empty when there is none, metadata empty when it is malformed."""
    path = folder / "README.md"
    if not path.is_file():
        return {}, ""
    import yaml
    from huggingface_hub import ModelCard

    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except (yaml.YAMLError, ValueError, TypeError):
        return {}, text
    return card.data.to_dict(), card.text


def front_matter(manifest: dict[str, Any], base: dict[str, Any], method: dict[str, Any]) -> str:
    """The metadata that the Hub reads. Licence and pipeline tag are the base's."""
    from huggingface_hub import ModelCardData

    off = wording.deactivated(manifest)
    spoken = base.get("language") or sorted(method.get("tokens", {}))
    spoken = [spoken] if isinstance(spoken, str) else [str(code) for code in spoken]
    left = wording.activated(manifest) or [code for code in spoken if code not in off]
    kept = {key: base[key] for key in ("license", "license_name", "license_link") if base.get(key)}
    data = ModelCardData(
        base_model=manifest["base"]["model"] if manifest["base"]["hub"] else None,
        base_model_relation="finetune" if manifest["base"]["hub"] else None,
        language=left or None,
        library_name="transformers",
        pipeline_tag=base.get("pipeline_tag", "text-generation"),
        tags=TAGS + [tag for tag in base.get("tags") or [] if tag not in TAGS],
        **kept,
    )
    return str(data.to_yaml(line_break="\n")).strip()


def context(manifest: dict[str, Any], recipe: str, method: dict[str, Any]) -> dict[str, Any]:
    """Everything the template names, apart from the base's card."""
    off, active = wording.deactivated(manifest), wording.activated(manifest)
    others = [code for code in PROMPTS if code not in (active or off)]
    evaluation, strength = manifest.get("evaluation") or {}, manifest.get("strength")
    found = {part.name: part for part in sections.sections(evaluation, strength)}
    verdicts = wording.verdicts(manifest)
    return {
        "title": wording.title(manifest),
        "summary": wording.summary(manifest),
        "form": wording.form(manifest),
        "weights_note": wording.weights_note(manifest),
        "runtimes": wording.RUNTIMES[(manifest["carrier"] or {}).get("name", "none")],
        "prompt": PROMPTS[others[0]] if others else "…",
        "edits": tables.edits(manifest),
        "off": bool(off),
        "weak": [code for code, kept in manifest["kept"].items() if kept > manifest["edited"][code]],
        "activated": languages.listed(active) if active else "",
        "carrier": wording.carrier(manifest),
        "calibration": tables.calibration(manifest["carrier"]),
        "answers": tables.answers(evaluation["activated"]) if evaluation.get("activated") else [],
        "strength": tables.strength(strength) if strength else [],
        "strength_figure": picture(found["strength"], manifest["files"]) if strength else "",
        "samples": _samples(manifest),
        "sections": [
            {"part": part, "figure": picture(part, manifest["files"])}
            for name, part in found.items()
            if name in ON_CARD
        ],
        "layers": manifest["base"]["layers"],
        "width": manifest["base"]["width"],
        "method": _method(method),
        "recipe": recipe,
        "verified": bool(manifest["certificate"]),
        "verdicts": [verdict.markdown() for verdict in verdicts],
        "effect": tables.effect(manifest["certificate"]),
        "version": manifest["monoglot"],
        "grid": tables.grid,
        "cell": tables.cell,
    }


def picture(part: sections.Section, files: Collection[str]) -> str:
    """A figure as HTML in Markdown, for light and for dark pages; nothing where the checkpoint has none."""
    light, dark = (f"figures/{part.name}-{theme}.png" for theme in ("light", "dark"))
    if light not in files:
        return ""
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">\n' if dark in files else ""
    return f'<picture>\n{source}<img src="{light}" alt="{html.escape(part.alt)}" width="800">\n</picture>'


def _method(method: dict[str, Any]) -> str:
    """How the neurons were found: "found by …"."""
    title = METHODS.get(str(method.get("name")))
    if not title:
        return f"the imported mask {method['file']}" if method.get("file") else str(method.get("name", "hand"))
    settings = [f"{name} {method[name]:g}" for name in SETTINGS[method["name"]] if name != "like"]
    if "like" in method:
        settings.append(f"as many as by {_method(method['like'])}")
    amounts = ", ".join(f"{code} {count:,}" for code, count in method.get("tokens", {}).items())
    return f"{title} ({', '.join(settings)}{f'; tokens: {amounts}' if amounts else ''})"


def _samples(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Three real answers, the first to a prompt in each of the first three languages: chosen by rule."""
    found = (manifest.get("evaluation") or {}).get("activated")
    if found:
        first = {sample["language"]: (sample["prompt"], sample["this model"]) for sample in reversed(found["samples"])}
        pairs = [first[code] for code in found["by_language"] if code in first]
    else:
        pairs = [(one["prompt"], one["answer"]) for one in (manifest.get("strength") or {}).get("samples", [])]
    return [(tables.cell(prompt), tables.cell(answer)) for prompt, answer in pairs[:3]]
