"""The numbers of packed formats: small floats by table, codes of any width from a stream of bits, scales.

    E4M3    1 sign, 4 exponent bits (bias 7), 3 of the fraction; no infinity, 0x7F and 0xFF are NaN
    E5M2    1, 5 (bias 15), 2; as IEEE, infinities at exponent 31
    E8M0    the exponent alone: 2^(byte − 127); 0xFF is NaN, and no byte is zero
    E2M1    the 16 values of FP4: 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives

Codes of b bits lie in little-endian words one after the other, so code i is bits i·b … i·b + b − 1 of the whole, whether or
not b divides 32.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .matrix import Float32

Codes = npt.NDArray[np.uint8]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def _small_float(exponent_bits: int, *, infinities: bool) -> Float32:
    """Return the values of all 256 bytes of a float of 8 bits."""
    fraction_bits = 7 - exponent_bits
    bias, byte = 2 ** (exponent_bits - 1) - 1, np.arange(256)
    exponent = (byte & 0x7F) >> fraction_bits
    fraction = (byte & (2**fraction_bits - 1)) / 2**fraction_bits
    value = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    top = exponent == 2**exponent_bits - 1
    if infinities:
        value[top & (fraction == 0)] = np.inf
        value[top & (fraction != 0)] = np.nan
    else:
        value[(byte & 0x7F) == 0x7F] = np.nan
    values: Float32 = np.where(byte >= 128, -value, value).astype(np.float32)
    return values


E4M3 = _small_float(4, infinities=False)
E5M2 = _small_float(5, infinities=True)
E8M0 = np.append(2.0 ** np.arange(-127, 128), np.nan).astype(np.float32)
SMALL = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}

RAW: dict[str, npt.DTypeLike] = {
    "U8": "<u1", "I8": "<i1", "F8_E4M3": "<u1", "F8_E5M2": "<u1", "F8_E8M0": "<u1", "I16": "<i2", "BF16": "<u2",
    "F16": "<f2", "I32": "<u4", "U32": "<u4", "F32": "<f4", "I64": "<i8",
}  # fmt: skip  # codes are without a sign


def to_float32(stored: npt.NDArray[np.generic], dtype: str) -> Float32:
    """Exact values of stored floats or whole numbers."""
    if dtype in SMALL:
        return SMALL[dtype][stored.astype(np.uint8, copy=False)]
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def codes(stored: npt.NDArray[np.generic], bits: int, count: int) -> Codes:
    """Return the first `count` codes of each row: (rows, words) -> (rows, count)."""
    data = np.ascontiguousarray(stored).view(np.uint8)  # (rows, bytes)
    if bits == 8:
        return data[:, :count]
    start = np.arange(count) * bits
    byte, shift = start // 8, (start % 8).astype(np.uint16)
    padded = np.pad(data, ((0, 0), (0, 1)))
    pair = padded[:, byte].astype(np.uint16) | (padded[:, byte + 1].astype(np.uint16) << 8)
    found: Codes = ((pair >> shift) & (2**bits - 1)).astype(np.uint8)
    return found


def halves(stored: npt.NDArray[np.generic]) -> Codes:
    """Both codes of each byte, the low half first: (rows, bytes) -> (rows, 2 · bytes)."""
    data = np.ascontiguousarray(stored).view(np.uint8)
    return np.stack([data & 15, data >> 4], axis=-1).reshape(len(data), -1)


def fields(index: int, bits: int) -> Iterator[tuple[int, int, int]]:
    """Where code `index` of a stream lies: (byte, mask in it, how far the code is shifted left there; negative: right)."""
    first, last = index * bits, (index + 1) * bits
    for byte in range(first // 8, (last - 1) // 8 + 1):
        low, high = max(first, byte * 8), min(last, byte * 8 + 8)
        yield byte, ((1 << (high - low)) - 1) << (low - byte * 8), first - byte * 8


def shifted(value: npt.NDArray[np.uint8] | int, by: int) -> npt.NDArray[np.uint8]:
    """Return a code as it lies in the byte that `fields` names."""
    wide = np.asarray(value, np.uint16)
    return ((wide << by if by >= 0 else wide >> -by) & 0xFF).astype(np.uint8)
