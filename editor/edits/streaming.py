"""The files of a baked checkpoint on their way from the base's: each is read once, edited, hashed and written meanwhile.

Several files are under way at once. Of each, one thread copies: a span that no edit touches goes from file to file by the
kernel, rows of an edited tensor are read, edited and written. A second one hashes, a few pieces behind: the copied spans from
the base's own pages, which the copy has just brought into the cache, the edited rows from the buffer they were edited in. A
file that stays as it is has the hash of the base's, if that is known. A third sets the disk to work early. Memory is a few
pieces a file, and the numbers do not depend on how many files are under way, nor on which is ready first.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

from ..errors import CheckpointError
from ..files.checkpoint import Shard, Tensor
from ..files.hashes import known_hash
from ..files.spans import copy_span, write_all
from ..files.streams import CHUNK, blocks, fill
from .byte_edits import ByteEdit, ByteEditing, editing
from .layout import Copied
from .manifest import FileEntry
from .tensor_edits import Editing, Rounding, TensorEdit

AT_ONCE = 4  # files
AHEAD = 6  # pieces of a file that are copied and not yet hashed
PIECE = 8 * 2**20  # bytes of a copied span
SMALL = 2**20  # bytes; less is written without further threads
SYNC_EVERY = 32 * 2**20  # bytes

AnyEdit = TensorEdit | ByteEdit
Written = tuple[FileEntry, list[Future[None]]]  # and its syncs


@dataclass(frozen=True)
class FileSource:
    """A file to write: a header, then bytes `begin` to `end` of a file of the base.

    The rows of some tensors edited. `whole` says that nothing comes after them, `same` that it is the base's file as it is.
    """

    header: bytes
    path: Path
    begin: int
    end: int
    edited: tuple[Tensor, ...] = ()
    whole: bool = True
    same: bool = False

    @property
    def size(self) -> int:
        return len(self.header) + self.end - self.begin


def of_shard(header: bytes, shard: Shard, edits: Mapping[str, AnyEdit]) -> FileSource:
    edited = tuple(tensor for tensor in shard.tensors if tensor.name in edits)
    same = not edited and header == shard.header
    return FileSource(header, shard.path, len(shard.header), shard.size, edited, same=same)


def of_tensor(copy: Copied, edits: Mapping[str, AnyEdit]) -> FileSource:
    end, edited = copy.tensor.end, (copy.renamed,) if copy.name in edits else ()
    return FileSource(copy.header, copy.shard.path, copy.tensor.begin, end, edited, whole=end == copy.shard.size)


def of_file(path: Path) -> FileSource:
    return FileSource(b"", path, 0, path.stat().st_size, same=True)


def write_files(
    files: Mapping[str, FileSource],
    folder: Path,
    edits: Mapping[str, AnyEdit],
    rounding: Rounding,
    advance: Callable[[int], None],
) -> dict[str, FileEntry]:
    """Stream every file to its name in a folder; their sizes and sha256, in the order of `files`.

    What rounding cost is added to `rounding`, file by file. Small ones are not synced yet. Raises CheckpointError,
    RecipeError, OSError.
    """
    stop, lock = Event(), Lock()

    def told(count: int) -> None:
        with lock:
            advance(count)

    roundings = {name: Rounding() for name in files}
    workers = max(1, min(AT_ONCE, os.cpu_count() or 1, len(files)))
    with ThreadPoolExecutor(1) as syncer, ThreadPoolExecutor(workers) as pool:
        run = _Run(edits, syncer, told, stop)
        jobs = {name: pool.submit(run.guarded, file, folder / name, roundings[name]) for name, file in files.items()}
        try:
            _wait(list(jobs.values()))
            for job in jobs.values():
                for future in job.result()[1]:
                    future.result()
        finally:  # of a failure, or of Ctrl-C: nobody goes on
            stop.set()
            for job in jobs.values():
                job.cancel()
    for each in roundings.values():
        rounding.include(each)
    return {name: job.result()[0] for name, job in jobs.items()}


def _wait(jobs: list[Future[Written]]) -> None:
    """Wait for all, or raise what went wrong in the first that failed; the others stop because of it."""
    done, _ = wait(jobs, return_when="FIRST_EXCEPTION")
    failed = [error for job in jobs if job in done and (error := job.exception())]
    for error in failed:
        if not isinstance(error, CancelledError) or len(failed) == 1:
            raise error


@dataclass(frozen=True)
class _Run:
    """What all files under way share."""

    edits: Mapping[str, AnyEdit]
    syncer: ThreadPoolExecutor
    advance: Callable[[int], None]
    stop: Event

    def sync(self, out: Any) -> Future[None]:
        """Sync what was written to an open file so far, meanwhile."""
        return self.syncer.submit(_sync, os.dup(out.fileno()))

    def guarded(self, file: FileSource, path: Path, rounding: Rounding) -> Written:
        """Write one file; when that fails, the others stop."""
        self.check()
        try:
            return _write_file(file, path, self, rounding)
        except BaseException:
            self.stop.set()
            raise

    def check(self) -> None:
        """Raise CancelledError when another file failed."""
        if self.stop.is_set():
            raise CancelledError


def _write_file(file: FileSource, path: Path, run: _Run, rounding: Rounding) -> Written:
    """Stream one file; its size and sha256, and its syncs, which go on."""
    syncing: list[Future[None]] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    known = known_hash(file.path) if file.same else None
    digest = hashlib.sha256(file.header)
    with file.path.open("rb", buffering=0) as source, path.open("wb", buffering=0) as out:
        _as_private(source, out)
        if file.size < SMALL and not file.edited:
            source.seek(file.begin)
            write_all(out, file.header)
            for block in blocks(source, file.begin, file.end, file.path):
                digest.update(block)
                write_all(out, block)
            run.advance(file.end - file.begin)
        else:
            syncing = _stream(file, source, out, None if known else digest, run, rounding)
        source.seek(file.end)
        if file.whole and source.read(1):
            raise CheckpointError(
                f"{file.path} became longer while it was read. Leave the model alone and run it again."
            )
    return FileEntry(known or digest.hexdigest(), file.size), syncing


def _stream(file: FileSource, source: Any, out: Any, digest: Any, run: _Run, rounding: Rounding) -> list[Future[None]]:
    """Copy and edit a file piece by piece, a hasher behind; without a `digest` nothing is hashed. Returns its syncs."""
    at_hand: Editing | ByteEditing | None = None
    longest = max([CHUNK, *map(_row_bytes, file.edited)])
    buffers = [memoryview(bytearray(longest if file.edited else 0)) for _ in range(AHEAD)]
    pending: list[Future[None] | None] = [None] * AHEAD
    syncing: list[Future[None]] = []
    unsynced, shift = 0, len(file.header) - file.begin
    write_all(out, file.header)
    with file.path.open("rb", buffering=0) as again, ThreadPoolExecutor(1) as hasher:
        for number, (begin, end, tensor, row) in enumerate(_pieces(file, run.edits)):
            run.check()
            slot = number % AHEAD
            if before := pending[slot]:
                before.result()
            if tensor is None:
                copy_span(source, out, begin, end, begin + shift, file.path)
                job = partial(_hash_span, again, digest, begin, end, file.path)
            else:
                view = buffers[slot][: end - begin]
                source.seek(begin)
                fill(source, view, file.path)
                if at_hand is None or at_hand.tensor is not tensor:
                    at_hand = editing(tensor, run.edits[tensor.name])
                at_hand.apply(view, row, rounding, place=file.path)
                out.seek(begin + shift)
                write_all(out, view)
                job = partial(digest.update, view)
            pending[slot] = hasher.submit(job) if digest else None
            unsynced += end - begin
            if unsynced >= SYNC_EVERY and all(future.done() for future in syncing[-1:]):
                syncing.append(run.sync(out))
                unsynced = 0
            run.advance(end - begin)
        for future in pending:
            if future:
                future.result()
    syncing.append(run.sync(out))
    return syncing


def _hash_span(file: Any, digest: Any, begin: int, end: int, path: Path) -> None:
    for block in blocks(file, begin, end, path):
        digest.update(block)


def _pieces(file: FileSource, edits: Mapping[str, AnyEdit]) -> Iterator[tuple[int, int, Tensor | None, int]]:
    """Yield the file's data in order: (first byte, last + 1, edited tensor or None, its first row in the piece).

    Rows between those that are edited are not edited, and belong to the spans.
    """
    at = file.begin
    for tensor in file.edited:
        row_bytes = _row_bytes(tensor)
        rows = max(1, CHUNK // max(1, row_bytes))
        for first in range(0, tensor.shape[0], rows):
            count = min(rows, tensor.shape[0] - first)
            if not _touches(edits[tensor.name], first, count):
                continue
            begin = tensor.begin + first * row_bytes
            yield from _spans(at, begin)
            at = begin + count * row_bytes
            yield begin, at, tensor, first
    yield from _spans(at, file.end)


def _touches(edit: AnyEdit, row: int, rows: int) -> bool:
    """Whether any of some rows of a tensor is edited."""
    if isinstance(edit, ByteEdit) or edit.axis != 0:
        return True
    first, last = edit.where.searchsorted([row, row + rows])
    return bool(first < last)


def _spans(begin: int, end: int) -> Iterator[tuple[int, int, None, int]]:
    """Yield a span in pieces that end at multiples of their size, so at those of a block."""
    while begin < end:
        stop = min(end, (begin // PIECE + 1) * PIECE)
        yield begin, stop, None, 0
        begin = stop


def _as_private(source: Any, out: Any) -> None:
    """Let nobody read a copy who may not read the original."""
    allowed = stat.S_IMODE(os.fstat(source.fileno()).st_mode) | stat.S_IRUSR | stat.S_IWUSR
    os.fchmod(out.fileno(), stat.S_IMODE(os.fstat(out.fileno()).st_mode) & allowed)


def _row_bytes(tensor: Tensor) -> int:
    return (tensor.end - tensor.begin) // max(1, tensor.shape[0])


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
