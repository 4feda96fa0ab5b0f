"""All or nothing: output is written beside its destination, synced, and renamed in place at the end.

Killed at any point, the destination is absent or whole. What a killed run leaves beside it is settled by the next run:
`.OUT.partial-<pid>` is half a checkpoint and removed; `.OUT.partial-<pid>-old` is the one that `--force` was replacing,
and goes back to its place if nothing took it.
"""

import contextlib
import errno
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..errors import OutputError

SPARE_BYTES = 16 * 2**20  # for the manifest, the card, and the file system's own needs
FULL = (errno.ENOSPC, errno.EDQUOT)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OutputError."""
    if not path.name or path.is_dir():
        raise OutputError(f"{path} is a folder. Name a file in it.")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settle_left_overs(path)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise _failed(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextmanager
def staged_folder(destination: Path, *, size: int, force: bool = False) -> Iterator[Path]:
    """A folder to write into, which becomes `destination` when the block ends without an error.

    `size` is what will be written, in bytes. Raises OutputError when the destination exists (unless `force`), when the
    disk has too little room, and for every error of the file system inside the block; then nothing is left, the folders
    above the destination included.
    """
    destination = _absolute(destination)

    def place(staging: Path) -> None:
        for root, _, _ in os.walk(staging):
            _sync_folder(Path(root))
        _swap_in(staging, destination, force=force)

    with _staging(destination, size, "checkpoint", partial(check_free, force=force), place) as staging:
        yield staging


@contextmanager
def staged_file(destination: Path, *, size: int, beside: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A folder to write a file and the one `beside` it into, under their own names, which move to their places when the
    block ends without an error; otherwise as `staged_folder`.

    `check` raises OutputError when `destination` may not be taken. The one beside moves first: whoever finds the file
    finds it described. Killed between the two, the file is absent, or the old one with a description that doesn't fit.
    """
    destination = _absolute(destination)
    beside = destination.parent / beside.name

    def place(staging: Path) -> None:
        check(destination)  # again: writing took a while
        before = beside.read_bytes() if beside.is_file() else None
        (staging / beside.name).replace(beside)
        try:
            (staging / destination.name).replace(destination)
        except OSError:
            beside.unlink() if before is None else beside.write_bytes(before)
            raise
        with contextlib.suppress(OSError):  # they are in place: too late to say that nothing was kept
            _sync_folder(destination.parent)
            staging.rmdir()

    with _staging(destination, size, "file", check, place) as staging:
        yield staging


@contextmanager
def _staging(
    destination: Path, size: int, what: str, check: Callable[[Path], None], place: Callable[[Path], None]
) -> Iterator[Path]:
    """A folder beside `destination`, gone again when the block fails; `place` puts what is in it where it belongs."""
    staging = destination.parent / f".{destination.name}.partial-{os.getpid()}"
    made: list[Path] = []
    try:
        parent = _nearest(destination.parent)
        if not parent.is_dir():
            raise OutputError(
                f"{parent} is not a folder, so {destination} can't be made. Choose another place with -o."
            )
        _settle_left_overs(destination)
        check(destination)
        free = shutil.disk_usage(parent).free
        if free < size + SPARE_BYTES:
            raise OutputError(
                f"{parent} has {free / 1e9:.2f} GB free, the {what} needs "
                f"{(size + SPARE_BYTES) / 1e9:.2f} GB. Make room, or choose another disk with -o."
            )
        for folder in _missing(destination.parent):
            folder.mkdir()
            made.append(folder)
        if staging.exists():  # a killed run had the number of this process
            shutil.rmtree(staging)
        staging.mkdir()
        made.append(staging)
        yield staging
        place(staging)
        made.clear()
    except OSError as error:
        raise _failed(destination, error) from None
    finally:
        if staging in made:
            shutil.rmtree(made.pop(), ignore_errors=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_free(destination: Path, *, force: bool) -> None:
    """Raise OutputError when `destination` is taken: by anything at all, or with `force` by more than a checkpoint."""
    if not os.path.lexists(destination):
        return
    if not force:
        raise OutputError(f"{destination} exists. Choose another place, or replace it with --force.")
    if destination.is_symlink() or not destination.is_dir():
        raise OutputError(f"{destination} is not a folder, so --force does not replace it. Choose another place.")
    try:
        foreign = any(destination.iterdir()) and not (destination / "monoglot.json").is_file()
    except OSError as error:
        raise _failed(destination, error) from None
    if foreign:
        raise OutputError(
            f"{destination} was not made by monoglot (it has no monoglot.json), so --force does not replace it. "
            "Choose another place, or remove it yourself."
        )


def _failed(destination: Path, error: OSError) -> OutputError:
    """What the file system said, about which file, and what to do about it."""
    reason = error.strerror or str(error) or type(error).__name__
    named = str(error.filename or "")
    if named and not named.startswith(str(destination.parent)):  # a file of the base, for example
        reason = f"{named}: {reason}"
    if error.errno in FULL:
        step = "Make room, or choose another disk with -o."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        step = "Choose another place with -o, or change the permissions."
    else:
        step = "Choose another place with -o, or run it again."
    return OutputError(f"{destination} cannot be written: {reason}. Nothing was kept. {step}")


def _absolute(path: Path) -> Path:
    """With a name of its own: `.` and `..` are resolved, a link is not."""
    return path.absolute() if path.name not in ("", "..") else path.resolve()


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def _missing(folder: Path) -> list[Path]:
    """What has to be made for `folder` to exist, outermost first."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _settle_left_overs(destination: Path) -> None:
    """Finish what killed runs left: put the replaced checkpoint back if its place is empty, remove the rest."""
    for path in sorted(destination.parent.glob(f".{glob.escape(destination.name)}.partial-*"), reverse=True):
        match = re.fullmatch(r"partial-([0-9]+)(-old)?", path.name[len(destination.name) + 2 :])
        if not match or int(match[1]) == os.getpid() or _alive(int(match[1])):
            continue
        if match[2] and not os.path.lexists(destination):
            path.rename(destination)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _swap_in(staging: Path, destination: Path, *, force: bool) -> None:
    check_free(destination, force=force)  # again: baking took a while
    if os.path.lexists(destination):
        old = destination.with_name(f".{destination.name}.partial-{os.getpid()}-old")
        destination.rename(old)
        try:
            staging.rename(destination)
        except OSError:
            old.rename(destination)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        staging.rename(destination)
    with contextlib.suppress(OSError):  # it is in place: too late to say that nothing was kept
        _sync_folder(destination.parent)


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (where the system can sync a folder; Windows can't)."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
