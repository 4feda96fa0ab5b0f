"""What is on its way to its place: files and folders beside it, under names that nobody else has.

A name is `.OUT.partial-<16 hex digits>`. What has one while the lock of the place is free, a killed run left: half a
checkpoint is removed; `.OUT.partial-<…>-old` is the one that a run was replacing, and goes back if its place is empty.
"""

import contextlib
import glob
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from ..errors import OutputError
from .kinds import FILE
from .lock import holding, lock_of

STAGED = re.compile(
    r"partial-(?:[0-9a-f]{16}(-old)?|[0-9]{1,10}(-old))"
)  # the second as it was named by process number once


def staged_name(path: Path) -> Path:
    """Return a name beside `path` that nobody else has."""
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(8)}")


def write_exclusively(path: Path, data: "bytes | Iterable[bytes | memoryview]", *, like: Path) -> None:
    """Write and sync a new file, whole or piece by piece, with the permissions of the one that it is to replace."""
    with path.open("xb") as file:
        keep_mode(path, like=like)
        for piece in [data] if isinstance(data, bytes) else data:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def keep_mode(path: Path, *, like: Path) -> None:
    """Give a new file or folder the permissions of the one that it is to replace, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        found = like.lstat().st_mode
        if not stat.S_ISLNK(found):
            path.chmod(stat.S_IMODE(found))


def settle_left_overs(destination: Path) -> bool:
    """Finish what killed runs left, while the lock is held, and tell whether a checkpoint was put back.

    A replaced checkpoint is put back if its place is empty; the rest is removed.
    """
    back = False
    for path in _left_overs(destination):
        match = STAGED.fullmatch(path.name[len(destination.name) + 2 :])
        if not match:
            continue
        folder = path.is_dir() and not path.is_symlink()
        if (match[1] or match[2]) and folder and not os.path.lexists(destination):
            path.rename(destination)
            lock_of(destination / FILE).unlink(missing_ok=True)  # whoever held it was killed
            back = True
        elif match[2]:  # named by process number, without a lock: its run may be alive
            continue
        elif folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return back


def _left_overs(destination: Path) -> list[Path]:
    return sorted(destination.parent.glob(f".{glob.escape(destination.name)}.partial-*"), reverse=True)


def about_left_overs(destination: Path) -> str:
    """Say to a person whose run is refused what lies beside the place; it is settled where that is safe."""
    if not destination.name:  # the root
        return ""
    before = _left_overs(destination)
    try:
        with holding(destination) as alone:
            if alone:
                settle_left_overs(destination)
    except OutputError:
        return " Another run is writing there now."
    except OSError:
        pass
    left = [path.name for path in _left_overs(destination)]
    if left:
        named = ", ".join(left[:3]) + ", …" * (len(left) > 3)
        return f" Left-overs of earlier runs lie beside it ({named}): see whether they can go."
    return " What a killed run had left beside it is removed." if before else ""


def sync_tree(folder: Path) -> None:
    """Make all files of a folder durable in one pass, then its entries; what was synced before costs nothing."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(root) / name)
    for root, _, _ in os.walk(folder):
        sync_folder(Path(root))


def sync_file(path: Path) -> None:
    """Make a file durable that another program may have written."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (where the system can sync a folder; Windows can't)."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
