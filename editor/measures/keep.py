"""Saves the results after each measure, so that an interruption loses at most one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..edits.card_maker import NO_CARD, CardMaker
from ..edits.evaluation import Evaluation
from ..edits.manifest import Manifest
from ..edits.manifest_files import unchanged
from ..files.together import updating
from ..models.target import model_info
from ..progress import Told, unheard
from . import findings
from .findings import Findings
from .subject import Subject

Keep = Callable[[dict[str, Any]], dict[str, Any]]


def keeper(subject: Subject, output: Path | None, *, card: CardMaker = NO_CARD, told: Told = unheard) -> Keep:
    """Make what keeps findings, and gives them together with those that were there before.

    Of a checkpoint they go into its manifest, onto its card and among its files; of a model into the folder `output`; without
    one they are kept nowhere. A person is told where they replace what was measured on more. Raises OutputError as
    `findings.of_folder`.
    """
    if subject.folder is not None and subject.manifest is not None:
        before = dict(subject.manifest.measures)
        write = _into_checkpoint(subject, subject.folder, subject.manifest, card, told)
    elif output is not None:
        kept = findings.of_folder(output, model_info(subject.target), subject.neurons)
        before = dict(kept.evaluation.measures)
        write = _into_folder(subject, output, kept)
    else:
        return dict

    def keep(found: dict[str, Any]) -> dict[str, Any]:
        for name in [name for name in found if name in before]:
            if lost := findings.narrower(before.pop(name), found[name]):
                told(f"Note: {name.replace('_', ' ')} replaces a measurement that had more: {lost}.")
        return write(found)

    return keep


def _into_folder(subject: Subject, output: Path, kept: Findings) -> Keep:
    evaluation = kept.evaluation

    def write(found: dict[str, Any]) -> dict[str, Any]:
        nonlocal evaluation
        evaluation = evaluation.adding(found)
        findings.write(output, replace(kept, evaluation=evaluation), subject.neurons)
        return evaluation.to_data()

    return write


def _into_checkpoint(subject: Subject, folder: Path, before: Manifest, card: CardMaker, told: Told) -> Keep:
    """Write the manifest with its figures, and the card anew with what a person wrote on it kept."""
    said: set[str] = set()  # each measure would say the same of the card

    def write(found: dict[str, Any]) -> dict[str, Any]:
        with updating(folder):
            now = unchanged(folder, before)
            evaluation = (now.evaluation or Evaluation({})).adding(found)
            now = replace(now, evaluation=evaluation)
            drawn = card.draw(now.shown, now.strength)
            lines = card.renew(folder, now, subject.neurons.method, subject.target.source.folder, drawn)
        for line in lines:
            if line not in said:
                told(f"Note: {line}")
            said.add(line)
        return evaluation.to_data()

    return write
