"""Copies of parts of files: by the kernel where it can, which shares the disk's blocks where the file system can.

`copy_file_range` hands a span from file to file without a detour through this process. XFS and Btrfs then share whole blocks
instead of copying them, where these begin at a multiple of a block in both files; so a span is cut there. Where there is no
such call (macOS, Windows), or it can't copy between these two files (other disks, older kernels, network file systems), the
bytes are read and written.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .streams import blocks

BLOCK = 4096  # bytes, of the file systems that share blocks
WORTHWHILE = 2**16  # bytes; less is read and written faster than the kernel is asked
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no other way to copy helps


def write_all(out: Any, data: Any) -> None:
    """Write all of some bytes to an unbuffered file, at its position."""
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def copy_span(source: Any, out: Any, begin: int, end: int, to: int, path: Path) -> None:
    """Copy bytes `begin` to `end` of one unbuffered file to byte `to` of another.

    Both files are open for the caller alone: their positions move. `path` is the source's. Raises CheckpointError when it
    cannot be read, OSError when the other cannot be written.
    """
    at = begin
    if end - begin >= WORTHWHILE:
        for stop in _cuts(begin, end, aligned=(to - begin) % BLOCK == 0):
            while at < stop and (count := _by_kernel(source, out, at, stop, to + at - begin)):
                at += count
            if at < stop:
                break
    if at < end:
        out.seek(to + at - begin)
        for block in blocks(source, at, end, path):
            write_all(out, block)


def _cuts(begin: int, end: int, *, aligned: bool) -> Iterator[int]:
    """Yield where to stop on the way through a span: around the blocks that can be shared, and at its end."""
    if aligned:
        yield from (stop for stop in (-(-begin // BLOCK) * BLOCK, end // BLOCK * BLOCK) if begin < stop < end)
    yield end


def _by_kernel(source: Any, out: Any, at: int, end: int, to: int) -> int:
    """Let the kernel copy, and return how many bytes it did; 0 where it can't between these two files.

    What is wrong with the source shows when its bytes are read instead.
    """
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source.fileno(), out.fileno(), end - at, at, to)
    except OSError as error:
        if error.errno in FULL:
            raise
        return 0
