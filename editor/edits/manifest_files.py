"""The files that a manifest lists: written together with it, looked for, and compared with what it says of them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import OutputError, VerificationError
from ..files.kinds import FILE
from ..files.streams import sha256
from ..files.together import replace_together
from ..progress import shown
from .manifest import FileEntry, Manifest, read, recipe_record, serialise

CARD = "README.md"
FIGURES = "figures/"


def replace_text(folder: Path, manifest: Manifest, name: str, text: str) -> Manifest:
    """Write a text file of the checkpoint anew, together with its hash in the manifest."""
    return write_with(folder, manifest, {name: text.encode()})


def write_with(
    folder: Path, manifest: Manifest, listed: Mapping[str, bytes], unlisted: Mapping[str, bytes] | None = None
) -> Manifest:
    """Write the manifest and other files of the checkpoint, all of them or none, and return it as it was written.

    Those that are `listed` it then lists.
    """
    for name, data in listed.items():
        manifest = manifest.with_file(name, data)
    replace_together(folder, {**(unlisted or {}), **listed, FILE: serialise(manifest)})
    return manifest


def unchanged(folder: Path, before: Manifest) -> Manifest:
    """Return the manifest as it is now, to be added to, where it is still that of the same checkpoint.

    Whoever measured for hours adds to what others have written meanwhile, and not to another checkpoint that took the
    place. Raises VerificationError.
    """
    now = read(folder)
    if _made_of(now) != _made_of(before):
        raise VerificationError(
            f"{folder} was replaced by another checkpoint in the meantime, so what was measured is not kept. Run it again."
        )
    return now


def _made_of(manifest: Manifest) -> Any:
    """Return what a checkpoint was when it was baked: everything but what later commands write anew.

    The recipe as its file has it, which leaves out what says nothing of this one.
    """
    files = {name: own for name, own in manifest.files.items() if name != CARD and not name.startswith(FIGURES)}
    return [files, manifest.base, recipe_record(manifest.recipe), manifest.edited, manifest.carrier]


def check_whole(folder: Path) -> None:
    """Raise OutputError unless every file that the manifest in a folder lists is there with its size."""
    check_listed(folder, read(folder).files, "checkpoint")


def check_listed(folder: Path, listed: Mapping[str, FileEntry], what: str) -> None:
    """Raise OutputError unless every file that is listed of `what` is in a folder with its size, before it is published."""
    found = compare_files(folder, listed, hashes=False)
    if wrong := [*found["missing"], *found["changed"]]:
        raise OutputError(
            f"{', '.join(wrong[:5])} went missing or changed while the {what} was written, so it was not published. See "
            "whether another program cleans up there, and run it again."
        )


def compare_files(folder: Path, listed: Mapping[str, FileEntry], *, hashes: bool) -> dict[str, Any]:
    """Compare the manifest's files as they are now: how many, by what they were compared, which are missing or others."""
    missing, changed, done = [], [], 0
    whole = sum(own.size for own in listed.values()) // 10**6
    with shown("sha256", "MB") as update:
        for name, own in listed.items():
            path = folder / name
            told = partial(lambda before, read: update("", (before + read) // 10**6, whole), done)
            if not path.is_file():
                missing.append(name)
            elif path.stat().st_size != own.size or (hashes and sha256(path, told) != own.sha256):
                changed.append(name)
            done += own.size
    return {"listed": len(listed), "by": "sha256" if hashes else "size", "missing": missing, "changed": changed}
