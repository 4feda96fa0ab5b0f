"""Statistics made of mean activations, a table a language."""

import numpy as np

from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.statistics.statistics import Statistics

NAMES = ("en", "fr", "zh", "vi")
Table = list[list[list[float]]]  # by language, layer, neuron


def make(p: Table, m: Table | None = None, tokens: int = 100) -> Statistics:
    """Statistics with these activation probabilities, hundredths, and means."""
    count = np.array(p, np.float64) * tokens
    total = np.array(m if m else p, np.float64) * tokens
    names = NAMES[: len(count)]
    return Statistics(
        ModelInfo("tiny", None, "llama", count.shape[1], count.shape[2], "f" * 64),
        dict.fromkeys(names, tokens),
        {name: np.round(own).astype(np.int64) for name, own in zip(names, count, strict=True)},
        dict(zip(names, total, strict=True)),
        {name: (name,) for name in names},
    )


def pairs(selection: np.ndarray) -> list[set[tuple[int, int]]]:
    return [{(int(i), int(j)) for i, j in np.argwhere(language)} for language in selection]


# Random neurons


def uniform(K: int = 3, L: int = 2, F: int = 40, seed: int = 0) -> Statistics:
    return make(np.round(np.random.default_rng(seed).beta(0.5, 2, (K, L, F)), 2).tolist())
