"""All or nothing: output is written beside its destination, synced, and renamed in place at the end.

Killed at any point, the destination is absent or whole. Whoever writes a place holds its lock (see `lock`), and all that is
on its way there has a random name, `.OUT.partial-<16 hex digits>`, and is created exclusively: a link that lies in the way is
never followed. What a killed run left under such names, the next run settles (see `staging`).

Files of a folder that must change together: see `together`.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ..errors import OutputError, reason_of
from .kinds import FILE
from .lock import holding
from .staging import (
    about_left_overs,
    keep_mode,
    settle_left_overs,
    staged_name,
    sync_file,
    sync_folder,
    sync_tree,
    write_exclusively,
)

SPARE_BYTES = 16 * 2**20  # for the manifest, the card, and the file system's own needs
FULL = (errno.ENOSPC, errno.EDQUOT)
WAIT = 10.0  # seconds for another run that writes a file, which takes moments


def replace_file(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all; one that is replaced keeps its permissions. Raises OutputError.

    Its data may come in pieces.
    """
    if not path.name or path.is_dir():
        raise OutputError(f"{path} is a folder. Name a file in it.")
    try:
        put_file(path, data)
    except OSError as error:
        raise failed(path, error) from None


def put_file(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Do what `replace_file` does, for one of several files of a step, whose caller says what is lost. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with holding(path, wait=WAIT) as alone:
        if alone:
            settle_left_overs(path)
        staged = staged_name(path)
        try:
            write_exclusively(staged, data, like=path)
            staged.replace(path)
        finally:
            with contextlib.suppress(OSError):
                staged.unlink()


@contextmanager
def claimed(destination: Path, check: Callable[[Path], None]) -> Iterator[None]:
    """Hold a destination from the first check of it until it is written, so that no second run works for the same place.

    `check` raises OutputError when it may not be taken. Raises OutputError too when another run holds it, or the folders
    above it can't be made; those that were made for nothing are removed at the end.
    """
    destination = absolute(destination)
    made: list[Path] = []
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            parent = _nearest(destination.parent)
            if not parent.is_dir():
                raise OutputError(
                    f"{parent} is not a folder, so {destination} can't be made. Choose another place with -o."
                )
            try:
                check(destination)
            except OutputError as error:
                raise OutputError(f"{error}{about_left_overs(destination)}") from None
            for folder in _missing(destination.parent):
                with contextlib.suppress(FileExistsError):  # another run was faster
                    folder.mkdir()
                    made.append(folder)
            if stack.enter_context(holding(destination)) and settle_left_overs(destination):
                try:
                    check(destination)
                except OutputError as error:
                    raise OutputError(f"{error} A killed run had moved it away; it is back at its place.") from None
            check(destination)
        except OSError as error:
            raise failed(destination, error) from None
        yield


@contextmanager
def claimed_file(path: Path, *, force: bool) -> Iterator[None]:
    """Hold the place of a file while what is to be written there is made, which may take hours.

    Raises OutputError when there is a folder, or a file (unless `force`), and as `claimed` does.
    """
    with claimed(path, partial(check_absent, force=force)):
        yield


@contextmanager
def staged_folder(
    destination: Path, *, size: int, force: bool = False, whole: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `destination` when the block ends without an error.

    `size` is what will be written, in bytes; `whole` looks at the folder before it is published, and raises what is wrong
    with it. Raises OutputError when the destination exists (unless `force`), when another run writes it, when the disk has
    too little room, and for every error of the file system inside the block; then nothing is left, the folders above the
    destination included.
    """
    destination = absolute(destination)

    def place(staging: Path) -> None:
        sync_tree(staging)
        if whole:
            whole(staging)
        _swap_in(staging, destination, force=force)

    with _staging(destination, size, "checkpoint", partial(check_free, force=force), place) as staging:
        yield staging


@contextmanager
def staged_file(destination: Path, *, size: int, beside: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a folder to write a file and the one `beside` it into, under their own names.

    Both move to their places when the block ends without an error; otherwise it is as `staged_folder`. `check` raises
    OutputError when `destination` may not be taken. The file beside moves first: whoever finds the file finds it described.
    Killed between the two, the file is absent, or it is the old one with a description that does not fit.
    """
    destination = absolute(destination)
    beside = destination.parent / beside.name

    def place(staging: Path) -> None:
        check(destination)  # again: writing took a while
        with holding(beside, wait=WAIT):
            before = beside.read_bytes() if beside.is_file() else None
            for path in (beside, destination):
                keep_mode(staging / path.name, like=path)
                sync_file(staging / path.name)
            (staging / beside.name).replace(beside)
            try:
                (staging / destination.name).replace(destination)
            except OSError:
                beside.unlink() if before is None else replace_file(beside, before)
                raise
        with contextlib.suppress(OSError):  # they are in place: too late to say that nothing was kept
            sync_folder(destination.parent)
            staging.rmdir()

    with _staging(destination, size, "file", check, place) as staging:
        yield staging


@contextmanager
def _staging(
    destination: Path, size: int, what: str, check: Callable[[Path], None], place: Callable[[Path], None]
) -> Iterator[Path]:
    """Yield a folder beside `destination`, gone again when the block fails; `place` puts what is in it where it belongs."""
    with claimed(destination, check):
        staging = staged_name(destination)
        try:
            check_room(destination, size, what)
            staging.mkdir()
            try:
                yield staging
                place(staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)  # where it is still there
        except OSError as error:
            raise failed(destination, error) from None


def check_room(destination: Path, size: int, what: str = "checkpoint") -> None:
    """Raise OutputError when the disk has less than `size` bytes for it. The folder above must exist, or one above that."""
    parent = _nearest(absolute(destination).parent)
    free = shutil.disk_usage(parent).free
    if free < size + SPARE_BYTES:
        raise OutputError(
            f"{parent} has {free / 1e9:.2f} GB free, the {what} needs {(size + SPARE_BYTES) / 1e9:.2f} GB. Make room, or "
            "choose another disk with -o."
        )


def publish(made: Path, destination: Path, *, force: bool) -> None:
    """Move a checkpoint that is whole to its place; with `force` one that lies there makes room. Raises OutputError."""
    destination = absolute(destination)
    try:
        _swap_in(made, destination, force=force)
    except OSError as error:
        raise failed(destination, error) from None


def taken(place: Path, *, instead: str = "another place", why: str = "") -> OutputError:
    """Give the error for a place where something is already. `why` continues "PLACE exists"."""
    return OutputError(f"{place} exists{why}. Choose {instead}, or replace it with `force`.")


def check_absent(file: Path, *, force: bool) -> None:
    """Raise OutputError when there is a file at a place, unless `force`, or a folder."""
    if file.is_dir():
        raise OutputError(f"{file} is a folder. Name a file in it.")
    if file.exists() and not force:
        raise taken(file, instead="another name")


def check_free(destination: Path, *, force: bool) -> None:
    """Raise OutputError when `destination` is taken: by anything at all, or with `force` by more than a checkpoint."""
    if not os.path.lexists(destination):
        return
    if not force:
        raise taken(destination)
    if destination.is_symlink() or not destination.is_dir():
        raise OutputError(f"{destination} is not a folder, so `force` does not replace it. Choose another place.")
    try:
        foreign = any(destination.iterdir()) and not (destination / FILE).is_file()
    except OSError as error:
        raise failed(destination, error) from None
    if foreign:
        raise OutputError(
            f"{destination} was not made by monoglot (it has no {FILE}), so `force` does not replace it. "
            "Choose another place, or remove it yourself."
        )


def failed(destination: Path, error: OSError) -> OutputError:
    """Make an error of what the file system said: about which file, and what to do."""
    reason = error.strerror or reason_of(error)
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


def absolute(path: Path) -> Path:
    """With a name of its own: `.` and `..` are resolved, a link is not."""
    return path.absolute() if path.name not in ("", "..") else path.resolve()


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def _missing(folder: Path) -> list[Path]:
    """List what has to be made for `folder` to exist, outermost first."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _swap_in(staging: Path, destination: Path, *, force: bool) -> None:
    check_free(destination, force=force)  # again: baking took a while
    if os.path.lexists(destination):
        old = destination.with_name(f"{staged_name(destination).name}-old")
        keep_mode(staging, like=destination)
        with ExitStack() as stack:
            with contextlib.suppress(OSError):  # where nobody can write, nobody changes it
                stack.enter_context(holding(destination / FILE, wait=WAIT))
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
        sync_folder(destination.parent)
