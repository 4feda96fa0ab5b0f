"""Arithmetic on stored floats without a framework: the bits of F32, F16 and BF16 as numpy arrays.

numpy has no bfloat16, so it is handled as uint16 bit patterns. Products are made in float64 and rounded once, to nearest
even, into the stored dtype.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

STORED: dict[str, npt.DTypeLike] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
EXPONENT = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}  # all ones: infinity or NaN
SMALLEST_BF16 = -125  # frexp's exponent of 2⁻¹²⁶; below it all numbers have the same spacing
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Array = npt.NDArray[Any]


def all_finite(stored: Array, dtype: str) -> bool:
    """Whether no element is NaN or infinite. `stored` has the dtype STORED[dtype]."""
    if not stored.size:
        return True
    # as integers, what isn't finite is the largest: as signed ones of the positive, as unsigned ones of the negative
    limit, sign = EXPONENT[dtype], 1 << (8 * stored.itemsize - 1)
    return bool(
        stored.view(f"i{stored.itemsize}").max() < limit and stored.view(f"u{stored.itemsize}").max() < sign + limit
    )


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
        # to 8 significant bits (fewer for subnormals) in float64 itself, nearest even, so that the casts after it are exact
        _, exponent = np.frexp(values)
        quantum = np.ldexp(1.0, np.maximum(exponent, SMALLEST_BF16) - 8)
        rounded = (np.rint(values / quantum) * quantum).astype(np.float32)
        kept: Array = (rounded.view(np.uint32) >> 16).astype(np.uint16)
        return kept
