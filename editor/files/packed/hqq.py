"""HQQ: codes in groups along a row, with a scale and a zero point that is no whole number.

    W_q     U8 (I32 for 3 bits): the groups of W, one below the other; a byte holds the code of a group of the first half
    in its
            high bits, that of the second half in its low ones (quarters for 2 bits, eighths for 1, tenths of a word for 3)
    scale, zero   (groups, 1);  W = (q − zero) · scale

A group lies in one row (axis 1), so a row is cleared by its scales. A column can't be: its zero point isn't a code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ModelError
from .matrix import Edits, Float32, Matrix, byte_rows
from .settings import left_out
from .stored import FLOATS, Stored

METHODS = ("hqq",)
PARTS = {8: (1, 8), 4: (2, 4), 3: (10, 3), 2: (4, 2), 1: (8, 1)}  # bits -> codes of a byte or word, bits of each
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


class Hqq(Matrix):
    def __init__(self, stored: Stored, bits: int, group: int) -> None:
        stored.take("shape", ("I32", "I64"), (2,))
        self.rows, self.columns = (int(one) for one in stored.array("shape"))
        if self.rows <= 0 or self.columns <= 0 or self.columns % group:
            raise stored.wrong(f"rows of {self.columns} numbers are no whole groups of {group}")
        groups, per = self.rows * self.columns // group, PARTS[bits][0]
        stored.take("W_q", ("I32",) if bits == 3 else ("U8",), (-(-groups // per), group))
        self.size = SIZES[stored.take("scale", FLOATS, (groups, 1)).dtype]
        stored.take("zero", FLOATS, (groups, 1))
        self.stored, self.bits, self.group, self.each = stored, bits, group, self.columns // group
        self.form = f"HQQ ({bits} bits, groups of {group})"
        self.tensors = tuple(map(stored.name, ("W_q", "scale", "zero")))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        for row in map(int, rows):
            if not np.isfinite(self.stored.floats("zero", slice(row * self.each, (row + 1) * self.each))).all():
                raise self.stored.broken("zero")
        return {self.stored.name("scale"): byte_rows(rows, self.each * self.size)}

    def no_column(self, why: str = "") -> str:
        return super().no_column(why or "its zero lies between two codes")

    def read(self, first: int, last: int) -> Float32:
        groups = np.arange(first * self.each, last * self.each)
        per, bits = PARTS[self.bits]
        packed = self.stored.array("W_q")
        part, line = groups // len(packed), groups % len(packed)
        shift = (bits * (per - 1 - part))[:, None]
        codes = (np.asarray(packed)[line].astype(np.uint32) >> shift) & (2**bits - 1)
        scale, zero = (self.stored.floats(kind)[groups] for kind in ("scale", "zero"))
        weights: Float32 = (codes.astype(np.float32) - zero) * scale
        return weights.reshape(last - first, self.columns)


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    if left_out(stored.module, settings.get("skip_modules")):
        return None
    whole = settings.get("quant_config")
    own: Any = whole.get("weight_quant_params", whole) if isinstance(whole, Mapping) else None
    if not isinstance(own, Mapping):
        raise ModelError("config.json's quantization_config (hqq) has no quant_config.")
    if "nbits" not in own:  # one for each kind of layer
        named = next((value for key, value in own.items() if stored.module.endswith(str(key))), None)
        if named is None:
            return None
        own = named.get("weight_quant_params", named) if isinstance(named, Mapping) else {}
    bits, group, axis = own.get("nbits"), own.get("group_size"), own.get("axis", 1)
    scales_too = isinstance(whole, Mapping) and (whole.get("scale_quant_params") or whole.get("zero_quant_params"))
    oddities = [
        name
        for name, there in (("viewed as floats", own.get("view_as_float")), ("scales quantised too", scales_too))
        if there
    ]
    if type(bits) is not int or bits not in PARTS or type(group) is not int or group <= 0 or axis != 1 or oddities:
        raise ModelError(
            f"{stored.module} is in HQQ with {', '.join([f'{bits} bits, groups of {group} along axis {axis}', *oddities])}: "
            "monoglot edits 1, 2, 3, 4 or 8 bits along axis 1 with plain scales. Quantise the original in that way."
        )
    return Hqq(stored, bits, group)
