"""A checkpoint's card written anew, with what a person wrote on it kept: the one place where an existing card is replaced.

It is rendered anew when it is as monoglot wrote it, apart from the places that are a person's and the metadata
(see `editor.files.card_text`); otherwise it is left alone, unless `force` is set, and then the old one is kept as
README.md.bak.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..editor.edits import manifest as manifest_file
from ..editor.edits import manifest_files
from ..editor.edits.manifest import Manifest
from ..editor.errors import CardError
from ..editor.files import card_text
from .metadata import metadata

CARD = "README.md"
BACKUP = "README.md.bak"


@dataclass(frozen=True)
class Refreshed:
    """`manifest` remembers the card; `text` is it as it is to be, None where it is left alone; `notes` are for a person."""

    manifest: Manifest
    text: str | None
    notes: tuple[str, ...]


def refreshed(folder: Path, manifest: Manifest, render: Callable[[], str], *, force: bool = False) -> Refreshed:
    """Make the card that goes into `folder`, by its manifest, which then remembers it. Nothing is written.

    `render` gives the text without anything of a person's. Raises CardError when it has metadata that the Hub refuses.
    """
    path = folder / CARD
    if not path.is_file():
        return _made(manifest, render(), {}, {}, {})
    data = path.read_bytes()
    remembered = manifest.card or {}
    as_written = manifest_file.entry(data) == manifest.files.get(CARD)
    step = f"Render it anew with `monoglot card {folder} --force`, which keeps a copy."
    try:
        current, body = card_text.split(data.decode())
    except (CardError, UnicodeDecodeError) as error:
        if not force:
            why = str(error) if isinstance(error, CardError) else "it is no UTF-8 text."
            return Refreshed(manifest, None, (f"{CARD} is left as it is: {why} Or {step[0].lower()}{step[1:]}",))
        current, body = {}, ""
    if not (as_written or force or card_text.untouched(body, remembered)):
        what = (
            f"{CARD} was edited outside of the places for that, so it is left as it is and does not show what is new."
        )
        return Refreshed(manifest, None, (f"{what} {step}",))
    if not remembered:  # written before manifests remembered: then all of its metadata is monoglot's
        current = {}
    return _made(manifest, render(), current, card_text.places(body), remembered)


def refresh(
    folder: Path,
    manifest: Manifest,
    render: Callable[[], str],
    *,
    force: bool = False,
    more: Mapping[str, bytes] | None = None,
) -> tuple[str, ...]:
    """Write the manifest, `more` files of the checkpoint, and the card anew where that is right (see `refreshed`).

    All of them are written or none. Returns what to tell a person. Raises CardError, OutputError.
    """
    path = folder / CARD
    before = path.read_bytes() if force and path.is_file() else None
    found = refreshed(folder, manifest, render, force=force)
    card = {} if found.text is None else {CARD: found.text.encode()}
    replaced = before is not None and card.get(CARD, before) != before
    beside = {BACKUP: before} if before and replaced else {}
    manifest_files.write_with(folder, found.manifest, {**(more or {}), **card}, beside)
    return found.notes


def _made(
    manifest: Manifest, text: str, current: dict[Any, Any], places: dict[str, str], remembered: card_text.Remembered
) -> Refreshed:
    new, body = card_text.split(text)
    merged = card_text.merged(new, current, remembered) if current else new
    body = card_text.filled(body, places)
    made = f"---\n{metadata.to_yaml(merged)}\n---\n{body}" if merged else body
    problems = metadata.problems(merged)
    manifest = replace(manifest, card=card_text.memory(text))
    return Refreshed(
        manifest, made, tuple(f"The Hub will refuse the metadata of {CARD}: {problem}" for problem in problems)
    )


def writer(manifest: Manifest, method: dict[str, Any], base_folder: Path) -> Callable[[], str]:
    """Return a function that renders the card of a manifest, with nothing of a person's."""
    from .render import card_writer

    return lambda: card_writer(method)(manifest, base_folder)


def renew(
    folder: Path,
    manifest: Manifest,
    method: dict[str, Any],
    base_folder: Path,
    *,
    force: bool = False,
    more: Mapping[str, bytes] | None = None,
) -> tuple[str, ...]:
    """Write the manifest, `more` files that it then lists, and the card anew unless a person has rewritten it; return notes.

    Every command that has measured something ends with this.
    """
    for name, data in (more or {}).items():  # the card shows those that are listed
        manifest = manifest.with_file(name, data)
    return refresh(folder, manifest, writer(manifest, method, base_folder), force=force, more=more)
