"""LAVE: LAPE with mean activations in place of activation probabilities. Selection by the entropy (see `entropy`) of

max(m^k_ij, 0),   m^k_ij = Σ a_ij / n_k          negative means are clipped to 0 (ours)
"""

import numpy as np
import numpy.typing as npt

from ...statistics.statistics import Statistics
from .entropy import by_entropy


def lave(statistics: Statistics, *, rate: float, quantile: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F)."""
    m = np.empty((len(statistics.languages), *statistics.model.shape))
    for k, language in enumerate(statistics.languages):
        np.maximum(statistics.mean(language), 0, out=m[k])
    return by_entropy(m, rate, quantile)
