"""NVIDIA's ModelOpt: FP8 and NVFP4.

FP8     weight F8_E4M3, weight_scale F32 for the whole matrix
NVFP4   weight U8 (rows, columns / 2), weight_scale F8_E4M3 for 16 columns, weight_scale_2 F32;  W = E2M1 · scale · scale_2
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from ...errors import ModelError
from .half_bytes import HalfBytes
from .matrix import Matrix
from .settings import PREFIX, names
from .stored import Stored
from .whole_bytes import WholeBytes

METHODS = ("modelopt", "modelopt_fp4")


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    bare = PREFIX.sub("", stored.module, count=1)
    ignored = names(settings.get("ignore") or settings.get("exclude_modules"))
    if any(fnmatchcase(stored.module, one) or fnmatchcase(bare, PREFIX.sub("", one, count=1)) for one in ignored):
        return None
    algorithm = str(settings.get("quant_algo", "NVFP4" if settings["quant_method"] == "modelopt_fp4" else None))
    if algorithm == "FP8":
        return WholeBytes(stored, "ModelOpt FP8 (one scale)", block=None)
    if algorithm != "NVFP4":
        raise ModelError(
            f"{stored.module} is in ModelOpt's {algorithm}, which monoglot doesn't edit; it does FP8 and NVFP4. Edit "
            "the model that it was quantised from, then quantise the result."
        )
    if stored.take("weight_scale_2", ("F32",)).shape not in ((), (1,)):
        stored.take("weight_scale_2", ("F32",), ())
    return HalfBytes(
        stored, "ModelOpt NVFP4 (groups of 16)", weight="weight", dtypes=("U8",), scale="weight_scale", scales=("F8_E4M3",),
        group=16, factor=lambda scales: scales * stored.floats("weight_scale_2").reshape(()), others=("weight_scale_2",),
    )  # fmt: skip
