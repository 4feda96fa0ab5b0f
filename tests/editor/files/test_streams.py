"""Reads in blocks, against the same done to whole bytes."""

import hashlib
import io
from pathlib import Path

import pytest

from monoglot.editor.errors import CheckpointError
from monoglot.editor.files import streams
from monoglot.editor.files.checkpoint import Shard, Tensor

DATA = bytes(range(256)) * 5 + b"rest"


@pytest.fixture(params=[1, 61, 256, len(DATA), 2**21])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(streams, "CHUNK", request.param)
    return int(request.param)


def test_hashes(tmp_path: Path, chunk: int) -> None:
    path, told = tmp_path / "x", list[int]()
    path.write_bytes(DATA)
    assert streams.sha256(path, told.append) == hashlib.sha256(DATA).hexdigest()
    assert told == [*range(chunk, len(DATA), chunk), len(DATA)]
    assert streams.hashed(path, hashlib.sha512(b"before")) == hashlib.sha512(b"before" + DATA).hexdigest()


def test_blocks(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(DATA)
    with path.open("rb", buffering=0) as file:
        for begin, end in ((0, len(DATA)), (5, 300), (7, 7)):
            found = [bytes(block) for block in streams.blocks(file, begin, end, path)]
            assert b"".join(found) == DATA[begin:end] and all(len(block) <= chunk for block in found)
        with pytest.raises(CheckpointError, match=f"{path.name} became shorter while it was read. Leave it alone"):
            list(streams.blocks(file, 0, len(DATA) + 1, path))


def test_a_read_that_gives_less_than_was_asked_for() -> None:
    class Slow(io.BytesIO):
        def readinto(self, view: memoryview) -> int:  # type: ignore[override]
            return super().readinto(view[:3])

    buffer = bytearray(100)
    streams.fill(Slow(DATA), memoryview(buffer), Path("x"))
    assert buffer == DATA[:100]


def test_a_disk_that_fails() -> None:
    class Broken(io.BytesIO):
        def readinto(self, view: memoryview) -> int:  # type: ignore[override]
            raise OSError(5, "Input/output error")

    with pytest.raises(CheckpointError, match=r"x cannot be read: Input/output error\. Check the disk"):
        streams.fill(Broken(DATA), memoryview(bytearray(1)), Path("x"))


def test_where_bytes_differ(tmp_path: Path, chunk: int) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(b"head" + DATA)
    for at in (0, 60, 61, 700, len(DATA) - 1, None):
        other = bytearray(DATA)
        if at is not None:
            other[at] ^= 1
        theirs.write_bytes(other)
        wanted = None if at is None else at // chunk * chunk
        assert streams.first_difference(ours, theirs, 4, 0, len(DATA)) == wanted
        assert streams.same_bytes(ours, theirs, 4, 0, len(DATA)) == (at is None)
        ours_alone = tmp_path / "alone"
        ours_alone.write_bytes(DATA)
        assert streams.equal_files(ours_alone, theirs) == (at is None)
    for one, other_one in ((ours, theirs), (theirs, ours)):  # bytes that are in one file only
        assert not streams.same_bytes(one, other_one, *((4, 0) if one == ours else (0, 4)), len(DATA) + 1)
        assert not streams.equal_files(one, other_one)


def test_rows(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"head" + DATA)
    shard = Shard(path, 4 + len(DATA), b"head", ())
    for shape, row_bytes, first in (((4, 10), 20, 0), ((4, 10), 20, 2), ((40,), 2, 31), ((), 80, 0), ((3, 5), 80, 0)):
        place = shard, Tensor("w", "F16", shape, 4, 84)
        found = [(row, bytes(block)) for row, block in streams.row_blocks(place, first * row_bytes)]
        assert b"".join(block for _, block in found) == DATA[first * row_bytes : 80]
        assert [row for row, _ in found] == list(range(first, 80 // row_bytes, max(1, chunk // row_bytes)))
    assert list(streams.row_blocks((shard, Tensor("w", "F16", (0, 10), 4, 4)))) == []
