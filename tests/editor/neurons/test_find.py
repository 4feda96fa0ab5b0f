"""What `find` makes of a method's selection, and LAPE against a second implementation, written as plainly as its
description. The other methods have files of their own."""

import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons import find as methods
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.entropy import language_entropy, order_statistic
from monoglot.editor.neurons.methods.lape import lape
from monoglot.editor.neurons.neurons import SETTINGS
from monoglot.editor.statistics import statistics
from monoglot.editor.statistics.histogram import BINS, ZERO
from monoglot.editor.statistics.statistics import Statistics

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "find.py"


def make(counts: list[list[list[int]]], tokens: list[int]) -> Statistics:
    """Statistics from active counts by language, layer, neuron; sums are 0.5 a count."""
    array = np.array(counts, dtype=np.int64)
    names = ["en", "fr", "zh", "vi", "ja"][: len(counts)]
    return Statistics(
        ModelInfo("tiny", None, "llama", array.shape[1], array.shape[2], "f" * 64),
        dict(zip(names, tokens, strict=True)),
        dict(zip(names, array, strict=True)),
        dict(zip(names, array * 0.5, strict=True)),
        {name: (name * 32,) for name in names},
    )


def plain_lape(
    counts: list[list[list[int]]], tokens: list[int], rate: float, quantile: float
) -> list[set[tuple[int, int]]]:
    """The neurons of each language, step by step as in the paper, without arrays."""
    K, L, F = len(counts), len(counts[0]), len(counts[0][0])
    p = {(k, i, j): counts[k][i][j] / tokens[k] for k in range(K) for i in range(L) for j in range(F)}
    in_order = sorted(p.values())
    bar = in_order[min(max(round(quantile * len(in_order)), 1), len(in_order)) - 1]
    candidates = []
    for i in range(L):
        for j in range(F):
            own = [p[k, i, j] for k in range(K)]
            if max(own) <= bar:
                continue
            entropy = 0.0
            for value in own:
                if value > 0:
                    share = value / sum(own)
                    entropy -= share * math.log(share)
            candidates.append((round(entropy, 9), i, j))
    taken = sorted(candidates)[: round(rate * L * F)]
    return [{(i, j) for _, i, j in taken if p[k, i, j] > bar} for k in range(K)]


def pairs(selection: np.ndarray) -> list[set[tuple[int, int]]]:
    return [{(int(i), int(j)) for i, j in np.argwhere(language)} for language in selection]


@st.composite
def inputs(draw: st.DrawFn) -> tuple[list[list[list[int]]], list[int], float, float]:
    """Counts from few values, so that ties, zeros and equal quantiles are common; different token counts."""
    K, L, F = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    tokens = draw(st.lists(st.sampled_from([8, 16, 24]), min_size=K, max_size=K))
    value = st.sampled_from([0, 0, 1, 2, 4, 8])
    counts = [[[draw(value) for _ in range(F)] for _ in range(L)] for _ in range(K)]
    return counts, tokens, draw(st.floats(0.05, 0.9)), draw(st.floats(0.05, 0.99))


@settings(max_examples=300, deadline=None)
@given(inputs())
def test_lape_is_the_papers(case: tuple[list[list[list[int]]], list[int], float, float]) -> None:
    counts, tokens, rate, quantile = case
    assert pairs(lape(make(counts, tokens), rate=rate, quantile=quantile)) == plain_lape(counts, tokens, rate, quantile)


@pytest.mark.parametrize("seed", range(20))
def test_lape_is_the_papers_on_many_neurons(seed: int) -> None:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(500, 1_000, 3).tolist()
    counts = (generator.beta(0.3, 2, (3, 4, 50)) * np.array(tokens)[:, None, None]).astype(int).tolist()
    found = pairs(lape(make(counts, tokens), rate=0.6, quantile=0.3))
    assert found == plain_lape(counts, tokens, 0.6, 0.3)
    assert len(set().union(*found)) == 120  # the rate's share of 200
    assert sum(map(len, found)) > 120  # and some are shared


