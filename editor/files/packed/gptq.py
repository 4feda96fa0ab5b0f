"""GPTQ: codes of 2, 3, 4 or 8 bits, packed along the inputs, as gptqmodel, AutoGPTQ and optimum write them.

    qweight  I32 (columns · bits / 32, rows)      codes q of one row, a column of words
    qzeros   I32 (groups, rows · bits / 32)       zero points z; format "gptq" (v1) stores z − 1, "gptq_v2" z
    scales   F16 (groups, rows)
    g_idx    I32 (columns)                        the group of each column; i // group_size without it

    W[r, c] = scales[g, r] · (q[c, r] − z[g, r]),  g = g_idx[c]

A row is cleared by its scales: zero times anything finite, whatever the zero points, the order of the columns and the version
of the format. A column is cleared by the codes, each of which becomes its zero point. In v1 that can't be done where the
stored zero point is the largest code: it means 2^bits, or 0 where a loader lets it run over into its neighbour, and no
code is both.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ModelError
from .matrix import Bytes, Edits, Float32, Matrix, Run, byte_columns
from .numbers import codes, fields, shifted
from .settings import left_out, whole
from .stored import FLOATS, Stored

METHODS = ("gptq",)
BITS = (2, 3, 4, 8)
VERSIONS = {"gptq": 1, "gptq_v2": 0}  # what was taken from the zero points


class Gptq(Matrix):
    def __init__(self, stored: Stored, bits: int, group: int, version: str) -> None:
        codes_shape = stored.take("qweight", ("I32",)).shape
        if len(codes_shape) != 2 or codes_shape[0] * 32 % bits:
            raise stored.wrong(f"qweight has shape {list(codes_shape)}, which {bits} bits don't fill")
        self.columns, self.rows = codes_shape[0] * 32 // bits, codes_shape[1]
        group = self.columns if group == -1 else group
        if self.columns % group and not stored.has("g_idx"):
            raise stored.wrong(f"{self.columns} columns are no whole groups of {group}")
        if self.rows * bits % 32:
            raise stored.wrong(f"zero points of {self.rows} rows at {bits} bits don't fill whole words")
        groups = -(-self.columns // group)
        stored.take("qzeros", ("I32",), (groups, self.rows * bits // 32))
        self.scale = stored.take("scales", FLOATS, (groups, self.rows))
        if stored.has("g_idx"):
            stored.take("g_idx", ("I32", "I64"), (self.columns,))
        self.stored, self.bits, self.group, self.groups = stored, bits, group, groups
        self.offset = VERSIONS[version]
        self._unpacked: dict[int, Any] = {}  # zero points by group
        self.form = f"GPTQ ({bits} bits, groups of {group}{'' if self.offset else ', v2'})"
        self.tensors = tuple(stored.name(kind) for kind in ("qweight", "qzeros", "scales", "g_idx") if stored.has(kind))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        size = 4 if self.scale.dtype == "F32" else 2
        return {self.scale.name: byte_columns(rows, size, self.rows * size, self.groups)}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        group_of = self._group_of()
        runs = []
        for column in map(int, columns):
            group = int(group_of[column])
            if (self._stored_zeros(group) == 2**self.bits - self.offset).any():
                raise ModelError(
                    self.no_column(
                        f"the zero points of its group run over: a stored {2**self.bits - 1} stands for two numbers"
                    )
                )
            for byte, mask, shift in fields(column % 32, self.bits):  # 32 codes fill words whatever the bits
                word = column // 32 * self.bits + byte // 4
                begin = word * self.rows * 4 + byte % 4
                runs.append(Run(begin, 1, 4, self.rows, mask, self._zeros(group, shift)))
        return {self.stored.name("qweight"): runs}

    def read(self, first: int, last: int) -> Float32:
        group_of = self._group_of()
        words = np.ascontiguousarray(self.stored.array("qweight")[:, first:last].T)
        zeros = np.stack([self._stored_zeros(group)[first:last] for group in range(self.groups)]) + self.offset
        if (zeros == 2**self.bits).any():
            raise ModelError(
                f"{self.stored.name('qzeros')} holds {2**self.bits - 1}, which stands for {2**self.bits} or for 0: loaders "
                "disagree. Quantise the model again in the format gptq_v2."
            )
        scales = self.stored.floats("scales", (slice(None), slice(first, last)))
        difference = codes(words, self.bits, self.columns).astype(np.int16) - zeros[group_of].T
        weights: Float32 = scales[group_of].T * difference.astype(np.float32)
        return weights

    def _group_of(self) -> Any:
        """Return the group of each column. Raises CheckpointError for one that isn't there."""
        if not self.stored.has("g_idx"):
            return np.arange(self.columns) // self.group
        groups = np.asarray(self.stored.array("g_idx")).astype(np.int64)
        if len(groups) and (groups.min() < 0 or groups.max() >= self.groups):
            raise self.stored.wrong(f"g_idx names groups that there are no scales of ({self.groups} groups)")
        return groups

    def _stored_zeros(self, group: int) -> Any:
        """Return what is stored of the zero points of all rows in a group, int16; many columns share one, so it is kept."""
        if group not in self._unpacked:
            words = np.asarray(self.stored.array("qzeros")[group : group + 1])
            self._unpacked[group] = codes(words, self.bits, self.rows)[0].astype(np.int16)
        return self._unpacked[group]

    def _zeros(self, group: int, shift: int) -> Callable[[int, int], Bytes]:
        def values(first: int, last: int) -> Bytes:
            zeros = (self._stored_zeros(group)[first:last] + self.offset).astype(np.uint8)
            return shifted(zeros, shift)[:, None]

        return values


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    own = _own(settings, stored.module)
    if own is None or left_out(stored.module, settings.get("modules_to_not_convert")):
        return None
    version = str(own.get("checkpoint_format") or own.get("format") or "gptq").lower()
    if version not in VERSIONS:
        raise ModelError(
            f"{stored.module} is in GPTQ's format {version!r}, which monoglot doesn't edit; it does "
            f"{' and '.join(VERSIONS)}. Quantise the original in one of them."
        )
    bits, group = whole(own, "bits", "GPTQ"), whole(own, "group_size", "GPTQ")
    if bits not in BITS or not (group == -1 or group > 0):
        raise ModelError(
            f"config.json gives GPTQ {bits} bits and groups of {group}; known are {', '.join(map(str, BITS))} bits, "
            "and groups of -1 (all columns) or more than 0."
        )
    return Gptq(stored, bits, group, version)


def _own(settings: Mapping[str, Any], module: str) -> Mapping[str, Any] | None:
    """Return the settings of one module: `dynamic` has patterns with others, and with "-:" patterns of what is left out."""
    dynamic = settings.get("dynamic")
    for pattern, other in dynamic.items() if isinstance(dynamic, Mapping) else ():
        sign, expression = (pattern[:1], pattern[2:]) if pattern[:2] in ("-:", "+:") else ("+", pattern)
        try:
            found = re.match(expression, module)
        except re.error:
            raise ModelError(f"config.json has the malformed pattern {pattern!r} in its GPTQ settings.") from None
        if found:
            return None if sign == "-" else {**settings, **(other if isinstance(other, Mapping) else {})}
    return settings
