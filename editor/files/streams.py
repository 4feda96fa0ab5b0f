"""Reads of files that are too large for memory: exact reads, sha256, the same bytes in two files, rows of a tensor.

Every function reads in blocks of `CHUNK` bytes, so memory stays constant.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .checkpoint import Shard, Tensor

CHUNK = 2 * 2**20  # bytes read at once


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex, in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


Place = tuple[Shard, Tensor]


def _fill(file: Any, view: memoryview, path: Path) -> None:
    at = 0
    while at < len(view):
        count = file.readinto(view[at:])
        if not count:
            raise CheckpointError(f"{path} became shorter while it was read. Leave the model alone and run it again.")
        at += count


def row_blocks(place: Place, start: int = 0) -> Iterator[tuple[int, memoryview]]:
    """Yield a tensor in blocks of whole rows, as (first row, bytes), from the row that holds byte `start`.

    Rows lie along the first axis; a tensor without axes is one row. Each block is valid until the next.
    """
    shard, tensor = place
    rows, row_bytes = row_layout(tensor)
    at_once = max(1, CHUNK // row_bytes)
    buffer = memoryview(bytearray(min(at_once, rows) * row_bytes))
    with shard.path.open("rb", buffering=0) as file:
        first = start // row_bytes
        file.seek(tensor.begin + first * row_bytes)
        for row in range(first, rows, at_once):
            view = buffer[: min(at_once, rows - row) * row_bytes]
            _fill(file, view, shard.path)
            yield row, view


def row_layout(tensor: Tensor) -> tuple[int, int]:
    """Return the number of rows of a tensor and the bytes of one row.

    A tensor whose rows would end inside a byte counts as one row.
    """
    size, rows = tensor.end - tensor.begin, (*tensor.shape, 1)[0] or 1
    return (rows, size // rows) if size % rows == 0 and size else (1, size)


def equal_files(one: Path, other: Path) -> bool:
    """Tell whether two files have the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as ours, other.open("rb") as theirs:
        while piece := ours.read(CHUNK):
            if piece != theirs.read(CHUNK):
                return False
    return True


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def same_bytes(ours: Path, theirs: Path, here: int, there: int, count: int) -> bool:
    """Whether `count` bytes of two files are the same, from `here` in the one and `there` in the other."""
    buffers = np.empty((2, CHUNK), np.uint8)
    with ours.open("rb") as new, theirs.open("rb") as old:
        new.seek(here)
        old.seek(there)
        for at in range(0, count, CHUNK):
            a, b = buffers[:, : count - at]
            if new.readinto(memoryview(a)) != len(a) or old.readinto(memoryview(b)) != len(b):
                return False
            if not np.array_equal(a, b):
                return False
    return True
