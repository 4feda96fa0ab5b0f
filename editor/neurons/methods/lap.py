"""LAP: a neuron is one of language k when it is nearly always active on its text, p^k_ij > threshold.

It has no rate: how many neurons there are is what the model makes it.
"""

import numpy as np
import numpy.typing as npt

from ...statistics.statistics import Statistics


def lap(statistics: Statistics, *, threshold: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F)."""
    return np.stack([statistics.probability(language) > threshold for language in statistics.languages])
