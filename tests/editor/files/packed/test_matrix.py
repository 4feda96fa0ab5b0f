"""Rows and columns that are exactly zero, in every format, against plain writers: what is read, what is written, every
byte."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import packed_writers as writers
from support.packed_writers import FORMATS, MODULE, Made

from monoglot.editor.errors import ModelError
from monoglot.editor.files import packed
from monoglot.editor.files.checkpoint import read_checkpoint


def opened(folder: Path, made: Made) -> packed.Matrix:
    writers.save(folder, made)
    checkpoint = read_checkpoint(folder, quantised=True)
    parts = {tensor.name.removeprefix(f"{MODULE}."): (shard, tensor) for shard, tensor in checkpoint.tensors()}
    quantisation = packed.quantisation_of(checkpoint.config)
    assert quantisation
    return quantisation.matrix(MODULE, parts)


def data(folder: Path, edits: packed.Edits, piece: int = 2**20) -> bytes:
    """The bytes of the file with the edits in them, done in pieces of a tensor."""
    shard = read_checkpoint(folder, quantised=True).shards[0]
    raw = bytearray(shard.path.read_bytes())
    for tensor in shard.tensors:
        for at in range(tensor.begin, tensor.end, piece):
            end = min(at + piece, tensor.end)
            part = np.frombuffer(raw, np.uint8, end - at, at)
            packed.write(edits.get(tensor.name, ()), part, at - tensor.begin)
    return bytes(raw)


def rewritten(folder: Path, made: Made, tensors: writers.Tensors) -> bytes:
    """The file as the plain writer writes it with other numbers."""
    folder.mkdir(exist_ok=True)
    writers.save(folder, Made(made.settings, tensors, made.weights, made.rows, made.columns, made.metadata))
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_reads_what_a_plain_writer_wrote(tmp_path: Path, name: str) -> None:
    made = FORMATS[name](np.random.default_rng(0))
    matrix = opened(tmp_path, made)
    assert (matrix.rows, matrix.columns) == made.weights.shape
    read = matrix.read(0, matrix.rows)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, made.weights, rtol=1e-6, atol=1e-7)
    assert np.array_equal(matrix.read(3, 7), read[3:7])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("axis", [0, 1])
def test_clears_exactly_what_is_asked_for(tmp_path: Path, name: str, axis: int) -> None:
    made = FORMATS[name](np.random.default_rng(1))
    matrix = opened(tmp_path, made)
    which = [0, 2, 3, matrix.rows - 1] if axis == 0 else [1, 2, matrix.columns - 1]
    again = made.rows if axis == 0 else made.columns
    if again is None:
        with pytest.raises(ModelError, match="can't be exactly zero"):
            matrix.clear_columns(which)
        return
    edits = matrix.clear_rows(which) if axis == 0 else matrix.clear_columns(which)
    edited = data(tmp_path, edits)
    assert edited == rewritten(tmp_path / "again", made, again(which)), "not the bytes that the plain writer gives"
    assert data(tmp_path, edits, piece=13) == edited, "pieces change the result"
    before = matrix.read(0, matrix.rows)
    (tmp_path / "model.safetensors").write_bytes(edited)
    after = matrix.read(0, matrix.rows)
    assert (np.take(after, which, axis) == 0).all()
    left = np.setdiff1d(np.arange(before.shape[axis]), which)
    assert np.array_equal(np.take(after, left, axis).view(np.uint32), np.take(before, left, axis).view(np.uint32))
    assert np.count_nonzero(np.take(before, which, axis)), "nothing was there to clear"
    assert set(edits) <= set(matrix.tensors)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_asked_for_is_nothing_done(tmp_path: Path, name: str) -> None:
    made = FORMATS[name](np.random.default_rng(2))
    matrix = opened(tmp_path, made)
    before = (tmp_path / "model.safetensors").read_bytes()
    assert data(tmp_path, matrix.clear_rows([])) == before


@settings(max_examples=200, deadline=None)
@given(draw=st.data())
def test_runs_in_pieces_are_runs_in_one(draw: st.DataObject) -> None:
    size = draw.draw(st.integers(1, 200))
    runs = []
    for _ in range(draw.draw(st.integers(0, 4))):
        length = draw.draw(st.integers(1, min(9, size)))
        stride = draw.draw(st.integers(length, length + 12))
        begin = draw.draw(st.integers(0, size - length))
        count = draw.draw(st.integers(1, 1 + (size - length - begin) // stride))
        mask, value = draw.draw(st.integers(0, 255)), draw.draw(st.integers(0, 255))
        table = np.random.default_rng(value).integers(0, 256, (count, length)).astype(np.uint8)
        given_value = (lambda first, last, table=table: table[first:last]) if draw.draw(st.booleans()) else value
        runs.append((packed.Run(begin, length, stride, count, mask, given_value), table))
    start = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    plain = start.tolist()
    for run, table in runs:  # byte by byte
        for repetition in range(run.count):
            for byte in range(run.length):
                new = int(table[repetition, byte]) if callable(run.value) else run.value
                at = run.begin + repetition * run.stride + byte
                plain[at] = plain[at] & ~run.mask & 0xFF | new & run.mask
    piece = draw.draw(st.integers(1, size))
    done = start.copy()
    for at in range(0, size, piece):
        packed.write([run for run, _ in runs], done[at : at + piece], at)
    assert done.tolist() == plain
