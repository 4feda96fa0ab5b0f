"""Everything that is known of a checkpoint, or of a model that was only measured, on one page.

The page is HTML that needs nothing else: styles and figures are in it, there is no script, and a browser is told to load
nothing from anywhere. What models wrote is text and stays text. It is made from the manifest (or `evaluation.json`) alone
and says no time and no path, so the same findings give the same page.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..editor.edits import manifest as manifest_file
from ..editor.edits import recipe
from ..editor.edits.manifest import Manifest
from ..editor.errors import VerificationError
from ..editor.files.kinds import FILE
from ..editor.measures import findings
from ..editor.measures.findings import Findings
from ..editor.models.identity import shape_in_words
from ..editor.neurons import neurons
from ..editor.text.foreign import printable
from ..editor.version import VERSION
from .figures import draw as figures
from .figures.canvas import THEMES, available
from .words import changes, notes, wording
from .words.foreign import cell, fenced
from .words.sections import Section, sections
from .words.table import Table, grid, with_title
from .words.verdicts import Verdict
from .words.verdicts import verdicts as verdicts_of

GENERATOR = '<meta name="generator" content="monoglot '
SAMPLES = {
    "activated": {"base": "base", "this model": "this model", "random neurons": "random neurons"},
    "asked": {"base": "base", "this model": "this model", "random neurons": "random neurons"},
    "same_language": {"base": "base", "this model": "this model", "random neurons": "random neurons"},
    "deactivate_each": {"none": "nothing off", "random": "random neurons off", "off": "its own language off"},
}
SAID = ("base", "recipe", "edited", "kept", "certificate", "strength", "candidates", "evaluation")  # of a manifest


@dataclass(frozen=True)
class Sample:
    """A prompt in some language, and what was answered, by who answered."""

    language: str
    prompt: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Report:
    """What a page says. `data` is the same for programs."""

    title: str
    summary: str
    facts: dict[str, str]
    edits: Table | None
    recipe: str
    calibration: Table | None
    verdicts: tuple[Verdict, ...]
    effect: Table | None
    sections: tuple[Section, ...]
    samples: dict[str, tuple[Sample, ...]]
    evaluation: Mapping[str, Any]
    strength: Mapping[str, Any] | None
    data: dict[str, Any]


def read(folder: Path) -> Report:
    """Read all that is known of the checkpoint, or of the measured model, in `folder`.

    Raises VerificationError when it is neither, when its file is malformed, or when nothing was measured yet.
    """
    if not folder.is_dir():
        raise VerificationError(f"there is no folder {folder}.")
    if (folder / FILE).is_file():
        found = _of_checkpoint(folder, manifest_file.read(folder))
    elif (folder / findings.FILE).is_file():
        found = _of_findings(findings.read(folder))
    else:
        raise VerificationError(
            f"{folder} has neither {FILE} nor {findings.FILE}, so there is nothing to report on. Name a checkpoint "
            "that monoglot made, or a folder that `monoglot evaluate MODEL NEURONS -o FOLDER` wrote."
        )
    if not (found.sections or found.effect or found.verdicts):
        raise VerificationError(
            f"nothing was measured of {folder} yet. Run `monoglot evaluate {folder.name} --all`, or `monoglot verify "
            f"{folder.name}`."
        )
    return found


def _of_checkpoint(folder: Path, manifest: Manifest) -> Report:
    base, data = manifest.base, manifest.to_data()
    found = folder / "neurons.json"
    facts = {
        "base": f"{base.model}{_revision(base.revision)}",
        "family": f"{base.model_type}, {shape_in_words(base.layers, base.width, base.networks or 0)} feed-forward neurons",
        "neurons found by": wording.found_by(neurons.load(found).method) if found.is_file() else "",
        "edited": notes.weights_note(manifest),
        "constants": wording.carrier(manifest),
    }
    return _report(
        wording.title(manifest),
        wording.summary(manifest),
        facts,
        manifest.shown,
        manifest.strength,
        {key: data.get(key) for key in SAID},
        edits=changes.edits(manifest),
        recipe=recipe.to_yaml(replace(manifest.recipe, base=base.identity)),
        calibration=next(iter(changes.calibration(manifest.carrier)), None),
        verdicts=tuple(verdicts_of(manifest.certificate)),
        effect=next(iter(changes.effect(manifest.certificate)), None),
    )


def _of_findings(found: Findings) -> Report:
    model, data = found.model, found.to_data()
    facts = {
        "model": f"{model.name}{_revision(model.revision)}",
        "family": f"{model.model_type}, {model.in_words} feed-forward neurons",
        "neurons found by": wording.found_by(found.neurons.method),
    }
    return _report(
        f"Language neurons of {model.name.rsplit('/', 1)[-1]}",
        f"What the language-specific neurons of {model.name} do, measured by switching them off. The model itself is "
        "unchanged.",
        facts,
        found.evaluation.measures,
        None,
        {key: data[key] for key in ("model", "neurons", "evaluation")},
    )


def _report(
    title: str,
    summary: str,
    facts: dict[str, str],
    evaluation: Mapping[str, Any],
    strength: Mapping[str, Any] | None,
    data: dict[str, Any],
    *,
    edits: Table | None = None,
    recipe: str = "",
    calibration: Table | None = None,
    verdicts: tuple[Verdict, ...] = (),
    effect: Table | None = None,
) -> Report:
    samples = {
        name: tuple(
            Sample(
                one["language"],
                str(one["prompt"]),
                {label: str(one[key]) for key, label in labels.items() if key in one},
            )
            for one in evaluation[name].get("samples") or []
        )
        for name, labels in SAMPLES.items()
        if evaluation.get(name)
    }
    return Report(
        title, summary, {name: fact for name, fact in facts.items() if fact}, edits, recipe, calibration, verdicts, effect,
        tuple(sections(evaluation, strength)), samples, evaluation, strength,
        {"title": title, "summary": summary, **data},
    )  # fmt: skip


def _revision(revision: str | None) -> str:
    return f" at {revision[:12]}" if revision else ""


def html(report: Report) -> str:
    """Render the page, with figures where matplotlib is installed, else with tables alone."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:  # no browser shows control characters; figures stay as they were drawn
        return value if isinstance(value, Markup) else printable(str(value))

    environment = Environment(
        undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=shown
    )
    environment.tests["language"] = lambda code: bool(re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", code))
    template = environment.from_string(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    text = template.render(
        report=report,
        figures=_drawn(report),
        can_draw=available(),
        version=VERSION,
        generator=GENERATOR,
    )
    return f"{text.rstrip()}\n"


def _drawn(report: Report) -> dict[str, dict[str, str]]:
    """Draw the figures as SVG, by name and theme; none without matplotlib."""
    drawn: dict[str, dict[str, str]] = {}
    for theme in THEMES if available() else ():
        for name, figure in figures.draw(report.evaluation, report.strength, theme).items():
            drawn.setdefault(name, {})[theme] = figures.svg(figure)
    return drawn


def markdown(report: Report) -> str:
    """Render the report as Markdown: no figures, no folded details."""
    blocks = [f"# {cell(report.title)}", cell(report.summary)]
    blocks += ["\n".join(f"- {name}: {cell(fact)}" for name, fact in report.facts.items())]
    if report.edits:
        blocks += ["## What was changed", grid(report.edits), fenced(report.recipe, "yaml")]
    if report.verdicts or report.effect:
        blocks.append("## What was proved")
        blocks += [one.markdown() for one in report.verdicts]
    if report.effect:
        blocks.append(with_title(report.effect))
    for section in report.sections:
        blocks += [f"## {section.title}", cell(section.words), *map(with_title, section.tables)]
        for sample in report.samples.get(section.name, ()):
            answers = "\n".join(f"- {who}: {cell(text)}" for who, text in sample.answers.items())
            blocks += [f"{cell(sample.language)}: {cell(sample.prompt)}", answers]
    blocks.append(f"Made with monoglot {VERSION}.")
    return "\n\n".join(filter(None, blocks)) + "\n"


def as_json(report: Report) -> str:
    """Render the report as JSON for programs. NaN and infinity become null, as JSON has no word for them."""
    return json.dumps(_finite(report.data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMATS = {"html": html, "markdown": markdown, "json": as_json}
