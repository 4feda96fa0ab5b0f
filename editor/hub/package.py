"""What would be published of a checkpoint: its files, checked before anything is sent."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..edits import manifest as manifest_file
from ..edits.certificate import Certificate
from ..edits.manifest import Manifest
from ..errors import CardError, PublishError
from ..files.card_text import metadata_of
from ..files.hashes import file_hashes
from ..files.kinds import FILE
from ..files.streams import hashed, sha256

CARD = "README.md"


@dataclass(frozen=True)
class Local:
    """A file as it lies here."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """A checkpoint that was found whole: what would be uploaded by name, what else is in the folder, what to know of it."""

    folder: Path
    manifest: Manifest
    files: Mapping[str, Local]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


def check(
    folder: Path, *, unverified: bool = False, progress: Callable[[str, int, int], None] | None = None
) -> Package:
    """Return the checkpoint in `folder` as a package, when it is what its manifest says.

    A file that is known to be the one that was hashed before is not read again. `progress` gets a name, and the bytes read
    and to be read, of all files. Raises VerificationError for a folder without a manifest; PublishError when a file is
    missing or has another sha256, the certificate is missing or says that the proof failed (unless `unverified`), or the
    card's metadata cannot be read.
    """
    manifest = manifest_file.read(folder)
    listed = manifest.files
    if missing := [name for name in listed if not (folder / name).is_file()]:
        raise PublishError(
            f"{folder} lacks {_some(missing)}, which its manifest lists. Copy it there again, or bake anew."
        )
    notes = _certified(folder, manifest.certificate, unverified)
    _check_card(folder / CARD)
    told = (lambda path, *done: progress(path.relative_to(folder).as_posix(), *done)) if progress else None
    read = file_hashes((folder / name for name in listed), told)
    files = {}
    for (name, entry), digest in zip(listed.items(), read, strict=True):
        found = Local((folder / name).stat().st_size, digest)
        if found.sha256 != entry.sha256:
            if name != CARD:
                raise PublishError(
                    f"{folder / name} is not the file that the manifest lists: its sha256 is {found.sha256[:12]}…, not "
                    f"{entry.sha256[:12]}…. Copy it there again, or bake anew."
                )
            notes.append(f"{CARD} was edited after monoglot wrote it. It is uploaded as it is.")
        files[name] = found
    files[FILE] = Local((folder / FILE).stat().st_size, sha256(folder / FILE))
    there = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return Package(folder, manifest, files, tuple(name for name in there if name not in files), tuple(notes))


def _certified(folder: Path, certificate: Certificate | None, unverified: bool) -> list[str]:
    """Return notes on the certificate.

    Raises PublishError where it does not say that the proof passed, unless `unverified`.
    """
    proofs = certificate.proofs if certificate else {}
    if failed := next((name for name, proof in proofs.items() if not proof.passed), None):
        problem = next(iter(proofs[failed].problems), "no reason is given")
        said = f"the proof of {folder} failed, in its {failed}: {problem.rstrip('.')}."
        step = "Bake it anew"
    elif "bytes" not in proofs:
        said, step = f"{folder} was not verified.", f"Run `monoglot verify {folder}`"
    else:
        return [] if "logits" in proofs else ["Only its bytes were proved, by `monoglot verify --fast`."]
    if not unverified:
        raise PublishError(f"{said} {step}, or insist with `unverified`.")
    return [f"Pushed all the same: {said}"]


def _check_card(card: Path) -> None:
    """Raise PublishError unless the card's metadata can be read. What it says is for `card_problems` to judge."""
    try:
        metadata_of(card)
    except CardError as error:
        raise PublishError(f"the metadata of {card} cannot be read: {error}") from None


def git_blob(path: Path) -> str:
    """Give the sha1 that git, and so the Hub, knows a small file by."""
    return hashed(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))


def _some(names: Iterable[str]) -> str:
    """Write a few of some names."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
