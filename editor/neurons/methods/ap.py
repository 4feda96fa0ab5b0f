"""AP, average precision (Kojima et al., NAACL 2024): the neuron as a classifier of the text's language.

The question is how well the neuron's mean activation over a text tells that the text is in language k. Texts in all
languages are ordered by the neuron's mean activation, highest first; texts with the same value are one step n:

    AP = Σ_n (R_n − R_{n−1}) · P_n          P_n, R_n: precision and recall of "in language k" for the texts up to step n

A neuron of k stands near the top of all neurons (active on k) or near the bottom (silent on k alone). Its rank is its place
from the top or from the bottom, whichever is smaller (ties: lower layer first, then lower index). The round(rate·L·F)
neurons with the best rank in any language are taken (same ties), so there are as many as by the other methods. Each belongs
to every language in which its rank is no worse than the best rank of the last neuron taken (both choices are ours).

Scores are compared at 12 decimals. The means over texts are read one layer at a time. Memory holds the scores and the ranks
of all neurons: 12 bytes per neuron and language.
"""

import numpy as np
import numpy.typing as npt

from ...errors import StatisticsError
from ...statistics.statistics import Statistics

DECIMALS = 12
BLOCK = 2**21  # numbers sorted at once

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]


def ap(statistics: Statistics, *, rate: float) -> npt.NDArray[np.bool_]:
    """Which neurons belong to which language, bool (K, L, F). Raises StatisticsError when there are no per-text means."""
    model = statistics.model
    shape = (len(statistics.languages), *model.shape)
    scores = np.empty(shape)
    by_block = list(zip(*(model.split(own) for own in scores), strict=True))
    for layer in range(len(model.networks)):
        means = [statistics.text_means(language, layer) for language in statistics.languages]
        for language, own in zip(statistics.languages, means, strict=True):
            if not len(own) or not np.isfinite(own).all():
                raise StatisticsError(
                    f"the statistics hold no per-text means of {language} that can be used. Run `monoglot detect --per-text` "
                    "on more text."
                )
        for own, found in zip(by_block[layer], average_precision(means), strict=True):
            own[:] = found
    ranks = np.stack([rank(own.ravel()) for own in np.round(scores, DECIMALS, out=scores)])  # (K, L·F)
    best = ranks.min(axis=0)
    taken = np.argsort(best, kind="stable")[: round(rate * best.size)]
    selection = np.zeros((shape[0], best.size), np.bool_)
    selection[:, taken] = ranks[:, taken] <= best[taken].max(initial=-1)
    return selection.reshape(shape)


def average_precision(means: list[npt.NDArray[np.float32]]) -> Float64:
    """AP of each neuron for each language, (K, F), from means (texts, F) of each language's texts."""
    lengths = [len(own) for own in means]
    label = np.repeat(np.arange(len(means)), lengths)  # (N,)
    scores = np.empty((len(means), means[0].shape[1]))
    step = max(1, BLOCK // len(label))
    for at in range(0, scores.shape[1], step):
        values = np.ascontiguousarray(np.concatenate([own[:, at : at + step] for own in means]).T)  # (block, N)
        order = np.argsort(-values, axis=1, kind="stable")
        ordered = np.take_along_axis(values, order, axis=1)
        ends = np.full(ordered.shape, len(label) - 1)  # the place of the last text of the same value
        row, place = np.nonzero(ordered[:, 1:] != ordered[:, :-1])
        ends[row, place] = place
        ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        for k, count in enumerate(lengths):
            hits = label[order] == k
            precision = np.take_along_axis(hits.cumsum(axis=1, dtype=np.int32), ends, axis=1) / (ends + 1)
            scores[k, at : at + step] = (precision * hits).sum(axis=1) / count
    return scores


def rank(scores: Float64) -> Int32:
    """Rank each score by its place from the top or from the bottom, whichever is smaller, counted from 0."""
    places = np.arange(len(scores), dtype=np.int32)
    from_top, from_bottom = np.empty_like(places), np.empty_like(places)
    from_top[np.argsort(-scores, kind="stable")] = places
    from_bottom[np.argsort(scores, kind="stable")] = places
    return np.minimum(from_top, from_bottom)
