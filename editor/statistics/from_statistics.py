"""From statistics to what moves tokens and residuals: one pass over the text serves every later step.

A statistics file that is not lean (see `language_sums`) holds all that a vocabulary is made of: counts of tokens, the means
of the residual stream, and the moments and the sample that readers of languages are fitted to. So neither the text is needed
again nor the model, but its embedding table.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, StatisticsError
from ..files import kinds
from ..models.activations import functions
from ..models.target import Target, about_sampled
from . import statistics as statistics_file
from . import vocabulary as vocabulary_file
from .language_sums import LanguageSums
from .readers import Float64, Reader, fit_to_moments
from .residual import Residual
from .statistics import Statistics
from .token_counts import vocabulary_of
from .vocabulary import Vocabulary

FEWEST = 4  # positions of held-out text in a language that a reader is chosen and measured on


def open_vocabulary(path: Path, target: Target, layers: Collection[int] = ()) -> Vocabulary:
    """Open the vocabulary in a file, or make one of the statistics in it, with readers at some layers.

    Raises StatisticsError for a file that is neither, and for statistics that are of another model, or don't hold what it
    takes.
    """
    if not _is_statistics(path):
        return vocabulary_file.load(path)
    found = statistics_file.load(path)
    if found.model.fingerprint != target.fingerprint:
        raise StatisticsError(
            f"{path} is of another model: fingerprint {found.model.fingerprint[:12]}…, {target.source.name} has "
            f"{target.fingerprint[:12]}…. Run `monoglot detect` on this one.{about_sampled(target, found.model.fingerprint)}"
        )
    if found.sums is None:
        raise StatisticsError(
            f"{path} holds no counts of tokens: it was made with `lean`, or by an earlier version. Count the text with "
            "`monoglot tokens`, or make the file again with `monoglot detect`."
        )
    return from_statistics(found, target, layers)


def from_statistics(statistics: Statistics, target: Target, layers: Collection[int] = ()) -> Vocabulary:
    """Make a vocabulary of statistics that have sums, with the residual stream's means, and readers at some layers.

    There are no such means of a mixture of experts. Raises StatisticsError where there are no sums, or readers are wanted and
    the inputs were not recorded.
    """
    sums = statistics.sums
    if sums is None:
        raise StatisticsError("the statistics hold no counts of tokens. Make them again with `monoglot detect`.")
    made = vocabulary_of(target, {language: own.counts for language, own in sums.items()})
    ordered = [sums[language] for language in made.languages]
    return replace(made, residual=_residual(ordered), readers=_readers(statistics, target, layers))


def _residual(sums: list[LanguageSums]) -> Residual | None:
    sizes = [own.output_size for own in sums if own.output_size is not None]
    if len(sizes) < len(sums) or not sum(own.positions for own in sums):
        return None
    centres = np.stack([own.means[1:] for own in sums]).astype(np.float32)
    rms: Float64 = np.sum(sizes, axis=0) / sum(own.positions for own in sums)
    return Residual(centres, rms)


def _readers(statistics: Statistics, target: Target, layers: Collection[int]) -> dict[tuple[str, int], Reader]:
    """Fit a reader of every language at each of the layers."""
    if not layers:
        return {}
    if absent := [layer for layer in layers if not 0 <= layer < target.feed_forward.layers]:
        raise StatisticsError(f"there is no layer {absent[0]}: the last one is {target.feed_forward.layers - 1}.")
    inputs, sums = statistics.inputs, statistics.sums or {}
    if inputs is None or any(own.read is None for own in sums.values()):
        raise StatisticsError(
            "the statistics do not hold what the feed-forward networks read, which readers are fitted to. Make them with "
            "`monoglot detect --calibrate`, or fit readers to the text with `monoglot tokens`."
        )
    languages = sorted(sums)
    sampled = np.array(inputs.sample.languages)
    inside = inputs.sample.positions > 0  # the first token of a context reads like no other
    chosen = {language: np.flatnonzero((sampled == language) & inside) for language in languages}
    if few := [language for language, rows in chosen.items() if len(rows) < FEWEST]:
        raise StatisticsError(
            f"the statistics sampled too little held-out text in {few[0]} to choose a reader on. Add documents in {few[0]}."
        )
    acts, gated = functions(target), target.feed_forward.family.gated
    found = {}
    for layer in layers:
        moment = inputs.second_moment[layer] / inputs.tokens
        means = {k: own.read[layer] / statistics.tokens[k] for k, own in sums.items() if own.read is not None}
        x = np.asarray(inputs.sample.x[layer], np.float64)
        unseen = {language: x[rows] for language, rows in chosen.items()}
        for language in languages:
            found[language, layer] = fit_to_moments(language, moment, means, unseen, acts[layer], gated=gated)
    return found


def _is_statistics(path: Path) -> bool:
    try:
        return kinds.kind(path) == "statistics"
    except (CheckpointError, OSError):
        return False  # `vocabulary.load` says what is wrong with it
