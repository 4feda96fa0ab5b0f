"""LAP against a second implementation with loops over lists."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mean_activations import make, pairs

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.lap import lap


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([0.5, 0.75, 0.95]))
def test_lap_is_above_the_threshold(data: st.DataObject, threshold: float) -> None:
    value = st.sampled_from([0.0, 0.5, 0.75, 0.95, 0.96, 1.0])
    table = [[[data.draw(value) for _ in range(6)] for _ in range(2)] for _ in range(3)]
    expected = [
        {(i, j) for i in range(2) for j in range(6) if round(100 * table[k][i][j]) > round(100 * threshold)}
        for k in range(3)
    ]
    assert pairs(lap(make(table), threshold=threshold)) == expected


def test_lap_has_no_rate_and_warns_of_a_language_with_none() -> None:
    statistics = make([[[0.96, 0.99, 0.95, 0.1]], [[0.9, 0.5, 0.95, 0.2]]])
    with pytest.warns(MonoglotWarning, match=r"lap finds no neurons for fr\. Lower `threshold`\."):
        found = find(statistics, "lap", rate=0.0001)
    assert found.pairs("en") == {(0, 0), (0, 1)}
    assert {key: found.method[key] for key in ("name", "threshold")} == {"name": "lap", "threshold": 0.95}
    assert "rate" not in found.method
    assert [layer.tolist() for layer in found.values["mean"]["en"]] == [[0.96, 0.99]]
    with pytest.warns(MonoglotWarning, match=r"lap finds no neurons for en, fr\."):
        find(statistics, "lap", threshold=0.999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find(statistics, "lap", threshold=0.9)


@pytest.mark.parametrize("method", ["lap", "lave", "ap", "random"])
def test_two_languages_are_the_least(method: str) -> None:
    with pytest.raises(StatisticsError, match="at least two, they have en"):
        find(make([[[0.5, 0.2]]]), method)
