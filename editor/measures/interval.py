"""How much of a mean over prompts may be chance: the bootstrap.

As many prompts are drawn anew, with replacement, DRAWS times; 95 of 100 means lie between the two ends. With a seed, so the
same values give the same interval.
"""

from typing import Any

import numpy as np

DRAWS = 2000
TAIL = 0.025  # on each side

Interval = tuple[float, float]


def interval(values: Any, seed: int = 0) -> Interval:
    """Give the ends between which the mean of `values`, float64 (n,) or booleans, lies; (0, 0) where there are none."""
    known = np.asarray(values, np.float64)
    if not len(known):
        return 0.0, 0.0
    generator = np.random.default_rng(seed)
    means = [known[generator.integers(0, len(known), len(known))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    return float(low), float(high)
