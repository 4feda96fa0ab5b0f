"""Where a language's neurons lie, and which of them other languages have too.

layer profile    neurons per layer and language; in the paper most lie in the first and in the last layers
overlap          shared neurons of each pair of languages, and Jaccard = |A ∩ B| / |A ∪ B|
"""

from dataclasses import dataclass

from .neurons import Neurons


@dataclass(frozen=True)
class Overlap:
    """Neurons that languages share.

    `neurons[a]` counts those of a language, `shared[a][b]` those of two, and `jaccard[a][b]` is in [0, 1] (0 where neither
    has any). Both are symmetric and lack the diagonal.
    """

    neurons: dict[str, int]
    shared: dict[str, dict[str, int]]
    jaccard: dict[str, dict[str, float]]


def profile(neurons: Neurons) -> dict[str, list[int]]:
    """Neurons per layer, by language."""
    return {language: neurons.per_layer(language) for language in neurons.languages}


def ends(layers: list[int]) -> float | None:
    """Return the share of a profile's neurons that lie in the first or the last quarter of the layers.

    A quarter is rounded to whole layers. A profile without neurons gives None.
    """
    quarter = max(1, round(len(layers) / 4))
    outer = [count for at, count in enumerate(layers) if at < quarter or at >= len(layers) - quarter]
    return sum(outer) / sum(layers) if sum(layers) else None


def overlap(neurons: Neurons) -> Overlap:
    own = {language: neurons.pairs(language) for language in neurons.languages}
    shared = {a: {b: len(own[a] & own[b]) for b in own if b != a} for a in own}
    union = {a: {b: len(own[a] | own[b]) for b in own if b != a} for a in own}
    jaccard = {a: {b: shared[a][b] / max(1, union[a][b]) for b in shared[a]} for a in own}
    return Overlap({language: len(pairs) for language, pairs in own.items()}, shared, jaccard)
