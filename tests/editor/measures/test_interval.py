"""The bootstrap: wide for few values, narrow for many, and the same again."""

import math

import numpy as np
import pytest

from monoglot.editor.measures.interval import interval


@pytest.mark.parametrize("count", [25, 400])
def test_as_wide_as_the_normal_distribution_says(count: int) -> None:
    values = np.arange(count) % 5 == 0  # a share of 0.2
    low, high = interval(values)
    width = 2 * 1.96 * math.sqrt(0.2 * 0.8 / count)
    assert low < 0.2 < high
    assert high - low == pytest.approx(width, rel=0.15)
    assert interval(values) == (low, high)


@pytest.mark.parametrize("count", [1, 8, 200])
def test_answers_that_are_all_alike_leave_chance_too(count: int) -> None:
    """The end is where the share itself would be 1.96 standard errors from what was seen: Wilson's equation, solved."""
    low, high = interval([True] * count)
    assert 0 < low < high == 1.0 and (1 - low) == pytest.approx(1.959964 * math.sqrt(low * (1 - low) / count))
    assert interval([False] * count) == (0.0, pytest.approx(1 - low))


def test_no_chance_in_it() -> None:
    assert interval([0.3] * 8) == (pytest.approx(0.3), pytest.approx(0.3))
    assert interval([]) == (0.0, 0.0)
