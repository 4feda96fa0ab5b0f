"""MXFP4 as gpt_oss is released: the experts of a layer in one tensor, in groups of 32 numbers.

    gate_up_proj_blocks  U8 (experts, 2 · d_ff, d / 32, 16)     gate_up_proj_scales  U8 (experts, 2 · d_ff, d / 32)
    down_proj_blocks     U8 (experts, d, d_ff / 32, 16)         down_proj_scales     U8 (experts, d, d_ff / 32)
    gate_up_proj_bias    BF16 (experts, 2 · d_ff)

Rows 2j and 2j + 1 of gate_up are neuron j's gate and up. Its output is glu · (up + 1): with the row of up at zero glu
would be left, so the gate's row and its bias are cleared, and glu = 0 · σ(0) = 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .half_bytes import HalfBytes
from .matrix import Edits, Matrix, byte_rows
from .settings import left_out
from .stored import FLOATS, Stored

METHODS = ("mxfp4",)
SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    if left_out(stored.module, settings.get("modules_to_not_convert")) or not stored.has("blocks"):
        return None
    return expert(stored, 0)


def expert(stored: Stored, number: int) -> HalfBytes:
    """One expert's matrix; the parts of `stored` are "blocks", "scales" and, of gate_up_proj, "bias"."""
    return HalfBytes(
        stored, "MXFP4 (groups of 32)", weight="blocks", dtypes=("U8",), scale="scales", scales=("U8", "F8_E8M0"), group=32,
        expert=number,
    )  # fmt: skip


def gates(neurons: Iterable[int]) -> list[int]:
    """Return the rows of gate_up_proj that are neurons' gates."""
    return [2 * int(j) for j in neurons]


def clear_gates(stored: Stored, number: int, neurons: Sequence[int]) -> Edits:
    """Clear neurons' gates in one expert of gate_up_proj, with their biases."""
    matrix, rows = expert(stored, number), gates(neurons)
    experts = stored.parts["blocks"][1].shape[0]
    bias = stored.take("bias", FLOATS, (experts, matrix.rows))
    size = SIZES[bias.dtype]
    return {**matrix.clear_rows(rows), bias.name: byte_rows(rows, size, begin=number * matrix.rows * size)}
