"""sha256 of files, remembered: weights are read for it once, and not again for every command.

What was found is kept in the user's cache folder (`$XDG_CACHE_HOME/monoglot/sha256`, else `~/.cache/…`), under all that says
whether a file is still the one that was read: its path, device, inode, size, and the times of its last change, in
nanoseconds. The second of these times, `ctime`, is set by the system whatever a program does to the first. A file that was
changed moments ago is not remembered, because it could change once more within one tick of the file system's clock.
Where nothing can be kept, hashes are computed once in each process. What monoglot writes is hashed on its way, and remembered
at once: nobody else writes there meanwhile.

The name of a blob in the Hub's cache is its sha256 as it was downloaded. It is taken for its hash while the system's own
times say that the blob was not changed after the first link to it was made, which the Hub's library does when the download
is complete. A blob that was edited or copied since is read. Damage by the disk shows in no time: `forget_hashes`, which is
`--rehash`, has every file read.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

from ..errors import CheckpointError, OutputError
from ..progress import shown
from .output import replace_file
from .streams import sha256

SMALL = 2**20  # bytes; less is read faster than remembered
SETTLED = 3.0  # seconds after which a change would show in a file's times
ENTRIES = 4096  # that are kept; then the older half goes
THREADS = 8
DIGEST = re.compile(r"[0-9a-f]{64}")

_computed: dict[str, str] = {}  # by this process
_anew = [False]  # whether this process takes nobody's word but its own


def forget_hashes() -> None:
    """Read every file anew from now on in this process, whatever is known of it."""
    _computed.clear()
    _anew[0] = True


def file_hashes(paths: Iterable[Path], progress: Callable[[Path, int, int], None] | None = None) -> list[str]:
    """Give the sha256 of each file, in hex, several at a time.

    `progress` gets a file, and the bytes read and to be read, of all files. Raises CheckpointError for an unreadable one.
    """
    listed, lock = list(paths), Lock()
    sizes = [path.stat().st_size if path.is_file() else 0 for path in listed]
    done = [0] * len(listed)

    def hashed(number: int) -> str:
        def told(count: int) -> None:
            with lock:
                done[number] = count
                if progress:
                    progress(listed[number], sum(done), sum(sizes))
                elif update:
                    update("", sum(done) // 10**6, sum(sizes) // 10**6)

        digest = file_hash(listed[number], told)
        told(sizes[number])
        return digest

    with (
        shown("sha256", "MB") if progress is None else nullcontext() as update,
        ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool,
    ):
        return list(pool.map(hashed, range(len(listed))))


def file_hash(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Give the sha256 of a file, in hex, from the cache where it is still the same. `progress` gets the bytes read so far.

    Raises CheckpointError.
    """
    try:
        before = path.stat()
        name = _name(path, before) if before.st_size >= SMALL else None
        if name and (known := _found(path, before, name)):
            return known
        digest = sha256(path, progress) if progress else sha256(path)
        after = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from None
    if _stamp(before) != _stamp(after):
        raise CheckpointError(f"{path} was written to while it was read. Leave the model alone and run it again.")
    if name and time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > SETTLED * 1e9:
        _computed[name] = digest
        _keep(name, digest)
    return digest


def known_hash(path: Path) -> str | None:
    """Give the sha256 of a file where it is known and the file is still the same, without reading it; else None."""
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_size < SMALL:
        return None
    return _found(path, found, _name(path, found))


def remember(path: Path, digest: str) -> None:
    """Keep the sha256 of a large file that this process has just written, synced and put in its place."""
    with contextlib.suppress(OSError):
        found = path.stat()
        if found.st_size >= SMALL:
            _computed[name := _name(path, found)] = digest
            _keep(name, digest)


def _found(path: Path, found: os.stat_result, name: str) -> str | None:
    """Give the hash that this process computed, or, unless all is to be read anew, one that was kept or is a blob's name."""
    if name in _computed:
        return _computed[name]
    return None if _anew[0] else _known(name) or _blob_name(path, found)


def _blob_name(path: Path, found: os.stat_result) -> str | None:
    """Give the sha256 that the Hub's cache calls a file by, if it was not changed since the first link to it was made."""
    blob = Path(os.path.realpath(path))
    home = blob.parent.parent
    if not (path.is_symlink() and blob.parent.name == "blobs" and DIGEST.fullmatch(blob.name)):
        return None
    links = [link for link in home.glob("snapshots/*/**/*") if link.is_symlink() and link.name == path.name]
    made = [link.lstat().st_ctime_ns for link in links if os.path.realpath(link) == str(blob)]
    return blob.name if made and max(found.st_mtime_ns, found.st_ctime_ns) <= min(made) else None


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _name(path: Path, found: os.stat_result) -> str:
    """Under which name the hash of a file is kept."""
    about = json.dumps([os.path.realpath(path), *_stamp(found)])
    return hashlib.sha256(about.encode(errors="surrogateescape")).hexdigest()


def cache_folder() -> Path | None:
    """Give the folder of remembered hashes, which need not exist; None where the user has no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        caches = Path(named) if os.path.isabs(named) else Path.home() / ".cache"  # noqa: PTH117
    except RuntimeError:
        return None
    return caches / "monoglot" / "sha256"


def _known(name: str) -> str | None:
    folder = cache_folder()
    try:
        text = (folder / name).read_text("ascii") if folder else ""
    except (OSError, ValueError):
        return None
    return text if DIGEST.fullmatch(text) else None


def _keep(name: str, digest: str) -> None:
    folder = cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError, OutputError):  # a full or read-only disk: computed again next time
        replace_file(folder / name, digest.encode())
        kept = [path for path in folder.iterdir() if DIGEST.fullmatch(path.name)]
        if len(kept) > ENTRIES:
            for path in sorted(kept, key=lambda path: path.stat().st_mtime)[: ENTRIES // 2]:
                path.unlink(missing_ok=True)
