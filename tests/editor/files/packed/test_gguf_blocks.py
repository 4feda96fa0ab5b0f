"""GGUF's blocks as one of the formats, against the `gguf` package's own dequantisation."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from monoglot.editor.errors import ModelError
from monoglot.editor.files.gguf import read_gguf
from monoglot.editor.files.packed import write
from monoglot.editor.files.packed.gguf_blocks import GgufBlocks

KINDS = {name: gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "BF16", "F16", "F32")}


def save(path: Path, kind: str) -> np.ndarray:
    """A file with one matrix of 8 × 64; the numbers that the package reads in it."""
    numbers = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    stored = gguf.quants.quantize(numbers, KINDS[kind])
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("w", stored, raw_dtype=KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf.quants.dequantize(stored, KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_read_and_cleared(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.gguf"
    numbers = save(path, kind)
    tensor = read_gguf(path).tensors["w"]
    matrix = GgufBlocks(path, tensor)
    assert np.array_equal(matrix.read(0, 8), numbers) and np.array_equal(matrix.read(3, 5), numbers[3:5])
    raw = bytearray(path.read_bytes())
    part = np.frombuffer(raw, np.uint8, tensor.end - tensor.begin, tensor.begin)
    write(matrix.clear_rows([0, 5])["w"], part, 0)
    path.write_bytes(raw)
    numbers[[0, 5]] = 0
    assert np.array_equal(matrix.read(0, 8), numbers)
    with pytest.raises(ModelError, match="one number of many blocks"):
        matrix.clear_columns([0])
