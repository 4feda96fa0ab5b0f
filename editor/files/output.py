"""All or nothing: output is written beside its destination, synced, and renamed in place at the end.

Killed at any point, the destination is absent or whole. Whoever writes a place holds its lock (see `lock`), and all that is
on its way there has a random name, `.OUT.partial-<16 hex digits>`, and is created exclusively: a link that lies in the way is
never followed. So what has such a name while the lock is free, a killed run left, and the next run settles it: half a
checkpoint is removed; `.OUT.partial-<…>-old` is the one that a run was replacing, and goes back if its place is empty.

Files of a folder that must change together are staged together, and a journal, `.monoglot.json.pending`, names them before
the first is renamed: whoever reads or writes the folder next finishes what was begun.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from ..errors import OutputError
from .kinds import FILE
from .lock import holding, lock_of
from .streams import sha256

SPARE_BYTES = 16 * 2**20  # for the manifest, the card, and the file system's own needs
FULL = (errno.ENOSPC, errno.EDQUOT)
WAIT = 10.0  # seconds for another run that writes a file, which takes moments
JOURNAL = f".{FILE}.pending"
LARGEST_JOURNAL = 2**20  # bytes
STAGED = re.compile(
    r"partial-(?:[0-9a-f]{16}(-old)?|[0-9]{1,10}(-old))"
)  # the second as it was named by process number once


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; one that is replaced keeps its permissions. Raises OutputError."""
    if not path.name or path.is_dir():
        raise OutputError(f"{path} is a folder. Name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with holding(path, wait=WAIT) as alone:
            if alone:
                _settle_left_overs(path)
            staged = _staged(path)
            try:
                _write_exclusively(staged, data, like=path)
                staged.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    staged.unlink()
    except OSError as error:
        raise _failed(path, error) from None


@contextmanager
def updating(folder: Path) -> Iterator[None]:
    """Be the only one who reads and then changes the files of a checkpoint. Raises OutputError."""
    with ExitStack() as stack:
        try:
            stack.enter_context(holding(folder / FILE, wait=WAIT))
        except OSError as error:
            raise _failed(folder / FILE, error) from None
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
                    _settle_left_overs(path)
            try:
                for name, data in files.items():
                    path = folder / name
                    staged[name] = (_staged(path), hashlib.sha256(data).hexdigest())
                    _write_exclusively(staged[name][0], data, like=path)
                journal = {name: {"staged": path.name, "sha256": digest} for name, (path, digest) in staged.items()}
                replace_file(folder / JOURNAL, json.dumps({"format": 1, "files": journal}).encode())
                _sync_folder(folder)
                for name, (path, _) in staged.items():
                    path.replace(folder / name)
                    moved += 1
            finally:
                if not moved:
                    for path in (folder / JOURNAL, *(path for path, _ in staged.values())):
                        with contextlib.suppress(OSError):
                            path.unlink()
            _sync_folder(folder)
            (folder / JOURNAL).unlink()
    except OSError as error:
        raise _failed(folder / FILE, error) from None


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
                raise OutputError(f"{error}{_about_left_overs(destination)}") from None
            for folder in _missing(destination.parent):
                with contextlib.suppress(FileExistsError):  # another run was faster
                    folder.mkdir()
                    made.append(folder)
            if stack.enter_context(holding(destination)) and _settle_left_overs(destination):
                try:
                    check(destination)
                except OutputError as error:
                    raise OutputError(f"{error} A killed run had moved it away; it is back at its place.") from None
            check(destination)
        except OSError as error:
            raise _failed(destination, error) from None
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
        _sync_tree(staging)
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
                _sync_file(staging / path.name)
            (staging / beside.name).replace(beside)
            try:
                (staging / destination.name).replace(destination)
            except OSError:
                beside.unlink() if before is None else replace_file(beside, before)
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
    """Yield a folder beside `destination`, gone again when the block fails; `place` puts what is in it where it belongs."""
    with claimed(destination, check):
        staging = _staged(destination)
        try:
            check_room(destination, size, what)
            staging.mkdir()
            try:
                yield staging
                place(staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)  # where it is still there
        except OSError as error:
            raise _failed(destination, error) from None


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
        raise _failed(destination, error) from None


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
        raise _failed(destination, error) from None
    if foreign:
        raise OutputError(
            f"{destination} was not made by monoglot (it has no {FILE}), so `force` does not replace it. "
            "Choose another place, or remove it yourself."
        )


def _failed(destination: Path, error: OSError) -> OutputError:
    """Make an error of what the file system said: about which file, and what to do."""
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


# What is on its way


def _staged(path: Path) -> Path:
    """Return a name beside `path` that nobody else has."""
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(8)}")


def _write_exclusively(path: Path, data: bytes, *, like: Path) -> None:
    """Write and sync a new file with the permissions of the one that it is to replace."""
    with path.open("xb") as file:
        keep_mode(path, like=like)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def keep_mode(path: Path, *, like: Path) -> None:
    """Give a new file or folder the permissions of the one that it is to replace, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        found = like.lstat().st_mode
        if not stat.S_ISLNK(found):
            path.chmod(stat.S_IMODE(found))


def _settle_left_overs(destination: Path) -> bool:
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


def _about_left_overs(destination: Path) -> str:
    """Say to a person whose run is refused what lies beside the place; it is settled where that is safe."""
    if not destination.name:  # the root
        return ""
    before = _left_overs(destination)
    try:
        with holding(destination) as alone:
            if alone:
                _settle_left_overs(destination)
    except OutputError:
        return " Another run is writing there now."
    except OSError:
        pass
    left = [path.name for path in _left_overs(destination)]
    if left:
        named = ", ".join(left[:3]) + ", …" * (len(left) > 3)
        return f" Left-overs of earlier runs lie beside it ({named}): see whether they can go."
    return " What a killed run had left beside it is removed." if before else ""


def _swap_in(staging: Path, destination: Path, *, force: bool) -> None:
    check_free(destination, force=force)  # again: baking took a while
    if os.path.lexists(destination):
        old = destination.with_name(f"{_staged(destination).name}-old")
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
        _sync_folder(destination.parent)


def _sync_tree(folder: Path) -> None:
    """Make all files of a folder durable in one pass, then its entries; what was synced before costs nothing."""
    for root, _, names in os.walk(folder):
        for name in names:
            _sync_file(Path(root) / name)
    for root, _, _ in os.walk(folder):
        _sync_folder(Path(root))


def _sync_file(path: Path) -> None:
    """Make a file durable that another program may have written."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (where the system can sync a folder; Windows can't)."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
