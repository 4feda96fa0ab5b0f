"""Entropies of languages and the order statistic, by hand."""

import math

import numpy as np
import pytest

from monoglot.editor.neurons.methods.entropy import language_entropy, order_statistic


@pytest.mark.parametrize(
    ("quantile", "expected"), [(0.5, 20), (0.95, 40), (0.01, 10), (0.6, 20), (0.625, 20), (0.65, 30), (0.875, 40)]
)
def test_the_order_statistic_is_not_interpolated(quantile: float, expected: float) -> None:
    """round(q·4)-th smallest of four, from 1; round() as Python's, halves to even."""
    values = np.array([[30.0, 10.0], [40.0, 20.0]])
    assert order_statistic(values, quantile) == expected
    assert values.tolist() == [[30.0, 10.0], [40.0, 20.0]]  # left as they were


def test_entropies() -> None:
    p = np.array([[0.5, 0.0, 0.4, 0.2], [0.5, 0.0, 0.0, 0.6]])
    expected = [math.log(2), 0, 0, -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    assert language_entropy(p) == pytest.approx(expected, abs=1e-15)
