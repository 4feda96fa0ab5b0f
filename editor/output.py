"""All or nothing: output is written beside its destination, synced, and renamed in place at the end.

Killed at any point, the destination is absent or whole. What a killed run leaves beside it (`.OUT.partial-<pid>`) is
removed by the next run.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

SPARE_BYTES = 16 * 2**20  # for the manifest, the card, and the file system's own needs


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OutputError."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None


@contextmanager
def staged_folder(destination: Path, *, size: int, force: bool = False) -> Iterator[Path]:
    """A folder to write into, which becomes `destination` when the block ends without an error.

    `size` is what will be written, in bytes. Raises OutputError when the destination exists (unless `force`), when the
    disk has too little room, and for every error of the file system inside the block.
    """
    destination = destination.absolute()
    check_free(destination, force=force)
    staging = destination.with_name(f".{destination.name}.partial-{os.getpid()}")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_overs(destination)
        free = shutil.disk_usage(destination.parent).free
        if free < size + SPARE_BYTES:
            raise OutputError(
                f"{destination.parent} has {free / 1e9:.2f} GB free, the checkpoint needs "
                f"{(size + SPARE_BYTES) / 1e9:.2f} GB. Make room, or choose another disk with -o."
            )
        staging.mkdir()
        yield staging
        _sync_folder(staging)
        _swap_in(staging, destination)
    except OSError as error:
        raise OutputError(f"{destination} cannot be written: {error.strerror or error}. Nothing was kept.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_free(destination: Path, *, force: bool) -> None:
    """Raise OutputError when `destination` is taken: by anything at all, or with `force` by more than a checkpoint."""
    if not os.path.lexists(destination):
        return
    if not force:
        raise OutputError(f"{destination} exists. Choose another place, or replace it with --force.")
    if destination.is_symlink() or not destination.is_dir():
        raise OutputError(f"{destination} is not a folder, so --force does not replace it. Choose another place.")
    if any(destination.iterdir()) and not (destination / "monoglot.json").exists():
        raise OutputError(
            f"{destination} was not made by monoglot (it has no monoglot.json), so --force does not replace it. "
            "Choose another place, or remove it yourself."
        )


def _remove_left_overs(destination: Path) -> None:
    for path in destination.parent.glob(f".{destination.name}.partial-*"):
        pid = path.name.rpartition("-")[2]
        if pid.isdecimal() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _swap_in(staging: Path, destination: Path) -> None:
    if destination.exists():
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
    _sync_folder(destination.parent)


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (where the system can sync a folder; Windows can't)."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
