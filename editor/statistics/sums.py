"""The sums that a run adds up: how they begin, how workers add theirs together, and what becomes of them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import StatisticsError
from ..models.identity import ModelInfo
from ..text.tokens import Packed
from ..version import versions
from .histogram import BINS
from .inputs import Inputs, Sample
from .language_sums import LanguageSums, TokenCounts, positions_of
from .per_text import Piece
from .resume import Arrays
from .statistics import Int64, Statistics

MOMENTS = ("second_moment", "first_moment", "first_token")


def zeros(
    info: ModelInfo,
    texts: Mapping[str, Packed],
    *,
    quantiles: bool,
    pieces: Mapping[str, Sequence[Piece]] | None,
    hidden: int | None,
    residual: tuple[int, int, bool] | None = None,
) -> Arrays:
    """Return the sums before the first batch: what `Resume` keeps.

    `pieces` are those of each language where means over single texts are asked for; `hidden` is the width of the residual
    stream where inputs are; `residual` is how many layers there are, its width, and whether each has a network that is no
    mixture, where that stream is summed up.
    """
    shape = info.shape
    sums: Arrays = {}
    for name in texts:
        sums[f"{name}.active_count"] = np.zeros(shape, np.int64)
        sums[f"{name}.total"] = np.zeros(shape, np.float64)
        if info.mixture:
            sums[f"{name}.routed"] = np.zeros(len(info.blocks), np.int64)
        if quantiles:
            sums[f"{name}.histogram"] = np.zeros((*shape, BINS), np.uint32)
        if residual:
            layers, width, sized = residual
            sums[f"{name}.residual"] = np.zeros((layers + 1, width))
            if sized:
                sums[f"{name}.output_size"] = np.zeros(layers)
            if hidden is not None:
                sums[f"{name}.read"] = np.zeros((len(info.networks), hidden))
        if pieces is not None:
            sums[f"{name}.per_text"] = np.zeros((len(pieces[name]), *shape), np.float32)
    if hidden is not None:
        count = len(info.networks)
        shapes = ((count, hidden, hidden), (count, hidden), (count, hidden))
        sums |= {f"inputs.{kind}": np.zeros(shape) for kind, shape in zip(MOMENTS, shapes, strict=True)}
    return sums


def result(
    info: ModelInfo,
    texts: Mapping[str, Packed],
    sums: Arrays,
    settings: Mapping[str, Any] | None,
    sample: Sample | None,
    counted: Mapping[str, TokenCounts] | None = None,
) -> Statistics:
    """Make statistics of the sums that `zeros` began."""

    def of(kind: str) -> dict[str, Any] | None:
        return {name: sums[f"{name}.{kind}"] for name in texts} if f"{next(iter(texts))}.{kind}" in sums else None

    return Statistics(
        info,
        {name: packed.tokens for name, packed in texts.items()},
        {name: sums[f"{name}.active_count"] for name in texts},
        {name: sums[f"{name}.total"] for name in texts},
        {name: (packed.sha256,) for name, packed in texts.items()},
        dict(settings or {}),
        of("histogram"),
        _inputs(sums, texts, sample) if sample else None,
        of("per_text"),
        versions(),
        {name: _ran(info, sums[f"{name}.routed"], packed.tokens) for name, packed in texts.items()}
        if info.mixture
        else None,
        {name: _language(sums, name, packed, counted[name]) for name, packed in texts.items()} if counted else None,
    )


def _language(sums: Arrays, name: str, packed: Packed, counts: TokenCounts) -> LanguageSums:
    return LanguageSums(
        {counts.sha256: counts},
        positions_of(packed),
        sums[f"{name}.residual"],
        sums.get(f"{name}.output_size"),
        sums.get(f"{name}.read"),
    )


def _ran(info: ModelInfo, routed: Int64, tokens: int) -> Int64:
    """How many tokens went through each block: all, or those that were sent to an expert."""
    return np.where([block.expert for block in info.blocks], routed, tokens)


def _inputs(sums: Arrays, texts: Mapping[str, Packed], sample: Sample) -> Inputs:
    second, first, begin = (sums[f"inputs.{kind}"] for kind in MOMENTS)
    tokens = sum(packed.tokens for packed in texts.values())
    contexts = sum(len(packed.contexts) for packed in texts.values() if packed.skip)
    return Inputs(tokens, second, first, contexts, begin, sample)


def workers() -> tuple[int, int]:
    """(rank, world size): (0, 1) unless torch.distributed runs."""
    if "RANK" not in os.environ:
        return 0, 1
    import torch.distributed as dist

    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def add_up(sums: Arrays) -> None:
    """Add up over all workers, in place, on the CPU: Apple's GPUs have no float64.

    Unsigned counts are added as signed ones, which gives the same bits.
    """
    import torch
    import torch.distributed as dist

    for array in sums.values():
        signed = array.view(np.int32) if array.dtype == np.uint32 else array
        try:
            dist.all_reduce(torch.from_numpy(signed))
        except RuntimeError:
            raise StatisticsError("another worker has stopped; its own message says why.") from None
