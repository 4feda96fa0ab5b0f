"""Whole numbers packed along a row's columns in little-endian words, times the scale of a group of columns.

    compressed-tensors     W[r, c] = scale[r, g] · (q − z[r, g])          g = c // group, or the group that g_idx names
    MLX                    W[r, c] = scale[r, g] · q + bias[r, g]

A row is cleared by its scales (and MLX's biases), as long as they are its own; else by its codes, which become the zero
point. A column is cleared by its codes, where the zero point is one: with MLX's biases there is none.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from .matrix import Bytes, Edits, Float32, Matrix, Run, byte_rows
from .numbers import codes, fields, shifted
from .stored import FLOATS, Stored

SIZES = {"F32": 4, "F16": 2, "BF16": 2}


class Packed(Matrix):
    """compressed-tensors' "pack-quantized". `group` None: one scale a row; 0: one for the whole matrix."""

    def __init__(self, stored: Stored, bits: int, group: int | None, *, zeros: bool, form: str) -> None:
        words = stored.take("weight_packed", ("I32",))
        stored.take("weight_shape", ("I64", "I32"), (2,))
        self.rows, self.columns = (int(one) for one in stored.array("weight_shape"))
        stored.take("weight_packed", ("I32",), (self.rows, -(-self.columns * bits // 32)))
        self.group = group or self.columns
        if self.columns % self.group:
            raise stored.wrong(f"{self.columns} columns are no whole groups of {self.group}")
        self.groups = self.columns // self.group
        self.shared = group == 0  # one scale for all rows
        scale = stored.take("weight_scale", FLOATS)
        wanted = [(self.rows, self.groups)] if not self.shared else [(1,), (1, 1), ()]
        if scale.shape not in (*wanted, *([(self.rows,)] if self.groups == 1 and not self.shared else [])):
            stored.take("weight_scale", (scale.dtype,), wanted[0])
        self.zeros = zeros
        if zeros and not self.shared:
            stored.take("weight_zero_point", ("I32",), (-(-self.rows * bits // 32), self.groups))
        elif zeros:
            stored.take("weight_zero_point", ("I8",))
        if stored.has("weight_g_idx"):
            stored.take("weight_g_idx", ("I32", "I64"), (self.columns,))
        self.stored, self.bits, self.form, self.size, self.words = (
            stored,
            bits,
            form,
            SIZES[scale.dtype],
            words.shape[1],
        )
        kinds = ("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape")
        self.tensors = tuple(stored.name(kind) for kind in kinds if stored.has(kind))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        if not self.shared:
            return {self.stored.name("weight_scale"): byte_rows(rows, self.groups * self.size)}
        self._check()
        zero = int(self._zero(0, 1)[0, 0])
        line = sum(zero << at for at in range(0, 8, self.bits))  # codes divide bytes
        return {self.tensors[0]: byte_rows(rows, self.words * 4, value=line)}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        self._check()
        group_of = self._group_of()
        return {
            self.tensors[0]: [
                Run(byte, 1, self.words * 4, self.rows, mask, self._zeros(int(group_of[column]), shift))
                for column in map(int, columns)
                for byte, mask, shift in fields(column, self.bits)
            ]
        }

    def read(self, first: int, last: int) -> Float32:
        group_of = self._group_of()
        stored = codes(np.asarray(self.stored.array("weight_packed")[first:last]), self.bits, self.columns)
        difference = stored.astype(np.int16) - self._zero(first, last)[:, group_of]
        with np.errstate(over="ignore", invalid="ignore"):
            return self._scales()[first:last][:, group_of] * difference.astype(np.float32)

    def _scales(self) -> Float32:
        return np.broadcast_to(self.stored.floats("weight_scale").reshape(-1, self.groups), (self.rows, self.groups))

    def _check(self) -> None:
        if not np.isfinite(self._scales()).all():
            raise self.stored.broken("weight_scale")

    def _group_of(self) -> npt.NDArray[np.int64]:
        if not self.stored.has("weight_g_idx"):
            return np.arange(self.columns) // self.group
        groups = np.asarray(self.stored.array("weight_g_idx")).astype(np.int64)
        if groups.min() < 0 or groups.max() >= self.groups:
            raise self.stored.wrong(f"weight_g_idx names groups that there are no scales of ({self.groups} groups)")
        return groups

    def _zero(self, first: int, last: int) -> npt.NDArray[np.int16]:
        """Return the code of zero in rows first … last − 1, (last − first, groups)."""
        middle = np.full((last - first, self.groups), 2 ** (self.bits - 1), np.int16)
        if not self.zeros:
            return middle
        if self.shared:
            middle += np.asarray(self.stored.array("weight_zero_point")).reshape(1, 1)
            return middle
        words = np.ascontiguousarray(np.asarray(self.stored.array("weight_zero_point")).T)  # (groups, words)
        zeros: npt.NDArray[np.int16] = codes(words, self.bits, self.rows).T[first:last].astype(np.int16)
        return zeros

    def _zeros(self, group: int, shift: int) -> Callable[[int, int], Bytes]:
        def values(first: int, last: int) -> Bytes:
            return shifted(self._zero(first, last)[:, group].astype(np.uint8), shift)[:, None]

        return values


class Affine(Matrix):
    """MLX's "affine" quantisation."""

    def __init__(self, stored: Stored, bits: int, group: int) -> None:
        words = stored.take("weight", ("U32",))
        if len(words.shape) != 2 or words.shape[1] * 32 % bits:
            raise stored.wrong(f"weight has shape {list(words.shape)}, which {bits} bits don't fill")
        self.rows, self.columns = words.shape[0], words.shape[1] * 32 // bits
        if self.columns % group:
            raise stored.wrong(f"{self.columns} columns are no whole groups of {group}")
        self.groups = self.columns // group
        self.sizes = [SIZES[stored.take(kind, FLOATS, (self.rows, self.groups)).dtype] for kind in ("scales", "biases")]
        self.stored, self.bits, self.group = stored, bits, group
        self.form = f"MLX affine ({bits} bits, groups of {group})"
        self.tensors = tuple(map(stored.name, ("weight", "scales", "biases")))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        pairs = zip(self.tensors[1:], self.sizes, strict=True)
        return {name: byte_rows(rows, self.groups * size) for name, size in pairs}

    def no_column(self, why: str = "") -> str:
        return super().no_column(why or "its zero lies between two codes")

    def read(self, first: int, last: int) -> Float32:
        stored = codes(np.asarray(self.stored.array("weight")[first:last]), self.bits, self.columns).astype(np.float32)
        scales, biases = (
            np.repeat(self.stored.floats(kind, slice(first, last)), self.group, axis=1) for kind in ("scales", "biases")
        )
        return scales * stored + biases
