"""monoglot card: README.md from the manifest, once more; or a check of its metadata."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...cards.refresh import writer
from ..console import answer, note
from ..terminal import say

if TYPE_CHECKING:
    from ...editor.edits.manifest import Manifest


@click.command("card")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--base", help="The base, for its own card: a folder or a Hub id. Default: the one in the manifest.")
@click.option("--stdout", "to_stdout", is_flag=True, help="Print the card and write nothing.")
@click.option("--check", "only_check", is_flag=True, help="Only check the metadata of the README.md there.")
@click.option("--force", is_flag=True, help="Write it anew whatever was edited; the old one is kept as README.md.bak.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(folder: Path, base: str | None, to_stdout: bool, only_check: bool, force: bool, as_json: bool) -> None:
    """Write the model card of OUT, a checkpoint of monoglot's, anew from its manifest.

    What a person wrote between the lines `monoglot: yours` and `monoglot: end` is kept, and so are the keys of the metadata
    that a person added, changed or removed. A card that was edited elsewhere is left alone, unless there is --force.
    --check needs no manifest and exits with 1 when the Hub would refuse the metadata.

    \b
    monoglot card OUT
    monoglot card OUT --check
    """
    if only_check:
        if used := [name for name, value in (("--base", base), ("--stdout", to_stdout), ("--force", force)) if value]:
            raise click.UsageError(f"--check only reads README.md. {used[0]} does not go with it.")
        check(folder, as_json)
        return
    if to_stdout and as_json:
        raise click.UsageError("--stdout prints the card, --json says what was done. Give one of them.")
    from ...cards.refresh import CARD, refresh, refreshed
    from ...editor.edits import manifest, manifest_files
    from ...editor.edits.manifest_base import neurons_of
    from ...editor.files.together import updating

    record = manifest.read(folder)
    method = neurons_of(folder, record).method
    base_folder = folder_of_base(record, base, beside=folder)
    render = writer(record, method, base_folder)
    if to_stdout:
        found = refreshed(folder, record, render, force=force)
        for line in found.notes:
            note(f"Note: {line}")
        say(render() if found.text is None else found.text, nl=False)
        return
    before = (folder / CARD).read_bytes() if (folder / CARD).is_file() else None
    with updating(folder):
        now = manifest_files.unchanged(folder, record)
        notes = refresh(folder, now, writer(now, method, base_folder), force=force)
    for line in notes:
        note(f"Note: {line}")
    changed = (folder / CARD).read_bytes() != before
    if as_json:
        answer({"card": str(folder / CARD), "changed": changed, "notes": list(notes)})
    note(f"{folder / CARD} is {'written' if changed else 'unchanged'}.")


def check(folder: Path, as_json: bool) -> None:
    from ...cards.metadata.metadata import card_problems

    path = folder if folder.is_file() else folder / "README.md"
    found = card_problems(path)
    if as_json:
        answer({"card": str(path), "problems": found})
    for problem in found:
        note(f"{path}: {problem}")
    if found:
        raise SystemExit(1)
    note(f"The metadata of {path} is as the Hub takes it.")


def folder_of_base(manifest: "Manifest", base: str | None, *, beside: Path) -> Path:
    """Return the base's folder; of one on the Hub that was not named, a folder with its card and its licence alone."""
    from ...editor.edits.manifest_base import check_base, open_source
    from ...editor.models.source import fetch
    from ...editor.models.target import open_target

    known = manifest.base
    if known.hub and not base:
        at = f"@{known.revision}" if known.revision else ""
        return fetch(f"{known.model}{at}", ("README.md", "LICENSE"))
    source = open_source(known, base, beside=beside)
    check_base(manifest, open_target(source))
    return source.folder
