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


def test_no_chance_in_it() -> None:
    assert interval([True] * 8) == (1.0, 1.0)
    assert interval([]) == (0.0, 0.0)
