"""FP4: two numbers of four bits (E2M1) in a byte, the even column in the low half, times a scale for a group of columns.

    W[r, c] = E2M1[code] · scale[r, c // group] [· factor]

NVFP4 has groups of 16, scales in E4M3, and one float32 for the whole matrix; MXFP4 and DeepSeek's FP4 have groups of 32 and
scales of E8M0, which has no zero. The code 0 is 0, so zero bytes clear a row and zero halves of bytes a column.
gpt_oss keeps the experts of a layer in one tensor, (experts, rows, groups, 16 bytes): each is a matrix from some byte on.
"""

from collections.abc import Callable, Sequence

import numpy as np

from .matrix import Edits, Float32, Matrix, Run, byte_rows
from .numbers import E2M1, E8M0, halves, to_float32
from .stored import Stored


class HalfBytes(Matrix):
    """`weight` and `scale` name the tensors.

    `expert` is which of their first axis is meant, None where there is none. `factor` gives the number that scales are
    multiplied by.
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
        expert: int | None = None,
        others: Sequence[str] = (),
    ) -> None:
        tensor = stored.take(weight, dtypes)
        shape = tensor.shape if expert is None else tensor.shape[1:]
        if expert is not None:
            if len(shape) != 3 or shape[2] * 2 != group or not 0 <= expert < tensor.shape[0]:
                raise stored.wrong(f"{weight} has shape {list(tensor.shape)}, without an expert {expert}")
            shape = (shape[0], shape[1] * shape[2])
        if len(shape) != 2 or shape[1] * 2 % group:
            raise stored.wrong(f"rows of {weight}, {list(tensor.shape)}, are no whole groups of {group} numbers")
        self.rows, self.columns, self.group = shape[0], shape[1] * 2, group
        grid = (self.rows, self.columns // group)
        stored.take(scale, scales, grid if expert is None else (tensor.shape[0], *grid))
        self.stored, self.form, self.weight, self.scale, self.expert, self.factor = (
            stored,
            form,
            weight,
            scale,
            expert,
            factor,
        )
        self.begin = 0 if expert is None else expert * self.rows * self.columns // 2
        self.tensors = tuple(stored.name(kind) for kind in (weight, scale, *others))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        for row in rows:
            self._check(self._scales(int(row), int(row) + 1))
        return {self.tensors[0]: byte_rows(rows, self.columns // 2, begin=self.begin)}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        scales = self._scales(0, self.rows)
        runs = []
        for column in map(int, columns):
            self._check(scales[:, column // self.group])
            mask = 0xF0 if column % 2 else 0x0F
            runs.append(Run(self.begin + column // 2, 1, self.columns // 2, self.rows, mask))
        return {self.tensors[0]: runs}

    def read(self, first: int, last: int) -> Float32:
        packed = self.stored.array(self.weight)
        packed = packed if self.expert is None else packed[self.expert]
        values = E2M1[halves(packed[first:last].reshape(last - first, -1))]
        with np.errstate(over="ignore", invalid="ignore"):
            return values * np.repeat(self._scales(first, last), self.group, axis=1)

    def _scales(self, first: int, last: int) -> Float32:
        stored = self.stored.array(self.scale)
        stored = np.asarray((stored if self.expert is None else stored[self.expert])[first:last])
        dtype = self.stored.parts[self.scale][1].dtype
        scales = E8M0[stored] if dtype == "U8" else to_float32(stored, dtype)
        return scales if self.factor is None else self.factor(scales)

    def _check(self, scales: Float32) -> None:
        if not np.isfinite(scales).all():
            raise self.stored.broken(self.scale)
