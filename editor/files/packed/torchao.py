"""torchao: tensors taken apart, `module._weight_qdata`, `module._weight_scale`, …, whose kind stands in the file's metadata.

    Float8Tensor               qdata F8_E4M3 (rows, columns), scale for blocks of block_size;  W = qdata · scale
    Int8Tensor                 qdata I8, scale
    IntxUnpackedToInt8Tensor   qdata I8 (a code a byte, of 1 to 8 bits), scale, zero_point;  W = (qdata − zero_point) · scale
    Int4Tensor                 qdata I8 (rows, columns / 2), scale and zero_point (groups, rows);  W = scale · q + zero

The others are packed for one kind of kernel, in tiles or shuffled, and refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ModelError
from ..checkpoint import parse_json
from .matrix import Edits, Float32, Matrix, byte_columns
from .numbers import halves
from .settings import left_out
from .stored import FLOATS, Stored
from .whole_bytes import WholeBytes, whole_block

METHODS = ("torchao",)
KNOWN = ("Float8Tensor", "Int8Tensor", "IntxUnpackedToInt8Tensor", "Int4Tensor")
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


class Int4(Matrix):
    """`Int4Tensor`: W[r, c] = scale[g, r] · q + zero_point[g, r], q from −8 to 7, the even column in the low half."""

    def __init__(self, stored: Stored, block: tuple[int, int]) -> None:
        weight = stored.take("_weight_qdata", ("I8", "U8"))
        if len(weight.shape) != 2 or weight.shape[1] * 2 % block[1] or block[0] != 1:
            raise stored.wrong(
                f"_weight_qdata has shape {list(weight.shape)}, which blocks of {list(block)} don't fill"
            )
        self.rows, self.columns, self.group = weight.shape[0], weight.shape[1] * 2, block[1]
        self.groups = self.columns // self.group
        kinds = ("_weight_scale", "_weight_zero_point")
        self.sizes = [SIZES[stored.take(kind, FLOATS, (self.groups, self.rows)).dtype] for kind in kinds]
        self.stored, self.form = stored, f"torchao int4 (groups of {self.group})"
        self.tensors = tuple(map(stored.name, ("_weight_qdata", *kinds)))

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        pairs = zip(self.tensors[1:], self.sizes, strict=True)
        return {name: byte_columns(rows, size, self.rows * size, self.groups) for name, size in pairs}

    def no_column(self, why: str = "") -> str:
        return super().no_column(why or "its zero lies between two codes")

    def read(self, first: int, last: int) -> Float32:
        codes = halves(self.stored.array("_weight_qdata")[first:last]).astype(np.int8)
        signed = np.where(codes > 7, codes - 16, codes).astype(np.float32)
        scale, zero = (
            np.repeat(self.stored.floats(kind, (slice(None), slice(first, last))).T, self.group, axis=1)
            for kind in ("_weight_scale", "_weight_zero_point")
        )
        weights: Float32 = signed * scale + zero
        return weights


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    if left_out(stored.module, settings.get("modules_to_not_convert")) or stored.has("weight"):
        return None  # what a filter left out is stored as it was, and nothing in the config says so
    shard, qdata = stored.parts["_weight_qdata"] if stored.has("_weight_qdata") else (None, None)
    if shard is None or qdata is None:
        stored.take("_weight_qdata", ("I8",))
        return None
    kind, block = _about(stored, shard.header)
    form = {"Float8Tensor": "FP8", "Int8Tensor": "int8", "IntxUnpackedToInt8Tensor": "intx"}.get(kind, kind)
    if kind == "Int4Tensor":
        return Int4(stored, block)
    size = "a scale for each row" if (1, *qdata.shape[1:]) == block else f"blocks of {block[0]} × {block[1]}"
    zeros = "_weight_zero_point" if stored.has("_weight_zero_point") else None
    if zeros and stored.parts[zeros][1].dtype != "I8":
        raise ModelError(
            f"{stored.name(zeros)} is {stored.parts[zeros][1].dtype}: zero points that lie between codes are not edited."
        )
    return WholeBytes(
        stored, f"torchao {form} ({size})", weight="_weight_qdata", dtypes=("F8_E4M3",) if kind == "Float8Tensor" else
        ("I8",), scale="_weight_scale", block=block, zeros=zeros,
    )  # fmt: skip


def _about(stored: Stored, header: bytes) -> tuple[str, tuple[int, int]]:
    """Kind and block size of a weight, from the metadata of its file. Raises ModelError for what isn't edited."""
    metadata = parse_json(header[8:], "the header").get("__metadata__", {})
    text = metadata.get(stored.name("weight"))
    about = parse_json(text.encode(), f"the metadata of {stored.name('weight')}") if isinstance(text, str) else None
    kind, data = (about.get("_type"), about.get("_data")) if isinstance(about, Mapping) else (None, None)
    if kind not in KNOWN:
        raise ModelError(
            f"{stored.module} is a {kind} of torchao, which monoglot doesn't edit: it is packed for one kind of "
            f"kernel, or not described in the file. It edits {', '.join(KNOWN)}."
        )
    sizes = data.get("block_size") if isinstance(data, Mapping) else None
    return str(kind), whole_block(stored, sizes, "block_size")
