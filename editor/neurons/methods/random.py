"""Random neurons, the control.

In each layer and language as many are drawn as a given set has there, from the neurons that the set does not give to that
language. A language's draw depends on the seed, its name and the layer, and on no other language.
"""

import warnings

import numpy as np
import numpy.typing as npt

from ...errors import MonoglotWarning
from ...statistics.statistics import Statistics
from ..neurons import Neurons


def draw(statistics: Statistics, *, like: Neurons, seed: int) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F). Warns (MonoglotWarning) where a layer has too few others."""
    model = statistics.model
    selection = np.zeros((len(statistics.languages), *model.shape), np.bool_)
    for k, language in enumerate(statistics.languages):
        chosen = model.split(selection[k])
        for layer, (own, block) in enumerate(zip(like.indices[language], model.networks, strict=True)):
            others = np.setdiff1d(np.arange(block.width), own)
            count = min(len(own), len(others))
            if count < len(own):
                warnings.warn(
                    f"layer {block.name} has only {count:,} other neurons to draw for {language}, instead of {len(own):,}.",
                    MonoglotWarning,
                    stacklevel=4,
                )
            drawn = np.random.default_rng([seed, layer, *language.encode()]).choice(others, count, replace=False)
            chosen[layer][drawn] = True
    return selection