def test_by_hand() -> None:
    """Four neurons, two languages, eight values; the bar at 0.5 is the fourth smallest, 0.2."""
    statistics = make([[[90, 80, 20, 0]], [[10, 80, 20, 30]]], [100, 100])
    # p: en .9 .8 .2 0, fr .1 .8 .2 .3. Above .2: neurons 0 (en), 1 (both), 3 (fr). Entropy: 3 none, 0 some, 1 ln 2
    assert pairs(lape(statistics, rate=0.25, quantile=0.5)) == [set(), {(0, 3)}]
    assert pairs(lape(statistics, rate=0.5, quantile=0.5)) == [{(0, 0)}, {(0, 3)}]
    assert pairs(lape(statistics, rate=0.75, quantile=0.5)) == [{(0, 0), (0, 1)}, {(0, 3), (0, 1)}]
    # fewer candidates than asked for: all of them, and neuron 2 stays out
    assert pairs(lape(statistics, rate=0.99, quantile=0.5)) == [{(0, 0), (0, 1)}, {(0, 3), (0, 1)}]


def test_the_bar_itself_does_not_pass() -> None:
    statistics = make([[[5, 5, 5]], [[0, 5, 5]]], [10, 10])
    assert not lape(statistics, rate=0.9, quantile=0.9).any()


def test_ties_go_to_the_lower_layer_then_index() -> None:
    """The same probabilities in another order of languages are a tie, though their sums and logarithms round apart."""
    orders = [
        (1, 2, 5),
        (2, 1, 5),
        (2, 5, 1),
        (5, 2, 1),
        (1, 5, 2),
        (5, 1, 2),
    ]  # by their entropies as computed, the largest first
    counts = [[[order[k] for order in orders], [order[k] for order in orders]] for k in range(3)]
    found = set().union(*pairs(lape(make(counts, [12, 12, 12]), rate=4 / 12, quantile=0.1)))
    assert found == {(0, 0), (0, 1), (0, 2), (0, 3)}


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


def test_neurons_come_with_the_means_of_their_language() -> None:
    statistics = make([[[90, 80, 20, 0]], [[10, 80, 20, 30]]], [100, 50])
    found = find(statistics, rate=0.75, quantile=0.5)
    # p: en .9 .8 .2 0, fr .2 1.6 .4 .6; the fourth smallest is .4
    assert {k: [layer.tolist() for layer in layers] for k, layers in found.indices.items()} == {
        "en": [[0, 1]],
        "fr": [[1, 3]],
    }
    assert list(found.values) == ["mean", "mean@en", "mean@fr"]
    assert [layer.tolist() for layer in found.values["mean"]["en"]] == [[0.45, 0.4]]
    assert [layer.tolist() for layer in found.values["mean"]["fr"]] == [[0.8, 0.3]]
    assert found.model == statistics.model
    assert found.method == {
        "name": "lape",
        "rate": 0.75,
        "quantile": 0.5,
        "tokens": {"en": 100, "fr": 50},
        "texts": {"en": ["en" * 32], "fr": ["fr" * 32]},
    }


