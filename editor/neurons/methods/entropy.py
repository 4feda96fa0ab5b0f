"""Selection by entropy over languages, which LAPE made known and other methods use on other numbers.

Of non-negative numbers s^k_ij, high where neuron (i, j) is one of language k:

    s'^k_ij = s^k_ij / Σ_k s^k_ij                    over languages; zeros where all are zero
    H_ij    = −Σ_k s'^k_ij ln s'^k_ij                0·ln 0 = 0
    bar     = the round(q·N)-th smallest of all N = K·L·F numbers s^k_ij

Of the neurons with some s^k_ij > bar, the round(rate·L·F) with the smallest entropy are taken; ties go to the lower
layer, then the lower index. A taken neuron belongs to every language k with s^k_ij > bar. Where fewer neurons pass the
bar than the rate asks for, all that pass are taken.

Entropies are compared at 12 decimals: the same numbers in another order of languages are a tie, however a machine's sums
and logarithms round. Beside the numbers themselves (8 bytes each) one copy is held for the order statistic.
"""

import numpy as np
import numpy.typing as npt

DECIMALS = 12


def by_entropy(s: npt.NDArray[np.float64], rate: float, quantile: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F), from s of that shape."""
    above = s > order_statistic(s, quantile)  # (K, L, F)
    candidates = np.flatnonzero(above.any(axis=0))  # of L·F
    entropy = np.round(language_entropy(s.reshape(len(s), -1)[:, candidates]), DECIMALS)
    wanted = round(rate * s[0].size)
    taken = candidates[np.argsort(entropy, kind="stable")[:wanted]]
    chosen = np.zeros(s[0].size, dtype=np.bool_)
    chosen[taken] = True
    above &= chosen.reshape(s[0].shape)
    return above


def order_statistic(values: npt.NDArray[np.float64], quantile: float) -> float:
    """Return the round(q·N)-th smallest of N values, counted from 1, without interpolation."""
    k = min(max(round(quantile * values.size), 1), values.size)
    flat = values.flatten()  # a copy, and the only one
    flat.partition(k - 1)
    return float(flat[k - 1])


def language_entropy(s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the entropies of N neurons, (N,), in nats, from s of shape (K, N)."""
    whole = s.sum(axis=0)
    whole[whole == 0] = 1
    entropy = np.zeros(s.shape[1])
    for row in s:  # a language at a time keeps the memory at a few rows
        share = row / whole
        share[share == 0] = 1  # 1·ln 1 = 0
        entropy -= share * np.log(share)
    return entropy
