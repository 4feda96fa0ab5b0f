"""Vocabularies that are kept in a file: counted, and what else an edit needs is taken from there while it still fits.

The means of the residual stream, and readers, come from the statistics of the same text, if there are any beside; else the
model runs for them. What the output table is given it always runs for.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import StatisticsError
from ..models.target import Target
from ..progress import NOBODY, Listener
from ..text.corpus import Text
from . import statistics as statistics_file
from . import vocabulary as vocabulary_file
from .detection import Detection
from .from_statistics import from_statistics
from .record_outputs import record_outputs
from .record_readers import record_readers
from .record_residual import record_residual
from .token_counts import TOKENS, learn
from .vocabulary import Vocabulary

OUTPUTS, RESIDUAL = "outputs", "residual"  # parts of a vocabulary that the model runs for


def count_or_reuse(target: Target, texts: Mapping[str, Text], path: Path, minimum: int) -> Vocabulary:
    """Return what is kept in `path`, if it is of the same counts, else the counts.

    The tokens are counted in any case, as that takes no longer than seeing whether the texts are the same. Raises what
    `learn` raises.
    """
    counted = learn(target, texts, tokens=TOKENS, minimum=minimum)
    if path.is_file():
        with contextlib.suppress(StatisticsError):
            kept = vocabulary_file.load(path)
            return kept if _counts(kept) == _counts(counted) else counted
    return counted


def complete(
    vocabulary: Vocabulary,
    target: Target,
    texts: Mapping[str, Text],
    detection: Detection,
    *,
    parts: Sequence[str] = (),
    layers: Sequence[int] = (),
    statistics: Path | None = None,
    listener: Listener = NOBODY,
) -> Vocabulary:
    """Add what is missing of the `parts`, and of readers at `layers`: where it can, from `statistics` of the same texts.

    Raises what `record_outputs`, `record_residual` and `record_readers` raise.
    """
    layers = [layer for layer in layers if (vocabulary.languages[0], layer) not in vocabulary.readers]
    parts = [part for part in parts if getattr(vocabulary, part) is None]
    if statistics and (layers or RESIDUAL in parts):
        vocabulary = _from_file(vocabulary, target, statistics, RESIDUAL in parts, layers)
        layers = [layer for layer in layers if (vocabulary.languages[0], layer) not in vocabulary.readers]
        parts = [part for part in parts if getattr(vocabulary, part) is None]
    runs: dict[str, Callable[..., Any]] = {OUTPUTS: record_outputs, RESIDUAL: record_residual}
    for part in parts:
        with listener.stage(part, "texts") as update:
            made: dict[str, Any] = {
                part: runs[part](
                    target, texts, device=detection.device, dtype=detection.dtype, streaming=detection.streaming,
                    progress=update,
                )
            }  # fmt: skip
        vocabulary = replace(vocabulary, **made)
    if layers:
        with listener.stage("readers", "texts") as update:
            readers = record_readers(
                target, texts, layers, device=detection.device, dtype=detection.dtype, streaming=detection.streaming,
                progress=update,
            )  # fmt: skip
        vocabulary = replace(vocabulary, readers={**vocabulary.readers, **readers})
    return vocabulary


def _from_file(vocabulary: Vocabulary, target: Target, path: Path, residual: bool, layers: Sequence[int]) -> Vocabulary:
    """Take from statistics of the same model and texts what they have; of others nothing."""
    if not path.is_file():
        return vocabulary
    with contextlib.suppress(StatisticsError):  # the model runs instead
        statistics = statistics_file.load(path)
        if statistics.model.fingerprint != target.fingerprint or statistics.sums is None:
            return vocabulary
        made = from_statistics(statistics, target)
        if _counts(made) != _counts(vocabulary):
            return vocabulary
        if residual and made.residual:
            vocabulary = replace(vocabulary, residual=made.residual)
        if layers and statistics.inputs:
            found = from_statistics(statistics, target, layers).readers
            vocabulary = replace(vocabulary, readers={**vocabulary.readers, **found})
    return vocabulary


def _counts(vocabulary: Vocabulary) -> bytes:
    return vocabulary_file.serialise(replace(vocabulary, outputs=None, residual=None, readers={}))
