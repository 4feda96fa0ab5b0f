"""FP8 as transformers, DeepSeek, Mistral, MiniMax and fbgemm write it, and DeepSeek-V4's FP4 experts beside it.

fp8          weight F8_E4M3 (rows, columns), weight_scale_inv: one for each block of weight_block_size (128 × 128; the last
             ones may be cut short), or one for all where the config names no blocks; W = weight · scale, in spite of "inv"
DeepSeek-V4  the same with .scale in E8M0, and experts of FP4: weight I8 (rows, columns / 2), .scale E8M0 for 32 columns
mxfp8        weight F8_E4M3, weight_scale_inv U8 (E8M0) for 1 × 32
fbgemm_fp8   weight F8_E4M3, weight_scale F32 (rows, 1)
"""

from collections.abc import Mapping
from typing import Any

from .half_bytes import HalfBytes
from .matrix import Matrix
from .settings import left_out
from .stored import Stored
from .whole_bytes import WholeBytes, whole_block

METHODS = ("fp8", "mxfp8", "fbgemm_fp8")
SCALES = ("weight_scale_inv", "scale", "qscale_weight")
FP4_GROUP = 32


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    skipped = settings.get("modules_to_not_convert") or settings.get("ignored_layers")
    if left_out(stored.module, skipped):
        return None
    method = settings["quant_method"]
    if method == "fbgemm_fp8":
        return WholeBytes(stored, "FP8 (fbgemm, a scale for each row)", block=(1, None))
    scale = next((kind for kind in SCALES if stored.has(kind)), SCALES[0])
    if (
        stored.has("weight")
        and stored.parts["weight"][1].dtype == "I8"
        and settings.get("expert_dtype", "fp4") == "fp4"
    ):
        return HalfBytes(
            stored,
            "FP4 (groups of 32)",
            weight="weight",
            dtypes=("I8",),
            scale=scale,
            scales=("F8_E8M0", "U8"),
            group=FP4_GROUP,
        )
    if method == "mxfp8":
        return WholeBytes(stored, "MXFP8 (groups of 32)", scale=scale, block=(1, 32), exponents=True)
    blocks = settings.get("weight_block_size", [128, 128])
    if blocks is None:
        return WholeBytes(stored, "FP8 (one scale)", scale=scale, block=None)
    block = whole_block(stored, blocks, "weight_block_size")
    form = f"FP8 (blocks of {block[0]} × {block[1]})"
    exponents = stored.has(scale) and stored.parts[scale][1].dtype == "U8"  # as scale_fmt "ue8m0" is also stored
    return WholeBytes(stored, form, scale=scale, block=block, exponents=exponents)
