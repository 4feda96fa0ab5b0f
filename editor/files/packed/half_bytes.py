"""FP4: two numbers of four bits (E2M1) in a byte, the even column in the low half, times a scale for a group of columns.

    W[r, c] = E2M1[code] · scale[r, c // group] [· factor]

NVFP4 has groups of 16, scales in E4M3, and one float32 for the whole matrix; MXFP4 and DeepSeek's FP4 have groups of 32 and
scales of E8M0, which has no zero. The code 0 is 0, so zero bytes clear a row and zero halves of bytes a column.
gpt_oss has an axis for the groups of a row, (rows, groups, 16 bytes): the same bytes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .matrix import Edits, Float32, Matrix, Run, byte_rows
from .numbers import E2M1, E8M0, halves, to_float32
from .stored import Stored


class HalfBytes(Matrix):
    """`weight` and `scale` name the tensors.

    `grouped` says that the groups of a row are an axis of the weight. `factor` gives the number that scales are multiplied
    by.
    """

    def __init__(
        self,
        stored: Stored,
        form: str,
        *,
        weight: str,
        dtypes: Sequence[str],
        scale: str,
        scales: Sequence[str],
        group: int,
        factor: Callable[[Float32], Float32] | None = None,
        grouped: bool = False,
        others: Sequence[str] = (),
    ) -> None:
        tensor = stored.take(weight, dtypes)
        shape = tensor.shape
        if grouped:
            if len(shape) != 3 or shape[2] * 2 != group:
                raise stored.wrong(f"{weight}, {list(shape)}, has no groups of {group} numbers")
            shape = (shape[0], shape[1] * shape[2])
        if len(shape) != 2 or shape[1] * 2 % group:
            raise stored.wrong(f"rows of {weight}, {list(tensor.shape)}, are no whole groups of {group} numbers")
        self.rows, self.columns, self.group = shape[0], shape[1] * 2, group
        grid = (self.rows, self.columns // group)
        stored.take(scale, scales, grid)
        self.stored, self.form, self.weight, self.scale, self.factor = stored, form, weight, scale, factor
        self.tensors = tuple(stored.name(kind) for kind in (weight, scale, *others))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        for row in rows:
            self._check(self._scales(int(row), int(row) + 1))
        return {self.tensors[0]: byte_rows(rows, self.columns // 2)}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        scales = self._scales(0, self.rows)
        runs = []
        for column in map(int, columns):
            self._check(scales[:, column // self.group])
            mask = 0xF0 if column % 2 else 0x0F
            runs.append(Run(column // 2, 1, self.columns // 2, self.rows, mask))
        return {self.tensors[0]: runs}

    def read(self, first: int, last: int) -> Float32:
        packed = self.stored.array(self.weight)
        values = E2M1[halves(packed[first:last].reshape(last - first, -1))]
        with np.errstate(over="ignore", invalid="ignore"):
            return values * np.repeat(self._scales(first, last), self.group, axis=1)

    def _scales(self, first: int, last: int) -> Float32:
        stored = np.asarray(self.stored.array(self.scale)[first:last])
        dtype = self.stored.parts[self.scale][1].dtype
        scales = E8M0[stored] if dtype == "U8" else to_float32(stored, dtype)
        return scales if self.factor is None else self.factor(scales)

    def _check(self, scales: Float32) -> None:
        if not np.isfinite(scales).all():
            raise self.stored.broken(self.scale)
