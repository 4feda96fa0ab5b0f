"""Files of a folder that change together, or not at all: a checkpoint's manifest, card and figures.

They are staged together (see `staging`), and a journal, `.monoglot.json.pending`, names them before the first is renamed:
whoever reads or writes the folder next finishes what was begun.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from ..errors import OutputError
from .kinds import FILE
from .lock import holding
from .output import WAIT, failed, replace_file
from .staging import STAGED, settle_left_overs, staged_name, sync_folder, write_exclusively
from .streams import sha256

JOURNAL = f".{FILE}.pending"
LARGEST_JOURNAL = 2**20  # bytes


@contextmanager
def updating(folder: Path) -> Iterator[None]:
    """Be the only one who reads and then changes the files of a checkpoint. Raises OutputError."""
    with ExitStack() as stack:
        try:
            stack.enter_context(holding(folder / FILE, wait=WAIT))
        except OSError as error:
            raise failed(folder / FILE, error) from None
        yield


def replace_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a folder so that all change, or none does, wherever the process is killed: see `finish_pending`.

    Raises OutputError; one for a name that leads through a link out of the folder.
    """
    staged: dict[str, tuple[Path, str]] = {}
    moved = 0
    try:
        with ExitStack() as stack:
            stack.enter_context(holding(folder / FILE, wait=WAIT))
            _finish(folder)
            for name in sorted(files):
                path = _inside(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if stack.enter_context(holding(path, wait=WAIT)):
                    settle_left_overs(path)
            try:
                for name, data in files.items():
                    path = folder / name
                    staged[name] = (staged_name(path), hashlib.sha256(data).hexdigest())
                    write_exclusively(staged[name][0], data, like=path)
                journal = {name: {"staged": path.name, "sha256": digest} for name, (path, digest) in staged.items()}
                replace_file(folder / JOURNAL, json.dumps({"format": 1, "files": journal}).encode())
                sync_folder(folder)
                for name, (path, _) in staged.items():
                    path.replace(folder / name)
                    moved += 1
            finally:
                if not moved:
                    for path in (folder / JOURNAL, *(path for path, _ in staged.values())):
                        with contextlib.suppress(OSError):
                            path.unlink()
            sync_folder(folder)
            (folder / JOURNAL).unlink()
    except OSError as error:
        raise failed(folder / FILE, error) from None


def finish_pending(folder: Path) -> None:
    """Finish what a killed `replace_together` had begun, where that may be written.

    Raises OutputError when another run is at it and does not end.
    """
    if os.path.lexists(folder / JOURNAL):
        with contextlib.suppress(OSError), holding(folder / FILE, wait=WAIT):
            _finish(folder)


def _finish(folder: Path) -> None:
    """Carry out the journal of a folder, if there is one; the lock is held. A journal that is none is removed."""
    journal = folder / JOURNAL
    if not os.path.lexists(journal):
        return
    for name, entry in _journal(journal).items():
        path = _inside(folder, name)
        staged = path.with_name(entry["staged"])
        if staged.is_file() and not staged.is_symlink():
            if sha256(staged) == entry["sha256"]:
                staged.replace(path)
            else:
                staged.unlink()
    journal.unlink()


def _journal(path: Path) -> dict[str, dict[str, str]]:
    """Read a journal; a malformed one says nothing, as a checkpoint's folder may come from anywhere."""
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_JOURNAL:
            return {}
        files = json.loads(path.read_bytes())["files"]
        right = all(
            STAGED.fullmatch(entry["staged"].removeprefix(f".{PurePosixPath(name).name}."))
            and entry["staged"].startswith(f".{PurePosixPath(name).name}.")
            and isinstance(entry["sha256"], str)
            for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return files if right else {}


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder.

    Raises OutputError when it is not in the folder, or when a folder on the way there is a link.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute():
        raise OutputError(f"{name!r} is not the name of a file in {folder}. The checkpoint is damaged or hostile.")
    for depth in range(1, len(parts)):
        if (folder / Path(*parts[:depth])).is_symlink():
            raise OutputError(
                f"{folder / Path(*parts[:depth])} is a link, and what is written stays in the folder. Remove it."
            )
    return folder / Path(*parts)
