"""Finding the neurons of each language: one method a module, one interface.

A method takes statistics and returns which neurons belong to which language, as a bool array (languages, layers, width).
"""

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..errors import MonoglotWarning, StatisticsError
from ..neurons import DECIMALS, Float64, Int64, Neurons
from ..statistics import Statistics
from .lape import lape

Selection = npt.NDArray[np.bool_]
METHODS: dict[str, Callable[[Statistics, float, float], Selection]] = {"lape": lape}


def find(statistics: Statistics, method: str = "lape", *, rate: float = 0.01, quantile: float = 0.95) -> Neurons:
    """The neurons of each language by `method`, with the mean activation of each on its language's text, and median and
    90th percentile where the statistics have histograms.

    `rate` is the share of all neurons to take, `quantile` that of the bar which an activation probability must pass.
    Raises StatisticsError when there are fewer than two languages, a setting is out of (0, 1), or the rate is too small
    for a single neuron. Warns (MonoglotWarning) when fewer neurons pass the bar than the rate asks for, and of languages
    left with none.
    """
    if method not in METHODS:
        raise StatisticsError(f"unknown method {method!r}; known: {', '.join(METHODS)}.")
    if len(statistics.languages) < 2:
        raise StatisticsError(
            "a language's neurons are found against other languages: the statistics need at least two, they have "
            f"{', '.join(statistics.languages)}. Run `monoglot detect` on more."
        )
    for name, value in (("rate", rate), ("quantile", quantile)):
        if not 0 < value < 1:
            raise StatisticsError(f"{name} is {value}; it must lie between 0 and 1.")
    neurons = statistics.model.layers * statistics.model.width
    wanted = round(rate * neurons)
    if not wanted:
        raise StatisticsError(f"a rate of {rate:g} takes none of {neurons:,} neurons. Raise --rate.")
    selection = METHODS[method](statistics, rate, quantile)  # (K, L, F)
    taken = int(selection.any(axis=0).sum())
    if taken < wanted:
        warnings.warn(
            f"only {taken:,} neurons are active often enough, a rate of {rate:g} asks for {wanted:,}. "
            "Lower --quantile to let more of them pass.",
            MonoglotWarning,
            stacklevel=2,
        )
    if taken and (empty := [k for k, own in zip(statistics.languages, selection, strict=True) if not own.any()]):
        warnings.warn(
            f"no neurons found for {', '.join(empty)}. Raise --rate, or read more text.", MonoglotWarning, stacklevel=2
        )
    indices = {
        language: tuple(np.flatnonzero(layer).astype(np.int64, copy=False) for layer in selection[k])
        for k, language in enumerate(statistics.languages)
    }
    values = {"mean": _at(indices, statistics.mean)}
    if statistics.histogram is not None:
        values["median"] = _at(indices, lambda language: statistics.quantile(language, 0.5))
        values["p90"] = _at(indices, lambda language: statistics.quantile(language, 0.9))
    for language in statistics.languages:
        mean = statistics.mean(language)
        values[f"mean@{language}"] = _at(indices, lambda _, mean=mean: mean)  # type: ignore[misc]
    return Neurons(
        indices,
        values,
        statistics.model,
        {
            "name": method,
            "rate": rate,
            "quantile": quantile,
            "tokens": dict(statistics.tokens),
            "texts": {language: list(hashes) for language, hashes in statistics.texts.items()},
        },
        _spare(statistics, np.asarray(selection.any(axis=0))),
    )


def _spare(statistics: Statistics, taken: npt.NDArray[np.bool_]) -> tuple[Int64, ...]:
    """In each layer the neurons that are least often active in any language, as many as the languages have there; `taken`,
    bool (layers, width), are those that languages have."""
    highest = np.zeros(taken.shape)
    for language in statistics.languages:
        np.maximum(highest, statistics.probability(language), out=highest)
    highest[taken] = np.inf
    order = np.argsort(highest, axis=1, kind="stable")
    return tuple(row[: min(count, len(row) - count)] for row, count in zip(order, taken.sum(axis=1), strict=True))


def _at(indices: dict[str, tuple[Int64, ...]], statistic: Callable[[str], Float64]) -> dict[str, tuple[Float64, ...]]:
    """`statistic(language)`, (layers, width), at each language's neurons, to as many decimals as their file has."""
    return {
        language: tuple(np.round(row[layer], DECIMALS) for row, layer in zip(statistic(language), layers, strict=True))
        for language, layers in indices.items()
    }
