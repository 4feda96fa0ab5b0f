"""Keep and show what was measured of a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..console import note, print_tables


def keeper(subject: Any, output: Path | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What keeps the findings after each measure, so that an interruption loses one at most: in the checkpoint's manifest,
    on its card and among its files, or in a folder of their own. It gives them with those that were there before, and says
    so where it replaces what was measured on more."""
    from ...editor.measures import findings
    from ...editor.models.target import model_info

    if subject.folder is not None:
        told: set[str] = set()
        before = dict(subject.record.get("evaluation") or {})

        def write(found: dict[str, Any]) -> dict[str, Any]:
            return save(subject.folder, subject.record, subject.neurons, subject.target, found, told)

    elif output is None:
        return dict
    else:
        kept = findings.of_folder(output, model_info(subject.target), subject.neurons)
        before = dict(kept["evaluation"])

        def write(found: dict[str, Any]) -> dict[str, Any]:
            kept["evaluation"] = {**kept["evaluation"], **found}
            findings.write(output, kept, subject.neurons)
            return dict(kept["evaluation"])

    def keep(found: dict[str, Any]) -> dict[str, Any]:
        for name in [name for name in found if name in before]:
            if lost := findings.narrower(before.pop(name), found[name]):
                note(f"Note: {name.replace('_', ' ')} replaces a measurement that had more: {lost}.")
        return write(found)

    return keep


def save(
    folder: Path, record: dict[str, Any], neurons: Any, target: Any, found: dict[str, Any], told: set[str] | None = None
) -> dict[str, Any]:
    """Write the manifest with what was found, its figures, and the card anew, with what a person wrote on it kept. `told`
    are notes that were made before."""
    from ...cards.figures import draw as figures
    from ...cards.figures.canvas import available
    from ...cards.refresh import renew
    from ...editor.edits import manifest

    record["evaluation"] = {**(record.get("evaluation") or {}), **found}
    if available():
        for path in figures.write(folder, record["evaluation"], record.get("strength")):
            record["files"][path.relative_to(folder).as_posix()] = manifest.entry(path.read_bytes())
    for line in renew(folder, record, neurons.method, target.source.folder):
        if told is None or line not in told:
            note(f"Note: {line}")
        if told is not None:
            told.add(line)
    return dict(record["evaluation"])


def show_findings(found: dict[str, Any], samples: int) -> None:
    """Tables of what was measured, then the first answers."""
    from ...cards.words import tables

    print_tables(tables.every(found))
    for measured in found.values():
        for sample in measured.get("samples", [])[: samples * 100]:
            click.echo(f"{sample['language']}     {sample['prompt']} …")
            for name, text in sample.items():
                if name not in ("language", "prompt"):
                    click.echo(f"  {name:<14} … {' '.join(text.split())}")
