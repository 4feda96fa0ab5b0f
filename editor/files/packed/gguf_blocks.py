"""GGUF's tensors: rows of whole blocks, each with its own scales, in any of llama.cpp's quantisations.

A block of zero bytes is zeros in every type that `files.gguf.TYPES` marks so: its scale is zero, and so is its offset. A row
is cleared by zero bytes. A column isn't: it is one number of a block, and the code of zero differs from type to type.

    Q8_0   f16 scale, 32 × i8                      W = scale · q
    Q4_0   f16 scale, 16 bytes, low halves first   W = scale · (q − 8)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import ModelError
from ..gguf import Tensor
from .matrix import Edits, Float32, Matrix, byte_rows
from .numbers import to_float32


class GgufBlocks(Matrix):
    """A matrix, or a bias as a matrix of one column; rows are `tensor.shape[1]`, the fastest dimension is the columns."""

    def __init__(self, path: Path, tensor: Tensor) -> None:
        bias = len(tensor.shape) == 1
        self.path, self.tensor = path, tensor
        self.rows, self.columns = (tensor.shape[0], 1) if bias else (tensor.rows, tensor.shape[0])
        self.row_bytes = tensor.type.bytes if bias else tensor.row_bytes
        self.form = f"GGUF {tensor.type.name}"
        self.tensors = (tensor.name,)

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        if not self.tensor.type.zero:
            raise ModelError(
                f"{self.path}: {self.tensor.name} is stored as {self.tensor.type.name}, of which it isn't proved that zero "
                "bytes are zeros."
            )
        return {self.tensor.name: byte_rows(rows, self.row_bytes)}

    def no_column(self, why: str = "") -> str:
        return super().no_column(why or "it is one number of many blocks")

    def read(self, first: int, last: int) -> Float32:
        begin = self.tensor.begin + first * self.row_bytes
        stored = np.memmap(self.path, np.uint8, "r", begin, ((last - first) * self.row_bytes,))
        name = self.tensor.type.name
        if name in ("F32", "F16", "BF16"):
            plain = stored.view({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[name])
            return to_float32(plain, name).reshape(last - first, self.columns)
        if name not in ("Q8_0", "Q4_0"):
            raise ModelError(f"{self.path}: numbers of {self.tensor.name}, a {name}, are not read by monoglot.")
        blocks = stored.reshape(-1, self.tensor.type.bytes)
        scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
        codes = np.ascontiguousarray(blocks[:, 2:])
        if name == "Q8_0":
            numbers = codes.view(np.int8).astype(np.float32)
        else:
            numbers = np.concatenate([codes & 15, codes >> 4], axis=1).astype(np.float32) - 8
        weights: Float32 = scales * numbers
        return weights.reshape(last - first, self.columns)
