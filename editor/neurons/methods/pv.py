"""PV, parameter variation: neurons that change when the model is tuned on other languages.

A neuron of language k barely changes when the model is tuned on k, and changes much when it is tuned on others. Neurons are
selected by the entropy (see `entropy`) of

    s^k_ij = 1 / (v^k_ij + ε),   v^k_ij = ‖Δθ‖₂ / ‖θ‖₂          (see `variation`)

with ε = 10⁻⁶ (our choice): a smaller relative change counts as none.
"""

import numpy as np
import numpy.typing as npt

from .entropy import by_entropy
from .variation import Variation

EPSILON = 1e-6


def pv(variation: Variation, *, rate: float, quantile: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F)."""
    s = np.stack(list(variation.relative.values()))
    s += EPSILON
    np.reciprocal(s, out=s)
    return by_entropy(s, rate, quantile)
