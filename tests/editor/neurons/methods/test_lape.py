"""LAPE against a second implementation, written as plainly as its description."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.activity import make

from monoglot.editor.neurons.methods.lape import lape


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
