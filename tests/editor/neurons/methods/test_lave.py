"""LAVE against a second implementation with loops over lists."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mean_activations import Table, make, pairs, uniform

from monoglot.editor.errors import StatisticsError
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.lape import lape
from monoglot.editor.neurons.methods.lave import lave


@st.composite
def means(draw: st.DrawFn) -> tuple[Table, float, float]:
    """Few values of both signs, so that ties and zeros are common."""
    K, L, F = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    value = st.sampled_from([-2.0, -0.5, 0.0, 0.0, 0.25, 0.5, 2.0])
    table = [[[draw(value) for _ in range(F)] for _ in range(L)] for _ in range(K)]
    return table, draw(st.floats(0.05, 0.9)), draw(st.floats(0.05, 0.99))


@settings(max_examples=200, deadline=None)
@given(means())
def test_lave_is_lape_of_the_clipped_means(case: tuple[Table, float, float]) -> None:
    table, rate, quantile = case
    K, L, F = len(table), len(table[0]), len(table[0][0])
    clipped = [[[value if value > 0 else 0.0 for value in layer] for layer in layers] for layers in table]
    in_order = sorted(value for layers in clipped for layer in layers for value in layer)
    bar = in_order[min(max(round(quantile * len(in_order)), 1), len(in_order)) - 1]
    candidates = []
    for i in range(L):
        for j in range(F):
            own = [clipped[k][i][j] for k in range(K)]
            if max(own) > bar:
                entropy = -math.fsum(v / sum(own) * math.log(v / sum(own)) for v in own if v)
                candidates.append((round(entropy, 9), i, j))
    taken = sorted(candidates)[: round(rate * L * F)]
    expected = [{(i, j) for _, i, j in taken if clipped[k][i][j] > bar} for k in range(K)]
    assert pairs(lave(make(table, table), rate=rate, quantile=quantile)) == expected


def test_lave_sees_strength_where_lape_sees_how_often() -> None:
    often, strong = [[[0.9, 0.8]], [[0.9, 0.1]]], [[[3.0, 0.1]], [[0.2, 0.1]]]
    found = {method: pairs(method(make(often, strong), rate=0.5, quantile=0.25))[0] for method in (lape, lave)}
    assert found == {lape: {(0, 1)}, lave: {(0, 0)}}


@pytest.mark.parametrize(
    ("method", "settings"), [("lave", {"rate": 0.0001}), ("ap", {"rate": 0.0001}), ("lave", {"quantile": 1})]
)
def test_settings_are_those_of_the_method(method: str, settings: dict[str, Any]) -> None:
    with pytest.raises(StatisticsError, match=r"takes none of 240 neurons|quantile is 1"):
        find(uniform(L=6), method, **settings)
