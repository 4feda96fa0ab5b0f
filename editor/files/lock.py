"""One writer at a place: an exclusive lock on a small file beside what is written, `.NAME.lock`.

The kernel keeps the lock for as long as the file is open and drops it when the process ends, however it ends. So a killed
run leaves a file without a lock, and nobody has to guess from a process number whether its owner lives: that number means
nothing in another container or on another host. `flock` is known to both where they share a file system.

Where a file system or a system has no such locks, nothing is locked and `holding` says so. Then nobody may remove what
looks like a left-over; random names still keep two writers apart.
"""

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PAUSE = 0.02  # seconds between two tries
BUSY = (errno.EAGAIN, errno.EACCES)
UNABLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

_held: dict[str, tuple[int, bool]] = {}  # path -> (thread, whether it is locked): a thread may hold a place twice
_guard = threading.Lock()


def lock_of(path: Path) -> Path:
    """Return the file that is locked for `path`."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def holding(path: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Be the only one who writes `path`, whose folder must exist; gives whether that is certain.

    Within one thread it may be nested. Raises OutputError when another run holds the place for longer than `wait` seconds,
    and OSError when the lock's file cannot be made.
    """
    place = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
    deadline = time.monotonic() + wait
    while True:
        with _guard:
            owner = _held.get(place)
            if owner is None:
                _held[place] = (threading.get_ident(), False)
                break
        if owner[0] == threading.get_ident():
            yield owner[1]
            return
        _pause(path, deadline)
    try:
        with _locked(path, deadline) as certain:
            _held[place] = (threading.get_ident(), certain)
            yield certain
    finally:
        with _guard:
            del _held[place]


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[bool]:
    lock = lock_of(path)
    descriptor = _open(lock)
    try:
        while True:
            try:
                certain = _take(descriptor)
            except BlockingIOError:
                _pause(path, deadline)
                continue
            if not certain or _is_at(descriptor, lock):
                break
            os.close(descriptor)  # who held it before has removed the file: lock the one that is there now
            descriptor = _open(lock)
        try:
            yield certain
        finally:
            with contextlib.suppress(OSError):
                if certain and _is_at(descriptor, lock):
                    lock.unlink()
    finally:
        os.close(descriptor)


def _open(lock: Path) -> int:
    """Open the file of a lock, which is made if need be; a link is not followed."""
    descriptor = os.open(
        lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o666
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a file", str(lock))
    return descriptor


def _take(descriptor: int) -> bool:
    """Lock an open file; whether there are such locks here. Raises BlockingIOError when somebody else has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in UNABLE:
            return False
        if error.errno in BUSY:
            raise BlockingIOError from None
        raise
    return True


def _is_at(descriptor: int, lock: Path) -> bool:
    """Whether an open file is the one at this path still."""
    try:
        there = lock.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _pause(path: Path, deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise OutputError(f"another run is writing {path} now. Wait until it has ended, or choose another place.")
    time.sleep(PAUSE)
