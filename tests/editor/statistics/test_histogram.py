"""The bins are where the docstring says, and quantiles are interpolated in them by rank."""

import numpy as np
import pytest
import torch

from monoglot.editor.statistics import histogram
from monoglot.editor.statistics.histogram import BINS, LOWER, PATTERNS, UPPER, ZERO, count, quantile


def bin_of(value: float) -> int:
    into = torch.zeros(BINS, dtype=torch.int64)
    count(torch.tensor([[value]]), torch.from_numpy(PATTERNS), into)
    assert into.sum() == 1
    return int(into.argmax())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 32), (-0.0, 32), (1e-30, 33), (2**-8, 33), (0.0048, 33), (0.0049, 34), (1.0, 65), (1.24, 65), (1.25, 66),
        (1.5, 67), (1.75, 68), (2.0, 69), (255.9, 96), (256.0, 96), (1e30, 96), (-1e-30, 31), (-0.0048, 31), (-0.0049, 30),
        (-0.99, 0), (-0.874, 1), (-1.0, 0), (-7.0, 0),
    ],
)  # fmt: skip
def test_where_values_fall(value: float, expected: int) -> None:
    assert bin_of(value) == expected


def test_edges_are_those_of_the_values_in_a_bin() -> None:
    assert LOWER.shape == UPPER.shape == (BINS,)
    assert (LOWER[ZERO], UPPER[ZERO]) == (0, 0)
    assert (LOWER[0], UPPER[-1]) == (-1, 256)
    assert (LOWER[1:] == UPPER[:-1]).all()
    for number in (*range(ZERO), *range(ZERO + 1, BINS)):
        assert bin_of((LOWER[number] + UPPER[number]) / 2) == number
        if number not in (ZERO - 1, ZERO + 1):
            assert UPPER[number] - LOWER[number] <= 0.25 * min(abs(LOWER[number]), abs(UPPER[number])) + 1e-12


@pytest.mark.parametrize("block", [1, 200, 2**22])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_tokens_are_counted_by_neuron(block: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "CPU_ROWS", max(1, block // 3))
    values = (torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 2).to(dtype)
    into = torch.zeros(3 * BINS, dtype=torch.int64)
    for half in (values[:100], values[100:]):
        count(half, torch.from_numpy(PATTERNS), into)
    found = into.numpy().reshape(3, BINS)
    for neuron in range(3):
        column = values[:, neuron].float().numpy()
        for number in range(1, ZERO):  # the other side of the edge belongs to a negative bin
            assert (
                found[neuron, number] == ((LOWER[number] < column) & (column <= UPPER[number]) & (column < 0)).sum()
                or (column == LOWER[number]).any()
                or (column == UPPER[number]).any()
            )
        for number in range(ZERO + 1, BINS - 1):
            assert found[neuron, number] == ((LOWER[number] <= column) & (column < UPPER[number]) & (column > 0)).sum()
    assert (found.sum(axis=1) == 500).all()


def test_quantiles_are_interpolated_by_rank() -> None:
    """Four values in [1, 1.25), then six in [2, 2.5), spread as if evenly."""
    counts = np.zeros(BINS, np.uint32)
    counts[65], counts[69] = 4, 6
    assert [float(quantile(counts, rank / 10)) for rank in range(1, 11)] == pytest.approx(
        [1 + 0.25 * (rank + 0.5) / 4 for rank in range(4)] + [2 + 0.5 * (rank + 0.5) / 6 for rank in range(6)]
    )
    assert quantile(counts, 0) == quantile(counts, 0.1)
    assert quantile(np.stack([counts, counts]), 0.5).shape == (2,)


def test_a_neuron_that_is_always_zero_has_quantile_zero() -> None:
    counts = np.zeros(BINS, np.uint32)
    counts[ZERO] = 7
    assert quantile(counts, 0.5) == 0
