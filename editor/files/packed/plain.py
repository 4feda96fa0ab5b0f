"""Float32, float16 and bfloat16 as one more format: modules that a quantised checkpoint leaves as they were, and biases.

W = the stored numbers      zero: zero bytes
"""

from collections.abc import Sequence
from typing import Any

from .matrix import Edits, Float32, Matrix, byte_columns, byte_rows
from .stored import FLOATS, Stored

SIZES = {"F32": 4, "F16": 2, "BF16": 2}


class Plain(Matrix):
    """A matrix, or a bias as a matrix of one column."""

    def __init__(self, stored: Stored, kind: str = "weight") -> None:
        tensor = stored.take(kind, FLOATS)
        if len(tensor.shape) not in (1, 2):
            raise stored.wrong(f"{kind} has {len(tensor.shape)} dimensions")
        self.stored, self.kind, self.size = stored, kind, SIZES[tensor.dtype]
        self.rows, self.columns = tensor.shape if len(tensor.shape) == 2 else (tensor.shape[0], 1)
        self.form = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[tensor.dtype]
        self.tensors = (tensor.name,)

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        return {self.tensors[0]: byte_rows(rows, self.columns * self.size)}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        return {self.tensors[0]: byte_columns(columns, self.size, self.columns * self.size, self.rows)}

    def read(self, first: int, last: int) -> Float32:
        return self.stored.floats(self.kind, slice(first, last)).reshape(last - first, self.columns)


def open_matrix(stored: Stored, settings: Any = None) -> Matrix:
    return Plain(stored)
