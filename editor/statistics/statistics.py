"""Activation statistics: how often each neuron is active on text in each language, and how strongly.

Over the n_k counted tokens of language k, for neuron j of layer i (a_ij is the output of the activation function):

    active_count^k_ij = #{tokens: a_ij > 0}      int64, exact
    total^k_ij        = Σ a_ij                   float64

so that p^k_ij = active_count / n_k and m^k_ij = total / n_k. Both are additive. To make addition of the sums exact too,
and so independent of order, the sum over a batch is rounded to a multiple of 2⁻²⁰ before it is added: float64 holds such
numbers exactly up to 8·10⁹. Merging in any order, interrupted runs and any number of workers therefore give the same bits
(as long as the forward pass does: matrix products may round otherwise on another device, or with more threads).

They hold what later steps need too: counts of tokens and sums of the residual stream (see `language_sums`), and what the
feed-forward networks read (see `inputs`). On request there are histograms of the activations (see `histogram`) and the
means over single texts (see `per_text`).
"""

import json
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import MonoglotWarning, StatisticsError
from ..files import kinds
from ..files.array_file import ArrayFile
from ..files.array_pieces import Stacked, pieces
from ..files.output import replace_file
from ..files.schema import Count, Size
from ..models.identity import ModelInfo
from ..text.languages import Code
from . import histogram as histograms
from . import inputs as inputs_file
from . import language_sums
from . import per_text as per_texts
from .histogram import BINS, UInt32
from .inputs import Inputs
from .language_arrays import LanguageArrays
from .language_sums import LanguageSums
from .per_text import Float32

FORMAT = 1
METADATA = kinds.METADATA["statistics"]  # the key of the file's metadata
ARRAYS = ArrayFile(
    "statistics", FORMAT, "statistics file", "Make one with `monoglot detect`.", "run `monoglot detect` again"
)
SUM_GRID = 2.0**20

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Part = TypeVar("Part")


@dataclass(frozen=True)
class Statistics:
    """The statistics of a model on text in several languages.

    Per language: counted tokens, active_count int64 (layers, width), total float64 (layers, width), and the sha256 of
    each text that went in. Where the model's blocks are not alike, (neurons,) stands for (layers, width). Of a mixture of
    experts also `routed`, int64 (blocks,): how many tokens went through each block. Where they were asked for: histogram
    uint32 (layers, width, BINS), and per_text float32 (texts, layers, width); unless they are lean, `sums` and `inputs`.
    `versions` are those of the packages that computed them; a file of an earlier version has none.

    Loaded ones read an array from the file each time it is asked for: those of a large model in many languages take
    gigabytes, and are needed one at a time.
    """

    model: ModelInfo
    tokens: dict[str, int]
    active_count: Mapping[str, Int64]
    total: Mapping[str, Float64]
    texts: dict[str, tuple[str, ...]]
    settings: dict[str, Any] = field(default_factory=dict)
    histogram: Mapping[str, UInt32] | None = None
    inputs: Inputs | None = None
    per_text: Mapping[str, Float32] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    routed: Mapping[str, Int64] | None = None
    sums: Mapping[str, LanguageSums] | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.tokens)

    def probability(self, language: str, *, routed: bool = True) -> Float64:
        """p^k_ij, (layers, width) in [0, 1]: how often the neuron is active on the tokens that go through its block.

        With routed=False on all tokens, so that one which goes to another expert counts as inactive.
        """
        tokens = self.tokens_of(language) if routed else self.tokens[language]
        found: Float64 = self.active_count[language] / np.maximum(tokens, 1)
        return found

    def mean(self, language: str) -> Float64:
        """m^k_ij, (layers, width), over the tokens that go through the neuron's block."""
        found: Float64 = self.total[language] / np.maximum(self.tokens_of(language), 1)
        return found

    def tokens_of(self, language: str) -> Any:
        """How many tokens went through each neuron's block: a number, or int64 (neurons,) in a mixture of experts."""
        if self.routed is None:
            return self.tokens[language]
        return np.repeat(self.routed[language], [block.width for block in self.model.blocks])

    def without(self, names: Collection[str]) -> "Statistics":
        """Leave out some of the blocks of a model whose blocks are not alike, and the histograms."""
        blocks = [block for block in self.model.blocks if block.name not in names]
        there = np.array([block.name not in names for block in self.model.blocks])
        neurons = np.repeat(there, [block.width for block in self.model.blocks])
        model = replace(self.model, blocks=tuple(blocks), width=max(block.width for block in blocks))
        return replace(
            self,
            model=model,
            active_count={language: self.active_count[language][neurons] for language in self.languages},
            total={language: self.total[language][neurons] for language in self.languages},
            histogram=None,
            per_text=self.per_text and {name: self.per_text[name][:, neurons] for name in self.languages},
            routed=self.routed and {language: self.routed[language][there] for language in self.languages},
        )

    def quantile(self, language: str, q: float) -> Float64:
        """Return the round(q · n_k)-th smallest a_ij, (layers, width), as exact as `histogram` says.

        Raises StatisticsError when there are no histograms, or q is not in [0, 1].
        """
        if self.histogram is None:
            raise StatisticsError("the statistics hold no histograms. Make them with `monoglot detect --quantiles`.")
        if not 0 <= q <= 1:
            raise StatisticsError(f"there is no {q}-quantile; it must lie between 0 and 1.")
        found = [histograms.quantile(block, q) for block in self.model.split(self.histogram[language])]
        return np.concatenate(found).reshape(self.model.shape)

    def text_means(self, language: str, layer: int) -> Float32:
        """Return the mean activation over each text, (texts, width); of loaded statistics no other layer is read.

        Raises StatisticsError when there are no per-text means.
        """
        if self.per_text is None:
            raise StatisticsError("the statistics hold no per-text means. Make them with `monoglot detect --per-text`.")
        if self.model.blocks:
            begin = sum(block.width for block in self.model.blocks[:layer])
            return self.per_text[language][:, begin : begin + self.model.blocks[layer].width]
        if isinstance(self.per_text, LanguageArrays):
            return self.per_text.layer(language, layer)
        return self.per_text[language][:, layer]


