"""A byte a number, times a scale that a row, a block or the whole matrix shares: FP8, MXFP8, INT8.

    W[r, c] = scale[r // R, c // C] · value(byte)        blocks of R × C numbers
    W[r, c] = scale[r // R, c // C] · (byte − zero[r // R, c // C])   whole numbers with a zero point

The byte 0 is 0 in every 8-bit float and in INT8, so a row or column of zero bytes is exact whatever the scales are, as long
as they are finite. Scales aren't touched: those of a block serve its other rows too. With a zero point the byte is that.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ...errors import ModelError
from .matrix import Bytes, Edits, Float32, Matrix, Run, byte_columns, byte_rows
from .numbers import E8M0, SMALL
from .stored import Stored

SCALES = ("F32", "F16", "BF16")
CODES = ("F8_E4M3", "F8_E5M2")


class WholeBytes(Matrix):
    """`block` is R × C; None.

    One scale for the whole matrix. `exponents`: scales are bytes of E8M0. Every product is multiplied by `factor`.
    `zeros` names the zero points.
    """

    def __init__(
        self,
        stored: Stored,
        form: str,
        *,
        weight: str = "weight",
        dtypes: Sequence[str] = CODES,
        scale: str = "weight_scale",
        block: tuple[int | None, int | None] | None,
        exponents: bool = False,
        factor: float = 1.0,
        zeros: str | None = None,
    ) -> None:
        tensor = stored.take(weight, dtypes)
        if len(tensor.shape) != 2:
            raise stored.wrong(f"{weight} has {len(tensor.shape)} dimensions")
        self.rows, self.columns = tensor.shape
        self.stored, self.form, self.weight, self.dtype, self.scale, self.zeros = (
            stored,
            form,
            weight,
            tensor.dtype,
            scale,
            zeros,
        )
        self.exponents, self.factor = exponents, np.float32(factor)
        self.block = (self.rows, self.columns) if block is None else (block[0] or self.rows, block[1] or self.columns)
        self.grid = (-(-self.rows // self.block[0]), -(-self.columns // self.block[1]))
        kinds = ("F8_E8M0", "U8") if exponents else (*SCALES, "F8_E8M0")
        shapes: list[tuple[int, ...]] = [self.grid] if self.grid != (1, 1) else [(1, 1), (1,), ()]
        if self.grid[1] == 1:
            shapes.append(self.grid[:1])
        for kind in (scale, *([zeros] if zeros else [])):
            tensor = stored.take(kind, kinds if kind == scale else ("I8",))
            if tensor.shape not in shapes:
                stored.take(kind, (tensor.dtype,), self.grid)
        self.tensors = tuple(stored.name(kind) for kind in (weight, scale, *([zeros] if zeros else [])))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        for row in rows:
            self._check(self._scales()[int(row) // self.block[0]])
        if self.zeros is None:
            return {self.tensors[0]: byte_rows(rows, self.columns)}
        return {self.tensors[0]: [run for row in rows for run in self._zero_row(int(row))]}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        for column in columns:
            self._check(self._scales()[:, int(column) // self.block[1]])
        if self.zeros is None:
            return {self.tensors[0]: byte_columns(columns, 1, self.columns, self.rows)}
        return {
            self.tensors[0]: [
                Run(int(column), 1, self.columns, self.rows, value=self._zero_column(int(column) // self.block[1]))
                for column in columns
            ]
        }

    def read(self, first: int, last: int) -> Float32:
        stored = np.asarray(self.stored.array(self.weight)[first:last])
        rows = np.arange(first, last) // self.block[0]
        columns = np.arange(self.columns) // self.block[1]
        if self.zeros:
            zeros = np.asarray(self.stored.array(self.zeros)).reshape(self.grid)[rows][:, columns]
            values = (stored.astype(np.int16) - zeros).astype(np.float32)
        else:
            values = SMALL[self.dtype][stored] if self.dtype in SMALL else stored.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            weights: Float32 = values * self._scales()[rows][:, columns] * self.factor
        return weights

    def _scales(self) -> Float32:
        """All scales, (rows / R, columns / C)."""
        if self.exponents:
            scales: Float32 = E8M0[np.asarray(self.stored.array(self.scale))].reshape(self.grid)
            return scales
        return self.stored.floats(self.scale).reshape(self.grid)

    def _check(self, scales: Float32) -> None:
        if not np.isfinite(scales).all():
            raise self.stored.broken(self.scale)

    def _zero_row(self, row: int) -> list[Run]:
        zeros = np.asarray(self.stored.array(str(self.zeros))).reshape(self.grid)[row // self.block[0]]
        width = self.block[1]
        return [
            Run(row * self.columns + at * width, min(width, self.columns - at * width), value=int(zero) & 0xFF)
            for at, zero in enumerate(zeros)
        ]

    def _zero_column(self, column: int) -> Callable[[int, int], Bytes]:
        zeros = np.asarray(self.stored.array(str(self.zeros))).reshape(self.grid)[:, column].view(np.uint8)

        def values(first: int, last: int) -> Bytes:
            return zeros[np.arange(first, last) // self.block[0], None]

        return values


def whole_block(stored: Stored, size: object, what: str) -> tuple[int, int]:
    """Return a block size of the config. Raises ModelError when it isn't two positive whole numbers."""
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(type(one) is int and one > 0 for one in size):
        raise ModelError(f"config.json gives {stored.module} the {what} {size!r}; it has to be two whole numbers.")
    return (size[0], size[1])
