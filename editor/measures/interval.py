"""How much of a mean over prompts may be chance: the bootstrap; where all answers are alike, Wilson's interval.

As many prompts are drawn anew, with replacement, DRAWS times; 95 of 100 means lie between the two ends. With a seed, so the
same values give the same interval. Of answers that are all right, or all wrong, every draw is the same, and yet a few of them
say little: there the interval is Wilson's, from n / (n + z²) to 1, or from 0 to z² / (n + z²), z = 1.96.
"""

from typing import Any

import numpy as np

DRAWS = 2000
TAIL = 0.025  # on each side
Z2 = 1.959964**2

Interval = tuple[float, float]


def interval(values: Any, seed: int = 0) -> Interval:
    """Give the ends between which the mean of `values`, float64 (n,) or booleans, lies; (0, 0) where there are none."""
    known = np.asarray(values, np.float64)
    if not len(known):
        return 0.0, 0.0
    if (share := known[0]) in (0, 1) and np.all(known == share):
        end = Z2 / (len(known) + Z2)
        return (1 - end, 1.0) if share else (0.0, end)
    generator = np.random.default_rng(seed)
    means = [known[generator.integers(0, len(known), len(known))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    return float(low), float(high)
