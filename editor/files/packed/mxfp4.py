"""MXFP4 as gpt_oss is released: the experts of a layer in one tensor, in groups of 32 numbers.

    gate_up_proj_blocks  U8 (experts, 2 · d_ff, d / 32, 16)     gate_up_proj_scales  U8 (experts, 2 · d_ff, d / 32)
    down_proj_blocks     U8 (experts, d, d_ff / 32, 16)         down_proj_scales     U8 (experts, d, d_ff / 32)
    gate_up_proj_bias    BF16 (experts, 2 · d_ff)

What is opened here is the part of one expert, without the first axis. Rows 2j and 2j + 1 of gate_up are neuron j's gate and
up. Its output is glu · (up + 1): with the row of up at zero glu would be left, so the gate's row and its bias are cleared,
and glu = 0 · σ(0) = 0.
"""

from collections.abc import Mapping
from typing import Any

from .half_bytes import HalfBytes
from .matrix import Matrix
from .settings import left_out
from .stored import Stored

METHODS = ("mxfp4",)


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    if left_out(stored.module, settings.get("modules_to_not_convert")) or not stored.has("blocks"):
        return None
    return HalfBytes(
        stored, "MXFP4 (groups of 32)", weight="blocks", dtypes=("U8",), scale="scales", scales=("U8", "F8_E8M0"), group=32,
        grouped=True,
    )  # fmt: skip
