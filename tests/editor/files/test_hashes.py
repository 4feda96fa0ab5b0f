"""Remembered hashes: never of another content, and never needed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from monoglot.editor.errors import CheckpointError
from monoglot.editor.files import hashes, streams
from monoglot.editor.files.hashes import SMALL, cache_folder, file_hash, file_hashes, known_hash

OLD = 10**9 * 1_600_000_000  # a time long ago, in nanoseconds


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(hashes, "_computed", {})
    monkeypatch.setattr(hashes, "SETTLED", -1.0)  # everything changed long ago
    return tmp_path / "caches" / "monoglot" / "sha256"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read whole."""
    real, seen = streams.sha256, []

    def read(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(hashes, "sha256", read)
    return seen


def forget() -> None:
    """As in another process."""
    hashes._computed.clear()


def a_file(folder: Path, *, size: int = SMALL, name: str = "weights") -> tuple[Path, str]:
    data = os.urandom(size)
    (folder / name).write_bytes(data)
    return folder / name, hashlib.sha256(data).hexdigest()


def test_a_file_is_read_once(cache: Path, reads: list[Path], tmp_path: Path) -> None:
    path, digest = a_file(tmp_path)
    for _ in range(3):
        assert file_hash(path) == digest
        forget()
    assert reads == [path] and [entry.read_text() for entry in cache.iterdir()] == [digest]


def test_several_at_once_in_their_order(cache: Path, tmp_path: Path) -> None:
    made = [a_file(tmp_path, name=f"shard-{number}", size=SMALL + number) for number in range(20)]
    assert file_hashes(path for path, _ in made) == [digest for _, digest in made]


@pytest.mark.parametrize("how", ["in place", "in place, with the old time", "replaced, with the old time", "one byte"])
def test_whatever_changed_is_read_again(cache: Path, reads: list[Path], tmp_path: Path, how: str) -> None:
    path, before = a_file(tmp_path)
    os.utime(path, ns=(OLD, OLD))
    assert file_hash(path) == before
    forget()
    time.sleep(0.02)  # a tick of the file system's clock
    if how.startswith("replaced"):
        other, _ = a_file(tmp_path, name="other")
        other.replace(path)
    else:
        with path.open("r+b") as file:
            file.seek(SMALL // 2)
            byte = file.read(1)
            file.seek(SMALL // 2)
            file.write(bytes([byte[0] ^ 1]) if how == "one byte" else os.urandom(1000))
    if "old time" in how:
        os.utime(path, ns=(OLD, OLD))
    assert file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest() != before
    assert len(reads) == 2


def test_what_was_changed_a_moment_ago_is_not_remembered(
    cache: Path, reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED", 3.0)
    path, digest = a_file(tmp_path)
    os.utime(path, ns=(OLD, OLD))  # the time that a program can set says nothing
    assert file_hash(path) == file_hash(path) == digest
    assert len(reads) == 2 and not cache.exists()


def test_a_file_that_is_written_to_while_it_is_read(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = a_file(tmp_path)
    real = streams.sha256

    def read(path: Path) -> str:
        digest = real(path)
        with path.open("ab") as file:
            file.write(b"x")
        return digest

    monkeypatch.setattr(hashes, "sha256", read)
    with pytest.raises(CheckpointError, match="was written to while it was read"):
        file_hash(path)


@pytest.mark.parametrize("place", ["no home", "a file", "relative", "may not be written"])
def test_without_a_cache_hashes_are_computed(
    reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(hashes, "_computed", {})
    monkeypatch.setattr(hashes, "SETTLED", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    if place == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
        assert cache_folder() is None
    elif place == "a file":
        (tmp_path / "caches").write_text("x")
    elif place == "relative":
        monkeypatch.setenv("XDG_CACHE_HOME", "caches")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "monoglot" / "sha256"
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    path, digest = a_file(tmp_path)
    assert file_hash(path) == file_hash(path) == digest
    assert len(reads) == 1  # this process remembers


@pytest.mark.parametrize("entry", ["", "x" * 64, "A" * 64, "é", "0" * 63])
def test_an_entry_that_is_none_is_made_anew(cache: Path, tmp_path: Path, entry: str) -> None:
    path, digest = a_file(tmp_path)
    assert file_hash(path) == digest
    (kept,) = cache.iterdir()
    kept.write_text(entry)
    forget()
    assert file_hash(path) == kept.read_text() == digest


def test_the_cache_does_not_grow_for_ever(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "ENTRIES", 10)
    for number in range(30):
        path, digest = a_file(tmp_path, name=str(number))
        assert file_hash(path) == digest
        assert len(list(cache.iterdir())) <= 10


def test_what_cannot_be_read(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        file_hash(tmp_path / "gone")


def test_all_is_read_anew(cache: Path, reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, also what was kept and what a blob is called."""
    monkeypatch.setattr(hashes, "_anew", [False])
    path, digest = a_file(tmp_path)
    link = in_the_hubs_cache(tmp_path, digest, path.read_bytes())
    assert [file_hash(path), file_hash(link)] == [digest] * 2 and reads == [path]
    hashes.forget_hashes()
    assert [file_hash(path), file_hash(link), file_hash(path)] == [digest] * 3 and reads == [path, path, link]


def test_what_was_just_written_is_remembered(cache: Path, reads: list[Path], tmp_path: Path) -> None:
    path, digest = a_file(tmp_path)
    small, _ = a_file(tmp_path, size=SMALL - 1, name="small")
    assert known_hash(path) is None
    for written in (path, small, tmp_path / "gone"):
        hashes.remember(written, digest)
    forget()
    assert (known_hash(path), known_hash(small), known_hash(tmp_path / "gone")) == (digest, None, None)
    assert file_hash(path) == digest and reads == []
    path.write_bytes(bytes(SMALL))
    assert known_hash(path) is None


def in_the_hubs_cache(folder: Path, name: str, data: bytes, snapshot: str = "1") -> Path:
    home = folder / "models--a--b"
    for place in ("blobs", f"snapshots/{snapshot}"):
        (home / place).mkdir(parents=True, exist_ok=True)
    if not (home / "blobs" / name).exists():
        (home / "blobs" / name).write_bytes(data)
        time.sleep(0.02)  # a tick of the file system's clock
    (home / "snapshots" / snapshot / "weights").symlink_to(f"../../blobs/{name}")
    return home / "snapshots" / snapshot / "weights"


@pytest.mark.parametrize("change", [None, "edited", "edited, with the old time", "another's name", "linked again"])
def test_the_name_of_a_blob(cache: Path, reads: list[Path], tmp_path: Path, change: str | None) -> None:
    """It is believed while nothing was written to the blob after it was first linked to."""
    data = os.urandom(SMALL)
    named = "5" * 40 if change == "another's name" else hashlib.sha256(data).hexdigest()  # git's own are shorter
    link = in_the_hubs_cache(tmp_path, named, data)
    blob = link.resolve()
    time.sleep(0.02)
    if change in ("edited", "edited, with the old time", "linked again"):
        times = blob.stat()
        blob.write_bytes(os.urandom(SMALL))
        if change == "edited, with the old time":
            os.utime(blob, ns=(times.st_atime_ns, times.st_mtime_ns))
    if change == "linked again":
        time.sleep(0.02)
        link = in_the_hubs_cache(tmp_path, named, b"", snapshot="2")
    assert file_hash(link) == hashlib.sha256(blob.read_bytes()).hexdigest()
    assert reads == ([] if change is None else [link])


def test_progress_over_all(cache: Path, tmp_path: Path) -> None:
    made = [a_file(tmp_path, name=f"shard-{number}", size=3 * SMALL) for number in range(4)]
    seen: list[tuple[Path, int, int]] = []
    assert file_hashes((path for path, _ in made), lambda *step: seen.append(step)) == [digest for _, digest in made]
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1:] == (12 * SMALL, 12 * SMALL)