def save(statistics: Statistics, path: Path) -> None:
    """Write statistics as safetensors, aside first and renamed at the end. The same statistics give the same bytes."""
    arrays: dict[str, npt.NDArray[Any] | Stacked] = {}
    for language in statistics.languages:
        arrays[f"{language}.active_count"] = statistics.active_count[language]
        arrays[f"{language}.total"] = statistics.total[language]
        if statistics.routed is not None:
            arrays[f"{language}.routed"] = statistics.routed[language]
        if statistics.histogram is not None:
            arrays[f"{language}.histogram"] = statistics.histogram[language]
        if statistics.per_text is not None:
            arrays[f"{language}.per_text"] = statistics.per_text[language]
    head: dict[str, Any] = {
        "version": FORMAT,
        "model": statistics.model.to_data(),
        "tokens": statistics.tokens,
        "texts": statistics.texts,
        "settings": statistics.settings,
        "versions": statistics.versions,
    }
    if statistics.histogram is not None:
        head["bins"] = BINS
    if statistics.per_text is not None:
        head["per_text"] = {language: arrays[f"{language}.per_text"].shape[0] for language in statistics.languages}
    if statistics.sums is not None:
        head["sums"] = {}
        for language in statistics.languages:
            more, head["sums"][language] = language_sums.to_arrays(language, statistics.sums[language])
            arrays |= more
    if statistics.inputs is not None:
        read, head["inputs"] = inputs_file.to_arrays(statistics.inputs)
        arrays |= read
    # one key: safetensors writes several in an order that differs from run to run
    replace_file(path, pieces(arrays, {METADATA: json.dumps(head)}))


@dataclass(frozen=True)
class _Head:
    """What the metadata of a file says."""

    version: int
    model: dict[str, Any]  # which ModelInfo reads
    tokens: dict[Code, Size]
    texts: dict[Code, tuple[str, ...]]
    settings: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    bins: int | None = None
    per_text: dict[str, Count] | None = None
    inputs: inputs_file.Head | None = None
    sums: dict[Code, language_sums.Head] | None = None


