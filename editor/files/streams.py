"""Reads of files that are too large for memory: exact reads, hashes, the same bytes in two files, rows of a tensor.

Every function reads in blocks of `CHUNK` bytes, so memory stays constant.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .checkpoint import Shard, Tensor

CHUNK = 2 * 2**20  # bytes read at once

Place = tuple[Shard, Tensor]


def fill(file: Any, view: memoryview, path: Path) -> None:
    """Read exactly as many bytes of an open file as a buffer holds.

    Raises CheckpointError when the file has fewer, or its disk fails.
    """
    at = 0
    while at < len(view):
        try:
            count = file.readinto(view[at:])
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}. Check the disk it lies on.") from None
        if not count:
            raise CheckpointError(f"{path} became shorter while it was read. Leave it alone and run it again.")
        at += count


def blocks(file: Any, begin: int, end: int, path: Path) -> Iterator[memoryview]:
    """Yield the bytes of an open file between two positions. Each block is valid until the next. Raises CheckpointError."""
    buffer = memoryview(bytearray(min(CHUNK, end - begin)))
    file.seek(begin)
    for at in range(begin, end, CHUNK):
        view = buffer[: end - at]
        fill(file, view, path)
        yield view


def row_blocks(place: Place, start: int = 0) -> Iterator[tuple[int, memoryview]]:
    """Yield a tensor in blocks of whole rows, as (first row, bytes), from the row that holds byte `start`.

    Rows lie along the first axis; a tensor without axes is one row. Each block is valid until the next. Raises
    CheckpointError.
    """
    shard, tensor = place
    rows, row_bytes = row_layout(tensor)
    if not row_bytes:
        return
    at_once = max(1, CHUNK // row_bytes)
    buffer = memoryview(bytearray(min(at_once, rows) * row_bytes))
    with shard.path.open("rb", buffering=0) as file:
        first = start // row_bytes
        file.seek(tensor.begin + first * row_bytes)
        for row in range(first, rows, at_once):
            view = buffer[: min(at_once, rows - row) * row_bytes]
            fill(file, view, shard.path)
            yield row, view


def row_layout(tensor: Tensor) -> tuple[int, int]:
    """Return the number of rows of a tensor and the bytes of one row.

    A tensor whose rows would end inside a byte counts as one row.
    """
    size, rows = tensor.end - tensor.begin, (*tensor.shape, 1)[0] or 1
    return (rows, size // rows) if size % rows == 0 and size else (1, size)


def sha256(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return the sha256 of a file, in hex. `progress` gets the bytes read so far."""
    return hashed(path, hashlib.sha256(), progress)


def hashed(path: Path, digest: Any, progress: Callable[[int], None] | None = None) -> str:
    """Add the bytes of a file to a hash, and return it in hex. `progress` gets the bytes read so far."""
    buffer, done = memoryview(bytearray(CHUNK)), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            done += count
            if progress:
                progress(done)
    hex_digest: str = digest.hexdigest()
    return hex_digest


def equal_files(ours: Path, theirs: Path) -> bool:
    """Tell whether two files have the same bytes."""
    size = ours.stat().st_size
    return size == theirs.stat().st_size and same_bytes(ours, theirs, 0, 0, size)


def same_bytes(ours: Path, theirs: Path, here: int, there: int, count: int) -> bool:
    """Tell whether `count` bytes of two files are the same, from `here` in the one and `there` in the other."""
    return first_difference(ours, theirs, here, there, count) is None


def first_difference(ours: Path, theirs: Path, here: int, there: int, count: int) -> int | None:
    """Find where the first block begins that differs in `count` bytes of two files, counted from `here`; None if none does.

    `here` is a position in the first file, `there` one in the second. Bytes that a file does not have differ.
    """
    with ours.open("rb") as new, theirs.open("rb") as old:
        new.seek(here)
        old.seek(there)
        for at in range(0, count, CHUNK):
            size = min(CHUNK, count - at)
            piece = new.read(size)  # bytes, which compare many times faster than views of a buffer
            if len(piece) != size or piece != old.read(size):
                return at
    return None
