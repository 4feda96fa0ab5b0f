"""Finding the neurons of each language: one method a module, one interface.

A method takes what it reads, statistics of activations or (PV) the variation of parameters, and the settings that it has,
by name, and returns which neurons belong to which language, as a bool array (languages, layers, width).
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MonoglotWarning, StatisticsError
from ..models.identity import ModelInfo
from ..statistics.statistics import Statistics
from .experts import find_experts
from .methods.ap import ap
from .methods.lap import lap
from .methods.lape import lape
from .methods.lave import lave
from .methods.pv import pv
from .methods.random import draw
from .methods.variation import Variation
from .neurons import (
    DECIMALS,
    QUANTILE,
    RATE,
    SEED,
    SETTINGS,
    THRESHOLD,
    Float64,
    Int64,
    Neurons,
    check_fit,
    check_languages,
)

Selection = npt.NDArray[np.bool_]
METHODS: dict[str, Callable[..., Selection]] = {
    "lape": lape, "lap": lap, "lave": lave, "pv": pv, "ap": ap, "random": draw
}  # fmt: skip
FEWEST_ROUTED = 100  # tokens an expert must be given in each language
SHARES = ("rate", "quantile", "threshold")  # settings that lie between 0 and 1


def find(
    source: Statistics | Variation | None,
    method: str = "lape",
    *,
    rate: float = RATE,
    quantile: float = QUANTILE,
    threshold: float = THRESHOLD,
    seed: int = SEED,
    like: Neurons | None = None,
    statistics: Statistics | None = None,
    joint: bool = False,
    fewest: int = FEWEST_ROUTED,
) -> Neurons:
    """Find the neurons of each language by `method`, with their mean activation on text of that language.

    Median and 90th percentile are there too where the statistics have histograms.

    `source` is what the method reads: a Variation for "pv", Statistics for the others. `rate` is the share of all neurons to
    take. `quantile` sets the bar that a neuron must pass. `threshold` is the probability of LAP. "random" draws with `seed`,
    as many neurons as `like` has; without `like`, as many as LAPE finds at this rate and quantile. Settings of other methods
    are ignored. Neurons found in a Variation have values and spare neurons only where `statistics` of the same model are
    given.

    In a mixture of experts a neuron's probability and mean are those on the tokens that its expert was given, and experts
    that were given fewer than `fewest` in some language are left out (`method["left_out"]` names them); with `joint` they
    are those on all tokens, a token that goes elsewhere counting as inactive, so that whole experts can be a language's.

    Raises StatisticsError when there are fewer than two languages, a setting is out of (0, 1), the rate is too small for a
    single neuron, or the statistics don't hold what is needed; NeuronsError when `like` doesn't fit. Warns (MonoglotWarning)
    when fewer neurons pass the bar than the rate asks for, and when a language is left with none.
    """
    if method not in METHODS:
        raise StatisticsError(f"unknown method {method!r}; known: {', '.join(METHODS)}.")
    if source is None or isinstance(source, Variation) != (method == "pv"):
        reads = "the variation of parameters" if method == "pv" else "statistics"
        raise StatisticsError(f"{method} finds neurons in {reads}, which were not given.")
    known = source if isinstance(source, Statistics) else statistics
    _check_source(source, known)
    given = {"rate": rate, "quantile": quantile, "threshold": threshold, "seed": seed, "like": like}
    if "like" in SETTINGS[method]:
        given["like"] = like = like or find(source, rate=rate, quantile=quantile, joint=joint, fewest=fewest)
        check_fit(like, source.model.layers, source.model.width, source.model.name, source.model.blocks)
        check_languages(like, source.languages)
    settings = {name: given[name] for name in SETTINGS[method]}
    read, left_out = _to_read(source, joint, fewest if method != "random" else 0)
    wanted = _wanted(read, settings)
    selection = METHODS[method](read, **settings)  # (K, L, F)
    _warn(source, method, rate, wanted, selection)
    if left_out:
        selection = _whole(selection, source.model, left_out)
    indices = {
        language: tuple(
            np.flatnonzero(layer).astype(np.int64, copy=False) for layer in source.model.split(selection[k])
        )
        for k, language in enumerate(source.languages)
    }
    about: dict[str, Any] = {
        name: _method_of(value) if isinstance(value, Neurons) else value for name, value in settings.items()
    }
    if source.model.mixture and isinstance(source, Statistics):
        about |= {"probability": "of all tokens" if joint else "of the expert's tokens", "left_out": list(left_out)}
    own = find_experts(source, rate=rate, quantile=quantile) if isinstance(source, Statistics) else {}
    found = Neurons(indices, {}, source.model, {"name": method, **about}, experts=own)
    return _known(found, known, np.asarray(selection.any(axis=0))) if known else found


def _check_source(source: Statistics | Variation, known: Statistics | None) -> None:
    if len(source.languages) < 2:
        raise StatisticsError(
            "a language's neurons are found against other languages: the statistics need at least two, they have "
            f"{', '.join(source.languages)}. Run `monoglot detect` on more."
        )
    if known and known.model.fingerprint != source.model.fingerprint:
        raise StatisticsError(
            f"the statistics are of another model ({known.model.name}) than the base ({source.model.name}). "
            "Run `monoglot detect` on the base."
        )
    if known and (missing := [language for language in source.languages if language not in known.languages]):
        raise StatisticsError(
            f"the statistics have no {', '.join(missing)}; they have {', '.join(known.languages)}. "
            "Run `monoglot detect` on more."
        )


def _to_read(source: Statistics | Variation, joint: bool, fewest: int) -> tuple[Any, tuple[str, ...]]:
    """Return what a method reads, and the names of the blocks that are left out.

    Of a mixture of experts it is statistics without the blocks that were given too few tokens; or all of it, counted on
    all tokens.
    """
    if not isinstance(source, Statistics) or source.routed is None:
        return source, ()
    if joint:
        return replace(source, routed=None), ()
    fewest_seen = np.min([source.routed[language] for language in source.languages], axis=0)
    left_out = tuple(
        block.name
        for block, tokens in zip(source.model.blocks, fewest_seen, strict=True)
        if block.expert and tokens < fewest
    )
    if len(left_out) == len(source.model.blocks):
        raise StatisticsError(
            f"every expert was given fewer than {fewest} tokens in some language. Run `monoglot detect` on more text."
        )
    return (source.without(left_out) if left_out else source), left_out


def _whole(selection: Selection, model: ModelInfo, left_out: tuple[str, ...]) -> Selection:
    """Return a selection among the blocks that were read as one among all."""
    there = np.repeat([block.name not in left_out for block in model.blocks], [block.width for block in model.blocks])
    whole = np.zeros((len(selection), *model.shape), np.bool_)
    whole[:, there] = selection
    return whole


def _wanted(source: Statistics | Variation, settings: dict[str, Any]) -> int | None:
    """How many neurons the rate asks for, None where a method has no rate."""
    for name in SHARES:
        if name in settings and not 0 < settings[name] < 1:
            raise StatisticsError(f"{name} is {settings[name]}; it must lie between 0 and 1.")
    if "rate" not in settings:
        return None
    neurons = source.model.neurons
    wanted: int = round(settings["rate"] * neurons)
    if not wanted:
        raise StatisticsError(f"a rate of {settings['rate']:g} takes none of {neurons:,} neurons. Raise `rate`.")
    return wanted


def _warn(source: Statistics | Variation, method: str, rate: float, wanted: int | None, selection: Selection) -> None:
    taken = int(selection.any(axis=0).sum())
    if wanted and taken < wanted:
        warnings.warn(
            f"only {taken:,} neurons pass the bar of {method}, a rate of {rate:g} asks for {wanted:,}. "
            "Lower `quantile` to let more of them pass.",
            MonoglotWarning,
            stacklevel=3,
        )
    empty = [language for language, own in zip(source.languages, selection, strict=True) if not own.any()]
    if empty and (taken or not wanted):
        more = ", or read more text" if isinstance(source, Statistics) else ""
        next_step = f"Raise `rate`{more}" if wanted else "Lower `threshold`"
        warnings.warn(f"{method} finds no neurons for {', '.join(empty)}. {next_step}.", MonoglotWarning, stacklevel=3)


def _method_of(neurons: Neurons) -> dict[str, Any]:
    """How a set that others are counted like was found; one that was drawn itself is counted like its own."""
    about: dict[str, Any] = {name: value for name, value in neurons.method.items() if name not in ("tokens", "texts")}
    like: dict[str, Any] = about.get("like", about)
    return like


def _known(found: Neurons, statistics: Statistics, taken: npt.NDArray[np.bool_]) -> Neurons:
    """Add to neurons what the statistics know of them."""
    indices = found.indices
    model = statistics.model
    values = {"mean": _at(indices, statistics.mean, model)}
    if statistics.histogram is not None:
        values["median"] = _at(indices, lambda language: statistics.quantile(language, 0.5), model)
        values["p90"] = _at(indices, lambda language: statistics.quantile(language, 0.9), model)
    for language in statistics.languages:
        mean = statistics.mean(language)
        values[f"mean@{language}"] = _at(indices, lambda _, mean=mean: mean, model)  # type: ignore[misc]
    texts = {language: list(hashes) for language, hashes in statistics.texts.items()}
    method = {**found.method, "tokens": dict(statistics.tokens), "texts": texts}
    return replace(found, values=values, method=method, spare=_spare(statistics, taken))


def _spare(statistics: Statistics, taken: npt.NDArray[np.bool_]) -> tuple[Int64, ...]:
    """Choose in each layer the neurons that are least often active in any language.

    There are as many as the languages have in that layer. `taken`, bool (layers, width), marks the languages' own neurons.
    """
    model = statistics.model
    highest = np.zeros(taken.shape)
    for language in statistics.languages:
        np.maximum(highest, statistics.probability(language), out=highest)
    highest[taken] = np.inf
    orders = [np.argsort(block, kind="stable") for block in model.split(highest)]
    counts = [int(block.sum()) for block in model.split(taken)]
    return tuple(row[: min(count, len(row) - count)] for row, count in zip(orders, counts, strict=True))


def _at(
    indices: dict[str, tuple[Int64, ...]], statistic: Callable[[str], Float64], model: ModelInfo
) -> dict[str, tuple[Float64, ...]]:
    """`statistic(language)`, (layers, width), at each language's neurons, to as many decimals as their file has."""
    return {
        language: tuple(
            np.round(row[layer], DECIMALS) for row, layer in zip(model.split(statistic(language)), layers, strict=True)
        )
        for language, layers in indices.items()
    }
