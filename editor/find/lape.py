"""LAPE, language activation probability entropy (Tang et al., ACL 2024).

    p'^k_ij = p^k_ij / Σ_k p^k_ij                    over languages; zeros for a neuron that is never active
    LAPE_ij = −Σ_k p'^k_ij ln p'^k_ij                0·ln 0 = 0
    bar     = the round(q·N)-th smallest of all N = K·L·F values p^k_ij

Of the neurons with some p^k_ij > bar, the round(rate·L·F) with the smallest LAPE are taken; ties go to the lower layer,
then the lower index. A taken neuron belongs to every language k with p^k_ij > bar. Where fewer neurons pass the bar
than the rate asks for, all that pass are taken.

One copy of all p (8 bytes each) and one more for the order statistic are what it holds.
"""

import numpy as np
import numpy.typing as npt

from ..statistics import Statistics


def lape(statistics: Statistics, rate: float, quantile: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F)."""
    p = np.stack([statistics.probability(language) for language in statistics.languages])  # (K, L, F)
    bar = order_statistic(p, quantile)
    above = p > bar  # (K, L, F)
    candidates = np.flatnonzero(above.any(axis=0))  # of L·F
    entropy = language_entropy(p)[candidates]
    wanted = round(rate * p[0].size)
    taken = candidates[np.argsort(entropy, kind="stable")[:wanted]]
    chosen = np.zeros(p[0].size, dtype=np.bool_)
    chosen[taken] = True
    above &= chosen.reshape(p[0].shape)
    return above


def order_statistic(values: npt.NDArray[np.float64], quantile: float) -> float:
    """The round(q·N)-th smallest of N values, counted from 1, without interpolation."""
    k = min(max(round(quantile * values.size), 1), values.size)
    return float(np.partition(values, k - 1, axis=None)[k - 1])


def language_entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """LAPE of each neuron, (L·F,), in nats, from p of shape (K, L, F)."""
    flat = p.reshape(len(p), -1)
    whole = flat.sum(axis=0)
    whole[whole == 0] = 1
    entropy = np.zeros(flat.shape[1])
    for row in flat:  # a language at a time keeps the memory at a few rows
        share = row / whole
        share[share == 0] = 1  # 1·ln 1 = 0
        entropy -= share * np.log(share)
    return entropy
