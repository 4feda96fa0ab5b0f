"""Files on their way: in any number at once the same bytes and hashes as one after another, by a plain second reading."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny

from monoglot.editor.edits import streaming
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.streaming import FileSource, of_file, of_shard, write_files
from monoglot.editor.edits.tensor_edits import Rounding, TensorEdit
from monoglot.editor.errors import CheckpointError
from monoglot.editor.files.checkpoint import Shard, read_shard
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

ROWS, COLUMNS = 3000, 300  # 1.8 MB of float16: several pieces, and more than a small file


def a_shard(path: Path, seed: int = 0) -> tuple[Shard, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Two tensors with a third between them."""
    drawn = np.random.default_rng(seed).normal(size=(3, ROWS, COLUMNS)).astype(np.float16)
    entries = {
        name: {
            "dtype": "F16",
            "shape": [ROWS, COLUMNS],
            "data_offsets": [n * drawn[0].nbytes, (n + 1) * drawn[0].nbytes],
        }
        for n, name in enumerate(("a", "between", "z"))
    }
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + drawn.tobytes())
    return read_shard(path), drawn[0], drawn[2]


@pytest.mark.parametrize("chunk", [1000, 10_000, 2**21])
@pytest.mark.parametrize("piece", [4096, 2**23])
def test_rows_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, piece: int) -> None:
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    monkeypatch.setattr(streaming, "PIECE", piece)
    shard, a, z = a_shard(tmp_path / "shard")
    rows, columns = np.array([0, 1, 1500, ROWS - 1]), np.array([3, 299])
    edits = {"a": TensorEdit(0, rows, np.full(4, 2.0)), "z": TensorEdit(1, columns, np.zeros(2))}
    seen: list[int] = []
    written = write_files({"out": of_shard(shard.header, shard, edits)}, tmp_path, edits, Rounding(), seen.append)
    a[rows] *= 2
    z[:, columns] = 0
    whole = (tmp_path / "shard").read_bytes()
    start, size = len(shard.header), a.nbytes
    expected = whole[:start] + a.tobytes() + whole[start + size : start + 2 * size] + z.tobytes()
    assert (tmp_path / "out").read_bytes() == expected
    assert (written["out"].sha256, written["out"].size) == (hashlib.sha256(expected).hexdigest(), len(expected))
    assert sum(seen) == 3 * size


def test_only_blocks_with_edited_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go with the spans."""
    monkeypatch.setattr(streaming, "CHUNK", 100 * COLUMNS * 2)
    shard, _, _ = a_shard(tmp_path / "shard")
    edits = {"a": TensorEdit(0, np.array([150, 2999]), np.zeros(2))}
    pieces = list(streaming._pieces(of_shard(shard.header, shard, edits), edits))
    assert [row for _, _, tensor, row in pieces if tensor] == [100, 2900]
    assert [begin for begin, *_ in pieces[1:]] == [end for _, end, *_ in pieces[:-1]]
    assert (pieces[0][0], pieces[-1][1]) == (len(shard.header), shard.size)


def test_any_number_at_once(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And whichever is ready first: the manifest has the same hashes, in the same order, and the same rounding."""
    target = open_target(resolve(str(saved("llama", dtype="bfloat16", shards=True))))
    own, made = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width), tiny.by_hand(target)
    write = streaming._write_file

    def late(file: FileSource, path: Path, *more: Any) -> Any:
        written = write(file, path, *more)
        time.sleep(0.05 if path.name.startswith("model-00001") else 0)
        return written

    monkeypatch.setattr(streaming, "_write_file", late)
    for workers in (1, 4):
        monkeypatch.setattr(streaming, "AT_ONCE", workers)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        bake(target, own, tiny.recipe("pin", "calibrated"), tmp_path / str(workers), calibration=made)
    one, four = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("1", "4"))
    assert one == four and len([name for name in one if name.endswith(".safetensors")]) > 1


def test_a_failure_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it is not begun, what is under way does not go on."""
    monkeypatch.setattr(streaming, "AT_ONCE", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(streaming, "PIECE", 4096)
    shard, _, _ = a_shard(tmp_path / "good")
    bad, _, _ = a_shard(tmp_path / "bad")
    os.truncate(tmp_path / "bad", bad.size - 10)
    copy, held = streaming.copy_span, threading.Event()

    def slow(source: Any, out: Any, begin: int, end: int, to: int, path: Path) -> None:
        if path.name == "good":
            held.wait(0.02)
        copy(source, out, begin, end, to, path)

    monkeypatch.setattr(streaming, "copy_span", slow)
    files = {name: of_shard(found.header, found, {}) for name, found in (("1", shard), ("2", bad), ("3", shard))}
    with pytest.raises(CheckpointError, match="bad became shorter while it was read"):
        write_files(files, tmp_path, {}, Rounding(), lambda count: None)
    assert not (tmp_path / "3").exists() and (tmp_path / "1").stat().st_size < shard.size


def test_a_file_that_stays_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard, _, _ = a_shard(tmp_path / "shard")
    monkeypatch.setattr(streaming, "known_hash", lambda path: "0" * 64)
    files = {"same": of_shard(shard.header, shard, {}), "other": of_shard(shard.header + b" ", shard, {})}
    written = write_files(files, tmp_path, {}, Rounding(), lambda count: None)
    content = (tmp_path / "shard").read_bytes()
    assert written["same"].sha256 == "0" * 64 and (tmp_path / "same").read_bytes() == content
    assert written["other"].sha256 == hashlib.sha256((tmp_path / "other").read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [10, 3 * 2**20])
def test_a_file_that_became_longer(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    source = of_file(path)
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match="file became longer while it was read"):
        write_files({"out": source}, tmp_path, {}, Rounding(), lambda count: None)