def test_neurons_come_with_quantiles_where_there_are_histograms() -> None:
    """Activations that lie in one bin, of one neuron in each language."""
    counts = np.zeros((1, 4, BINS), np.uint32)
    counts[..., ZERO] = 30
    counts[0, 1, 65], counts[0, 1, 69] = 30, 40  # [1, 1.25) and [2, 2.5)
    statistics = make([[[90, 80, 20, 0]], [[10, 80, 20, 30]]], [100, 50])
    with_histograms = replace(statistics, histogram={"en": counts, "fr": counts[:, ::-1]})
    found = find(with_histograms, rate=0.75, quantile=0.5)
    plain = find(statistics, rate=0.75, quantile=0.5)
    assert [name for name in found.values if "@" not in name] == ["mean", "median", "p90"]
    assert found.values["mean"]["en"][0].tolist() == plain.values["mean"]["en"][0].tolist()
    # en 0 and 1, fr 1 and 3: the 50th of 100 is the 20th of 30 in its bin, the 90th the 30th of 40
    median, p90 = 1 + 0.25 * 19.5 / 30, 2 + 0.5 * 29.5 / 40
    assert found.values["median"]["en"][0].tolist() == pytest.approx([0, median], abs=1e-6)
    assert found.values["p90"]["en"][0].tolist() == pytest.approx([0, p90], abs=1e-6)
    assert found.values["median"]["fr"][0].tolist() == [0, 0]


def test_too_few_candidates_are_said() -> None:
    statistics = make([[[9, 8, 1, 0]], [[1, 8, 1, 3]]], [10, 10])
    with pytest.warns(MonoglotWarning, match=r"only 2 neurons pass the bar of lape, a rate of 0\.9 asks for 4"):
        found = find(statistics, rate=0.9, quantile=0.625)
    assert {language: found.pairs(language) for language in found.languages} == {"en": {(0, 0), (0, 1)}, "fr": {(0, 1)}}
    with pytest.warns(MonoglotWarning, match=r"lape finds no neurons for en\. Raise `rate`"):
        found = find(make([[[1, 1]], [[1, 9]]], [10, 10]), rate=0.5, quantile=0.75)
    assert found.count("en") == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find(statistics, rate=0.5, quantile=0.5)


def test_impossible_settings_are_refused() -> None:
    one, two = make([[[1, 2]]], [10]), make([[[1, 2]], [[2, 1]]], [10, 10])
    with pytest.raises(StatisticsError, match=r"at least two, they have en\. Run `monoglot detect` on more"):
        find(one)
    for rate, message in (
        (0, "rate is 0"),
        (1, "rate is 1"),
        (math.nan, "rate is nan"),
        (0.01, "takes none of 2 neurons"),
    ):
        with pytest.raises(StatisticsError, match=message):
            find(two, rate=rate)
    with pytest.raises(StatisticsError, match=r"quantile is 1\.5; it must lie between 0 and 1"):
        find(two, rate=0.5, quantile=1.5)
    with pytest.raises(StatisticsError, match=r"unknown method 'guess'; known: lape, lap, lave, pv, ap, random"):
        find(two, "guess")
    assert list(methods.METHODS) == list(SETTINGS)
    with pytest.raises(StatisticsError, match=r"threshold is 1; it must lie between 0 and 1"):
        find(two, "lap", threshold=1)
    with pytest.raises(StatisticsError, match=r"pv finds neurons in the variation of parameters, which were not given"):
        find(two, "pv")
    with pytest.raises(StatisticsError, match=r"lave finds neurons in statistics, which were not given"):
        find(None, "lave")


@pytest.mark.slow
def test_a_large_model_takes_little_memory(tmp_path: Path) -> None:
    """A sixth of the largest shape, through files: two doubles a probability, and some room for numpy itself."""
    line = subprocess.run(
        [sys.executable, str(BENCHMARK), "--layers", "14", "--width", "28672", "--languages", "21"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.splitlines()[-1]  # fmt: skip
    measured = json.loads(line)
    assert measured["union"] == round(0.01 * 14 * 28672)
    assert measured["peak_mb"] < 2.2 * 21 * 14 * 28672 * 8 / 1e6 + 100


def test_loaded_statistics_find_the_same(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    made = make(generator.integers(0, 100, (3, 2, 40)).tolist(), [100, 120, 140])
    statistics.save(made, tmp_path / "s.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = find(made, rate=0.1), find(statistics.load(tmp_path / "s.safetensors"), rate=0.1)
    assert one.model == two.model
    assert [one.pairs(k) for k in one.languages] == [two.pairs(k) for k in two.languages]
