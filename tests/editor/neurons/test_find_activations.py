"""LAVE, LAP and random neurons against second implementations with loops over lists."""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.editor.errors import MonoglotWarning, NeuronsError, StatisticsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.lap import lap
from monoglot.editor.neurons.methods.lape import lape
from monoglot.editor.neurons.methods.lave import lave
from monoglot.editor.neurons.methods.random import draw
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.statistics.statistics import Statistics

NAMES = ("en", "fr", "zh", "vi")
Table = list[list[list[float]]]  # by language, layer, neuron


def make(p: Table, m: Table | None = None, tokens: int = 100) -> Statistics:
    """Statistics with these activation probabilities, hundredths, and means."""
    count = np.array(p, np.float64) * tokens
    total = np.array(m if m else p, np.float64) * tokens
    names = NAMES[: len(count)]
    return Statistics(
        ModelInfo("tiny", None, "llama", count.shape[1], count.shape[2], "f" * 64),
        dict.fromkeys(names, tokens),
        {name: np.round(own).astype(np.int64) for name, own in zip(names, count, strict=True)},
        dict(zip(names, total, strict=True)),
        {name: (name,) for name in names},
    )


def pairs(selection: np.ndarray) -> list[set[tuple[int, int]]]:
    return [{(int(i), int(j)) for i, j in np.argwhere(language)} for language in selection]


def neurons(*by_language: list[list[int]]) -> Neurons:
    return Neurons({
        name: tuple(np.array(layer, np.int64) for layer in layers)
        for name, layers in zip(NAMES, by_language, strict=False)
    })  # fmt: skip


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


# Random neurons


def uniform(K: int = 3, L: int = 2, F: int = 40, seed: int = 0) -> Statistics:
    return make(np.round(np.random.default_rng(seed).beta(0.5, 2, (K, L, F)), 2).tolist())


@pytest.mark.parametrize("seed", range(10))
def test_a_draw_has_as_many_in_each_layer_and_language_and_none_of_the_same(seed: int) -> None:
    statistics = uniform(seed=seed)
    like = find(statistics, rate=0.3, quantile=0.5)
    found = find(statistics, "random", like=like, seed=seed)
    for language in statistics.languages:
        assert [len(layer) for layer in found.indices[language]] == [len(layer) for layer in like.indices[language]]
        assert not found.pairs(language) & like.pairs(language)
        assert found.count(language)


def test_a_draw_depends_on_the_seed_and_not_on_other_languages() -> None:
    statistics = uniform()
    like = find(statistics, rate=0.3, quantile=0.5)
    one, same, other = (draw(statistics, like=like, seed=seed) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    without = Statistics(
        statistics.model, *({k: by[k] for k in ("fr", "zh")} for by in (statistics.tokens, statistics.active_count)),
        statistics.total, statistics.texts,
    )  # fmt: skip
    assert (draw(without, like=like, seed=0) == one[1:]).all()
    layers = draw(statistics, like=neurons(*[[[1, 4, 9], [1, 4, 9]]] * 3), seed=0)
    assert (layers[0, 0] != layers[0, 1]).any()  # nor is it the same in every layer


def test_every_other_neuron_may_be_drawn_alike() -> None:
    statistics = make([[[0.5] * 6]] * 2)
    like = neurons([[1, 4]], [[]])
    times = [0] * 6
    for seed in range(600):
        drawn = draw(statistics, like=like, seed=seed)
        assert not drawn[1].any()
        for j in range(6):
            times[j] += int(drawn[0, 0, j])
    assert times[1] == times[4] == 0
    assert sum(times) == 1200
    assert all(240 <= times[j] <= 360 for j in (0, 2, 3, 5))  # 300 expected, four standard deviations are 49


def test_by_default_a_draw_is_like_lapes() -> None:
    statistics = uniform()
    like = find(statistics, rate=0.2, quantile=0.6)
    implied, explicit = (
        find(statistics, "random", seed=3, **more) for more in ({"rate": 0.2, "quantile": 0.6}, {"like": like})
    )
    assert [implied.pairs(k) for k in implied.languages] == [explicit.pairs(k) for k in explicit.languages]
    assert implied.method == explicit.method
    assert {key: implied.method[key] for key in ("name", "seed", "like")} == {
        "name": "random", "seed": 3, "like": {"name": "lape", "rate": 0.2, "quantile": 0.6},
    }  # fmt: skip
    again = find(statistics, "random", seed=4, like=implied)
    assert again.method["like"] == implied.method["like"]
    assert list(implied.values) == ["mean", "mean@en", "mean@fr", "mean@zh"]
    assert [len(layer) for layer in implied.spare] == [
        len(set().union(*(by[layer].tolist() for by in implied.indices.values()))) for layer in range(2)
    ]


def test_a_layer_that_is_too_small_is_said() -> None:
    statistics = make([[[0.5] * 4]] * 2)
    with pytest.warns(MonoglotWarning, match=r"layer 0 has only 1 other neurons to draw for en, instead of 3"):
        found = find(statistics, "random", like=neurons([[0, 1, 3]], [[2]]))
    assert found.pairs("en") == {(0, 2)}


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (neurons([[0], [1]], [[1], [0]]), "of a model with 2 layers, tiny has 1"),
        (neurons([[0]], [[9]]), "there is no neuron 9"),
        (neurons([[0]]), "no neurons for 'fr'"),
        (replace(neurons([[0]], [[1]]), model=ModelInfo("o", None, "llama", 1, 5, "e" * 64)), "with 5 neurons a layer"),
    ],
)
def test_neurons_that_do_not_fit_are_refused(like: Neurons, message: str) -> None:
    with pytest.raises(NeuronsError, match=message):
        find(make([[[0.5] * 4]] * 2), "random", like=like)


@pytest.mark.parametrize("method", ["lap", "lave", "ap", "random"])
def test_two_languages_are_the_least(method: str) -> None:
    with pytest.raises(StatisticsError, match="at least two, they have en"):
        find(make([[[0.5, 0.2]]]), method)


@pytest.mark.parametrize(
    ("method", "settings"), [("lave", {"rate": 0.0001}), ("ap", {"rate": 0.0001}), ("lave", {"quantile": 1})]
)
def test_settings_are_those_of_the_method(method: str, settings: dict[str, Any]) -> None:
    with pytest.raises(StatisticsError, match=r"takes none of 240 neurons|quantile is 1"):
        find(uniform(L=6), method, **settings)
