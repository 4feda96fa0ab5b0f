"""Statistics made of how often neurons are active, a row a neuron."""

import numpy as np

from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.statistics.statistics import Statistics


def make(counts: list[list[list[int]]], tokens: list[int]) -> Statistics:
    """Statistics from active counts by language, layer, neuron; sums are 0.5 a count."""
    array = np.array(counts, dtype=np.int64)
    names = ["en", "fr", "zh", "vi", "ja"][: len(counts)]
    return Statistics(
        ModelInfo("tiny", None, "llama", array.shape[1], array.shape[2], "f" * 64),
        dict(zip(names, tokens, strict=True)),
        dict(zip(names, array, strict=True)),
        dict(zip(names, array * 0.5, strict=True)),
        {name: (name * 32,) for name in names},
    )
