"""AWQ as autoawq writes it (version "gemm"): codes of 4 bits, packed along the outputs in an order of their own.

    qweight  I32 (columns, rows / 8)     qzeros  I32 (groups, rows / 8)     scales  F16 (groups, rows)

    W[r, c] = scales[g, r] · (q[c, r] − z[g, r]),  g = c // group_size

Word w of a line holds the codes of rows 8w + 0, 2, 4, 6, 1, 3, 5, 7, the first in its lowest bits. A row is cleared by its
scales. Codes and zero points are packed alike, so a column is cleared by a copy: its line of qweight becomes the line of
qzeros of its group.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ModelError
from .matrix import Bytes, Edits, Float32, Matrix, Run, byte_columns
from .numbers import Codes, codes
from .settings import left_out, whole
from .stored import FLOATS, Stored

METHODS = ("awq",)
BITS = 4
PER_WORD = 32 // BITS
PLACE = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # of row 8w + i among the codes of a word


class Awq(Matrix):
    def __init__(self, stored: Stored, group: int) -> None:
        shape = stored.take("qweight", ("I32",)).shape
        if len(shape) != 2:
            raise stored.wrong(f"qweight has {len(shape)} dimensions")
        self.columns, self.rows = shape[0], shape[1] * PER_WORD
        self.group = self.columns if group == -1 else group
        if self.columns % self.group:
            raise stored.wrong(f"{self.columns} columns are no whole groups of {self.group}")
        self.groups = self.columns // self.group
        stored.take("qzeros", ("I32",), (self.groups, shape[1]))
        self.scale = stored.take("scales", FLOATS, (self.groups, self.rows))
        self.stored, self.form = stored, f"AWQ (4 bits, groups of {self.group})"
        self.tensors = tuple(map(stored.name, ("qweight", "qzeros", "scales")))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        size = 4 if self.scale.dtype == "F32" else 2
        return {self.scale.name: byte_columns(rows, size, self.rows * size, self.groups)}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        line = self.rows // 2
        return {
            self.stored.name("qweight"): [
                Run(column * line, line, value=self._zeros(column // self.group)) for column in map(int, columns)
            ]
        }

    def read(self, first: int, last: int) -> Float32:
        group_of = np.arange(self.columns) // self.group
        scales = self.stored.floats("scales", (slice(None), slice(first, last)))
        difference = self._codes("qweight")[:, first:last].astype(np.int16)
        difference -= self._codes("qzeros")[group_of][:, first:last]
        weights: Float32 = (scales[group_of] * difference.astype(np.float32)).T
        return weights

    def _codes(self, kind: str) -> Codes:
        """(lines, rows), in the order of the rows."""
        words = np.asarray(self.stored.array(kind))
        inside = codes(words, BITS, self.rows).reshape(len(words), -1, PER_WORD)
        return inside[:, :, PLACE].reshape(len(words), -1)

    def _zeros(self, group: int) -> Callable[[int, int], Bytes]:
        def values(first: int, last: int) -> Bytes:
            return np.ascontiguousarray(self.stored.array("qzeros")[group]).view(np.uint8)[None]

        return values


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    if left_out(stored.module, settings.get("modules_to_not_convert")):
        return None
    version = str(
        settings.get("version") or settings.get("format") or settings.get("checkpoint_format") or "gemm"
    ).lower()
    bits = whole(settings, "bits", "AWQ", settings.get("w_bit"))
    group = whole(settings, "group_size", "AWQ", settings.get("q_group_size"))
    if version != "gemm" or bits != BITS or not (group == -1 or group > 0):
        raise ModelError(
            f"{stored.module} is in AWQ's version {version!r} with {bits} bits and groups of {group}; monoglot edits gemm "
            "with 4 bits. Quantise the original in that."
        )
    return Awq(stored, group)
