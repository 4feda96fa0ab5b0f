"""Comparison of detection methods at the same number of neurons.

It says how many neurons each method finds, how far the methods agree, and what it does to the model when each language's
neurons are deactivated.

    overlap of methods a and b     |A ∩ B| / |A ∪ B|  (Jaccard), of their (language, neuron) pairs, and of their neurons

The comparison as plain data, which is also what the file holds, there with its format:

    {"format": 1, "model": {…}, "rate": 0.01, "quantile": 0.95,
     "methods": {"lape": {"neurons": 368, "languages": {"en": 11, …}, "settings": {…}, "perplexity": null | {…}}, …},
     "overlap": {"lape": {"lave": {"pairs": 0.41, "neurons": 0.52}, …}, …}}

with `perplexity` as `evaluate.as_data` gives it, and the overlap of two sets without neurons null.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from ..errors import StatisticsError
from ..models.identity import ModelInfo
from ..neurons.find import METHODS, find
from ..neurons.methods.variation import Variation
from ..neurons.neurons import QUANTILE, RATE, SEED, SETTINGS, THRESHOLD, Neurons
from ..statistics.statistics import Statistics
from .matrix import Matrix, as_data

FORMAT = 1  # of the file
SHARED = "edit"  # as in the paper: a deactivated language's neurons are, whoever else owns them
DECIMALS = 4


def left_out(statistics: Statistics, variation: Variation | None) -> dict[str, str]:
    """Return the methods that have nothing to find neurons in, and why."""
    why = {}
    if statistics.per_text is None:
        why["ap"] = "the statistics hold no per-text means; make them with `monoglot detect --per-text`"
    if variation is None:
        why["pv"] = "it needs tuned copies of the model; name them with `tuned`, and the base with `model`"
    return why


def find_all(
    statistics: Statistics,
    methods: Sequence[str] = (),
    *,
    variation: Variation | None = None,
    rate: float = RATE,
    quantile: float = QUANTILE,
    threshold: float = THRESHOLD,
    seed: int = SEED,
) -> dict[str, Neurons]:
    """Find the neurons by each method, by default by all that have something to find them in.

    LAP has no rate; "random" draws as many as LAPE finds. Raises StatisticsError for a method that is not known or has
    nothing to find neurons in, and what `find` raises.
    """
    why = left_out(statistics, variation)
    for method in methods:
        if method not in METHODS:
            raise StatisticsError(f"unknown method {method!r}; known: {', '.join(METHODS)}.")
        if method in why:
            raise StatisticsError(f"{method} can't be compared: {why[method]}.")
    found: dict[str, Neurons] = {}
    for method in methods or [name for name in METHODS if name not in why]:
        found[method] = find(
            variation if method == "pv" else statistics, method, rate=rate, quantile=quantile, threshold=threshold,
            seed=seed, like=found.get("lape"), statistics=statistics,
        )  # fmt: skip
    return found


def comparison(
    model: ModelInfo,
    sets: Mapping[str, Neurons],
    *,
    rate: float,
    quantile: float,
    matrices: Mapping[str, Matrix] | None = None,
) -> dict[str, Any]:
    """Return what the methods found, as plain data (see above)."""
    measured = matrices or {}
    owned = {method: {language: own.pairs(language) for language in own.languages} for method, own in sets.items()}
    return {
        "model": model.to_data(),
        "rate": rate,
        "quantile": quantile,
        "methods": {
            method: {
                "neurons": len(set().union(*by_language.values())),
                "languages": {language: len(own) for language, own in by_language.items()},
                "settings": {
                    name: value for name, value in sets[method].method.items() if name in SETTINGS.get(method, ())
                },
                "perplexity": as_data(measured[method], SHARED) if method in measured else None,
            }
            for method, by_language in owned.items()
        },
        "overlap": {
            one: {other: _overlap(own, theirs) for other, theirs in owned.items() if other != one}
            for one, own in owned.items()
        },
    }


def _overlap(
    one: Mapping[str, Set[tuple[int, int]]], other: Mapping[str, Set[tuple[int, int]]]
) -> dict[str, float | None]:
    pairs = [{(language, *pair) for language, own in by.items() for pair in own} for by in (one, other)]
    neurons = [set().union(*by.values()) for by in (one, other)]
    return {"pairs": _jaccard(*pairs), "neurons": _jaccard(*neurons)}


def _jaccard(one: Set[Any], other: Set[Any]) -> float | None:
    return round(len(one & other) / len(one | other), DECIMALS) if one or other else None
