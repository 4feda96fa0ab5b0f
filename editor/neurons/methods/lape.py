"""LAPE, language activation probability entropy (Tang et al., ACL 2024): selection by the entropy (see `entropy`) of

    p^k_ij = active_count^k_ij / n_k

What it holds is two copies of all p: 0.8 GB for 80 layers of 28,672 neurons in 21 languages.
"""

import numpy as np
import numpy.typing as npt

from ...statistics.statistics import Statistics
from .entropy import by_entropy


def lape(statistics: Statistics, *, rate: float, quantile: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F)."""
    p = np.empty((len(statistics.languages), *statistics.model.shape))
    for k, language in enumerate(statistics.languages):
        p[k] = statistics.probability(language)
    return by_entropy(p, rate, quantile)
