"""Copies of spans, against slices of bytes: by the kernel, by hand, and by both in turn."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from monoglot.editor.errors import CheckpointError
from monoglot.editor.files import spans
from monoglot.editor.files.spans import BLOCK, WORTHWHILE, copy_span

DATA = os.urandom(3 * WORTHWHILE)
PLACES = [
    (0, len(DATA), 0),  # all
    (0, len(DATA), BLOCK),  # blocks that can be shared
    (7, WORTHWHILE + 9, 7),  # the same, not from a block's beginning to one
    (5, 2 * WORTHWHILE, 99),  # none that can
    (3, 90, 1),  # too few for the kernel to be asked
    (8, 8, 8),
]


def copied(folder: Path, begin: int, end: int, to: int) -> bytes:
    (folder / "from").write_bytes(DATA)
    with (folder / "from").open("rb", buffering=0) as source, (folder / "to").open("wb", buffering=0) as out:
        spans.write_all(out, bytes(to))
        copy_span(source, out, begin, end, to, folder / "from")
    return (folder / "to").read_bytes()


@pytest.mark.parametrize(("begin", "end", "to"), PLACES)
@pytest.mark.parametrize(
    "kernel", ["there", "absent", "less than asked", "EXDEV", "EINVAL", "ENOSYS", "EPERM", "stops"]
)
def test_it_is_the_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: int, end: int, to: int, kernel: str
) -> None:
    real, calls = getattr(os, "copy_file_range", None), list[int]()
    if real is None and kernel in ("there", "less than asked", "stops"):
        pytest.skip("this system has no copy_file_range")

    def copy(source: int, out: int, count: int, at: int, place: int) -> int:
        calls.append(count)
        if kernel.startswith("E"):
            code = getattr(errno, kernel)
            raise OSError(code, os.strerror(code))
        if kernel == "stops" and len(calls) > 1:
            return 0
        assert real
        return int(real(source, out, count if kernel == "there" else -(-count // 3), at, place))

    if kernel == "absent":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:
        monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    assert copied(tmp_path, begin, end, to) == bytes(to) + DATA[begin:end]
    assert bool(calls) == (kernel != "absent" and end - begin >= WORTHWHILE)


def test_whole_blocks_are_asked_for_on_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no file system would share them."""
    asked: list[tuple[int, int]] = []

    def copy(source: int, out: int, count: int, at: int, place: int) -> int:
        asked.append((at, count))
        os.lseek(out, place, os.SEEK_SET)
        return os.write(out, DATA[at : at + count])

    monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    end = 10 + 20 * BLOCK
    assert copied(tmp_path, 10, end, 10 + BLOCK) == bytes(10 + BLOCK) + DATA[10:end]
    assert asked == [(10, BLOCK - 10), (BLOCK, 19 * BLOCK), (20 * BLOCK, 10)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*more: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    with pytest.raises(OSError, match=os.strerror(code)):
        copied(tmp_path, 0, len(DATA), 0)


def test_a_source_that_ends_too_early(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="from became shorter while it was read"):
        copied(tmp_path, 0, len(DATA) + 1, 0)
