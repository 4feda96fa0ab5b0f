"""Histograms of activations with fixed bins, so that they add up and give quantiles later.

A bin is what float32 values with the same sign, exponent and first two bits of the mantissa have in common: four bins
an octave, [1, 1.25), [1.25, 1.5), [1.5, 1.75), [1.75, 2), …

    bins  0 … 31   negative, from −1 up to −2⁻⁸     the first takes what is below −1 too, the last what is nearer to 0
    bin     32     exactly 0 (and subnormal numbers)
    bins 33 … 96   positive, from 2⁻⁸ up to 2⁸      the first takes what is nearer to 0 too, the last what is above 2⁸

So a quantile between 2⁻⁸ and 2⁸ (or −1 and −2⁻⁸) lies in the right bin, whose width is a quarter of its lower end or
less, and within the bin it is interpolated; outside it is cut off at 2⁸ and −1.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

SHIFT = 21  # leaves sign, exponent and two bits of the mantissa: 2048 patterns
LOWEST = (127 - 8) * 4  # the pattern of 2⁻⁸
NEGATIVE, POSITIVE = 8 * 4, 16 * 4
ZERO = NEGATIVE
BINS = NEGATIVE + 1 + POSITIVE
CPU_ROWS, BLOCK = 64, 2**22  # tokens binned at once on a CPU, to stay in its cache; activations at once elsewhere

Float64 = npt.NDArray[np.float64]
UInt32 = npt.NDArray[np.uint32]


def _bins() -> npt.NDArray[np.int64]:
    """Return the bin of each of the 2048 patterns, (2048,)."""
    magnitude = np.arange(1024) - LOWEST
    positive = ZERO + 1 + np.clip(magnitude, 0, POSITIVE - 1)
    negative = ZERO - 1 - np.clip(magnitude, 0, NEGATIVE - 1)
    positive[0] = negative[0] = ZERO
    return np.concatenate([positive, negative])


def _edges() -> tuple[Float64, Float64]:
    """Lower and upper edge of each bin, (BINS,); those next to 0 begin at 0."""
    octaves = (np.arange(LOWEST, LOWEST + POSITIVE + 1, dtype=np.uint32) << SHIFT).view(np.float32).astype(np.float64)
    inner, outer = np.concatenate([[0.0], octaves[1:-1]]), octaves[1:]  # of the positive ones
    zero = np.zeros(1)
    lower = np.concatenate([-outer[:NEGATIVE][::-1], zero, inner])
    upper = np.concatenate([-inner[:NEGATIVE][::-1], zero, outer])
    return lower, upper


PATTERNS = _bins()
LOWER, UPPER = _edges()


def count(activation: "torch.Tensor", patterns: "torch.Tensor", into: "torch.Tensor") -> None:
    """Add the activations of tokens, (tokens, width), to a histogram, int64 (width · BINS,).

    `patterns` is PATTERNS there.
    """
    import torch

    width = activation.shape[1]
    patterns = patterns.to(activation.device)
    offsets = torch.arange(0, width * BINS, BINS, device=activation.device)
    for rows in torch.split(activation, CPU_ROWS if activation.device.type == "cpu" else max(1, BLOCK // width)):
        found = (rows.float().contiguous().view(torch.int32) >> SHIFT) & 0x7FF
        into += torch.bincount((patterns[found.long()] + offsets).flatten(), minlength=width * BINS).to(into.device)


def quantile(histogram: UInt32, q: float) -> Float64:
    """Return the round(q · n)-th smallest of n values, interpolated by rank in its bin; histogram (…, BINS), result (…)."""
    whole = histogram.cumsum(axis=-1, dtype=np.int64)
    n = whole[..., -1]
    rank = np.clip(np.rint(q * n), 1, np.maximum(n, 1))
    found = np.minimum((whole < rank[..., None]).sum(axis=-1), BINS - 1)
    inside = np.take_along_axis(histogram, found[..., None], -1)[..., 0].astype(np.float64)
    before = np.take_along_axis(whole, found[..., None], -1)[..., 0] - inside
    part = (rank - before - 0.5) / np.maximum(inside, 1)
    made: Float64 = LOWER[found] + part * (UPPER[found] - LOWER[found])
    return made
