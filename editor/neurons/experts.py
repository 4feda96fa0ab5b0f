"""The experts of each language: LAPE over experts in place of neurons.

    p^k_e = tokens of language k that the router sends to expert e / all tokens of language k

An expert is a language's when the router sends it hardly anything else: by the entropy of p^k_e over languages, as for
neurons (see `methods.entropy`), over all experts of all layers.
"""

import numpy as np

from ..statistics.statistics import Statistics
from .methods.entropy import by_entropy


def find_experts(statistics: Statistics, *, rate: float, quantile: float) -> dict[str, tuple[str, ...]]:
    """Return the names of each language's experts, such as "3.17"; none of a model that has no experts."""
    if statistics.routed is None:
        return {}
    there = np.array([block.expert for block in statistics.model.blocks])
    names = [block.name for block in statistics.model.blocks if block.expert]
    languages = statistics.languages
    p = np.stack([statistics.routed[language][there] / statistics.tokens[language] for language in languages])
    chosen = by_entropy(p[:, None, :], rate, quantile)[:, 0]  # (K, E)
    return {
        language: tuple(names[expert] for expert in np.flatnonzero(own))
        for language, own in zip(languages, chosen, strict=True)
        if own.any()
    }