def load(path: Path) -> Statistics:
    """Read a statistics file. Raises StatisticsError when it is not one, is damaged, or of an unknown format."""
    with ARRAYS.reading(path, _Head) as (head, file):
        model, tokens = ModelInfo.of_data(head.model), head.tokens
        texts = {language: head.texts[language] for language in tokens}
        for language in tokens:
            shape = list(model.shape)
            arrays = [("active_count", "I64", shape), ("total", "F64", shape)]
            if model.mixture:
                arrays.append(("routed", "I64", [len(model.blocks)]))
            if head.bins is not None:
                arrays.append(("histogram", "U32", [*shape, BINS]))
            if head.per_text is not None:
                arrays.append(("per_text", "F32", [head.per_text[language], *shape]))
            for kind, dtype, expected in arrays:
                found = file.get_slice(f"{language}.{kind}")
                if (found.get_dtype(), found.get_shape()) != (dtype, expected):
                    raise ValueError(f"{language}.{kind} is {found.get_dtype()} of shape {found.get_shape()}")
        networks = len(model.networks)
        inputs = inputs_file.from_file(path, file, head.inputs, networks) if head.inputs is not None else None
        if head.sums is not None and head.sums.keys() != tokens.keys():
            raise ValueError("it has sums of other languages than it has tokens of")
        sums = language_sums.from_file(file, head.sums, networks) if head.sums is not None else None
    return Statistics(
        model,
        tokens,
        LanguageArrays(path, "active_count", tokens),
        LanguageArrays(path, "total", tokens),
        texts,
        head.settings,
        LanguageArrays(path, "histogram", tokens) if head.bins is not None else None,
        inputs,
        LanguageArrays(path, "per_text", tokens) if head.per_text is not None else None,
        head.versions,
        LanguageArrays(path, "routed", tokens) if model.mixture else None,
        sums,
    )


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of the union of the texts, in any order the same.

    Raises StatisticsError when they are of different models, or when a text is in two of them. Histograms, inputs, sums, and
    per-text means are kept when all parts have them; warns (MonoglotWarning) when only some do.
    """
    first = min((part.model for part in parts), key=lambda model: (model.name, model.revision or ""))
    tokens: dict[str, int] = {}
    active: dict[str, Int64] = {}
    total: dict[str, Float64] = {}
    texts: dict[str, tuple[str, ...]] = {}
    routed: dict[str, Int64] = {}
    for part in parts:
        if part.model.fingerprint != first.fingerprint:
            raise StatisticsError(
                f"statistics of different models can't be added: those of {first.name} ({first.fingerprint[:12]}…) and of "
                f"{part.model.name} ({part.model.fingerprint[:12]}…)."
            )
        for language in part.languages:
            if set(part.texts[language]) & set(texts.get(language, ())):
                raise StatisticsError(
                    f"the same {language} text is in two of the files, and would count twice. Leave one of them out."
                )
            if part.routed is not None:
                routed[language] = part.routed[language] + routed.get(language, 0)
            if language in tokens:
                tokens[language] += part.tokens[language]
                active[language] = active[language] + part.active_count[language]
                total[language] = total[language] + part.total[language]
                texts[language] = tuple(sorted(texts[language] + part.texts[language]))
            else:
                tokens[language] = part.tokens[language]
                active[language], total[language] = part.active_count[language], part.total[language]
                texts[language] = part.texts[language]
    order = sorted(tokens)
    histogram = _together("histograms", "monoglot detect --quantiles`", [part.histogram for part in parts])
    inputs = _together("inputs", "monoglot detect --calibrate`", [part.inputs for part in parts])
    per_text = _together("per-text means", "monoglot detect --per-text`", [part.per_text for part in parts])
    sums = _together(
        "counts of tokens and sums of the residual", "monoglot detect` without --lean", [part.sums for part in parts]
    )
    settings = parts[0].settings if all(part.settings == parts[0].settings for part in parts) else {}
    versions = parts[0].versions if all(part.versions == parts[0].versions for part in parts) else {}
    return Statistics(
        first,
        {language: tokens[language] for language in order},
        {language: active[language] for language in order},
        {language: total[language] for language in order},
        {language: texts[language] for language in order},
        settings,
        {language: _sum(part[language] for part in histogram if language in part) for language in order}
        if histogram
        else None,
        inputs_file.add(inputs) if inputs else None,
        {language: per_texts.join([part[language] for part in per_text if language in part]) for language in order}
        if per_text
        else None,
        versions,
        {language: routed[language] for language in order} if routed else None,
        {language: language_sums.add([part[language] for part in sums if language in part]) for language in order}
        if sums
        else None,
    )


def _together(what: str, command: str, found: Sequence[Part | None]) -> list[Part]:
    """All of them, or none when one lacks them."""
    there = [part for part in found if part is not None]
    if there and len(there) < len(found):
        warnings.warn(
            f"only {len(there)} of {len(found)} statistics have {what}, so their sum has none. "
            f"Run `{command} for all of them.",
            MonoglotWarning,
            stacklevel=3,
        )
        return []
    return there


def _sum(arrays: Iterable[UInt32]) -> UInt32:
    first, *others = arrays
    whole: UInt32 = first.copy()
    for other in others:
        whole += other
    return whole
