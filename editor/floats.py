"""Arithmetic on stored floats without a framework: the bits of F32, F16 and BF16 as numpy arrays.

numpy has no bfloat16, so it is handled as uint16 bit patterns. Products are made in float64 and rounded once, to nearest
even, into the stored dtype.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

STORED: dict[str, npt.DTypeLike] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
EXPONENT = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}  # all ones: infinity or NaN
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Array = npt.NDArray[Any]


def all_finite(stored: Array, dtype: str) -> bool:
    """Whether no element is NaN or infinite. `stored` has the dtype STORED[dtype]."""
    bits = stored.view(np.uint32 if dtype == "F32" else np.uint16)
    return not bits.size or not bool(((bits & EXPONENT[dtype]) == EXPONENT[dtype]).any())


def to_float64(stored: Array, dtype: str) -> npt.NDArray[np.float64]:
    """Exact values."""
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored.astype(np.float64)


def from_float64(values: npt.NDArray[np.float64], dtype: str) -> Array:
    """Values rounded once to the stored dtype; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        if dtype != "BF16":
            narrow: Array = values.astype(STORED[dtype])
            return narrow
        # to 8 significant bits in float64 itself (nearest even), so that the casts after it are exact
        bits = np.ascontiguousarray(values).view(np.uint64)
        dropped = np.uint64(45)
        half = np.uint64((1 << 44) - 1) + ((bits >> dropped) & np.uint64(1))
        rounded = ((bits + half) >> dropped << dropped).view(np.float64).astype(np.float32)
        kept: Array = (rounded.view(np.uint32) >> 16).astype(np.uint16)
        return kept
