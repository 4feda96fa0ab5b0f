"""Average precision against the textbook's definition, and what is selected by it against a plain second implementation."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.editor.errors import StatisticsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.ap import ap, average_precision
from monoglot.editor.statistics import statistics as files
from monoglot.editor.statistics.statistics import Statistics

NAMES = ("en", "fr", "zh", "vi")


def textbook(values: list[float], relevant: list[bool]) -> Fraction:
    """Σ (R_n − R_{n−1}) P_n over the thresholds, from the highest: everything at or above one is retrieved."""
    found, before = Fraction(0), Fraction(0)
    for threshold in sorted(set(values), reverse=True):
        retrieved = [yes for value, yes in zip(values, relevant, strict=True) if value >= threshold]
        recall, precision = Fraction(sum(retrieved), sum(relevant)), Fraction(sum(retrieved), len(retrieved))
        found += (recall - before) * precision
        before = recall
    return found


def make(means: list[np.ndarray]) -> Statistics:
    """Statistics of means over texts, (texts, layers, width) by language."""
    shape = means[0].shape[1:]
    names = NAMES[: len(means)]
    return Statistics(
        ModelInfo("tiny", None, "llama", *shape, "f" * 64),
        dict.fromkeys(names, 10),
        {name: np.zeros(shape, np.int64) for name in names},
        {name: np.zeros(shape) for name in names},
        {name: (name,) for name in names},
        per_text={name: own.astype(np.float32) for name, own in zip(names, means, strict=True)},
    )


def plain(means: list[np.ndarray], rate: float) -> list[set[tuple[int, int]]]:
    """Step by step, with exact scores."""
    K, (_, L, F) = len(means), means[0].shape
    ranks: dict[tuple[int, int], list[int]] = {(i, j): [] for i in range(L) for j in range(F)}
    for k in range(K):
        scores = {}
        for i, j in ranks:
            values = [float(text[i][j]) for own in means for text in own]
            relevant = [language == k for language, own in enumerate(means) for _ in own]
            scores[i, j] = textbook(values, relevant)
        from_top = sorted(ranks, key=lambda neuron: (-scores[neuron], neuron))
        from_bottom = sorted(ranks, key=lambda neuron: (scores[neuron], neuron))
        for neuron, own in ranks.items():
            own.append(min(from_top.index(neuron), from_bottom.index(neuron)))
    taken = sorted(ranks, key=lambda neuron: (min(ranks[neuron]), neuron))[: round(rate * L * F)]
    worst = max(min(ranks[neuron]) for neuron in taken) if taken else -1
    return [{neuron for neuron in taken if ranks[neuron][k] <= worst} for k in range(K)]


def pairs(selection: np.ndarray) -> list[set[tuple[int, int]]]:
    return [{(int(i), int(j)) for i, j in np.argwhere(language)} for language in selection]


@st.composite
def texts(draw: st.DrawFn) -> list[np.ndarray]:
    """Few values, so that ties are common; languages with different numbers of texts."""
    L, F = draw(st.integers(1, 2)), draw(st.integers(1, 6))
    value = st.sampled_from([-1.0, 0.0, -0.0, 0.5, 1.0, 3.0])
    return [
        np.array([[[draw(value) for _ in range(F)] for _ in range(L)] for _ in range(draw(st.integers(1, 5)))])
        for _ in range(draw(st.integers(2, 4)))
    ]


@settings(max_examples=200, deadline=None)
@given(texts(), st.floats(0.1, 1))
def test_ap_is_the_textbooks(means: list[np.ndarray], rate: float) -> None:
    found = average_precision([own[:, 0].astype(np.float32) for own in means])
    for k in range(len(means)):
        relevant = [language == k for language, own in enumerate(means) for _ in own]
        for j in range(means[0].shape[2]):
            values = [float(text[0][j]) for own in means for text in own]
            assert found[k, j] == pytest.approx(float(textbook(values, relevant)), abs=1e-14)
    assert pairs(ap(make(means), rate=rate)) == plain(means, rate)


def test_by_hand() -> None:
    """Two texts in en, three in fr: one above and one below those of fr, all alike, and one order that isn't a language's."""
    en = np.array([[[5.0, 1.0, -3.0, 4.0]], [[6.0, 1.0, -2.0, 1.0]]])
    fr = np.array([[[1.0, 1.0, 0.0, 3.0]], [[2.0, 1.0, 1.0, 2.0]], [[3.0, 1.0, 2.0, 0.0]]])
    found = average_precision([own[:, 0].astype(np.float32) for own in (en, fr)])
    assert found[0] == pytest.approx([1, 2 / 5, (1 / 4 + 2 / 5) / 2, (1 + 2 / 4) / 2])
    assert found[1] == pytest.approx([(1 / 3 + 2 / 4 + 3 / 5) / 3, 3 / 5, 1, (1 / 2 + 2 / 3 + 3 / 5) / 3])
    # en: top 0, bottom 2; fr: top 2, bottom 0
    assert pairs(ap(make([en, fr]), rate=0.5)) == [{(0, 0), (0, 2)}] * 2


def test_scores_that_are_equal_are_a_tie() -> None:
    """Two texts in en at these places of twelve: both of the last two have 7/12, and sum to it with another last bit."""
    places = [(1, 2), (1, 12), (2, 3)]
    others = [[place for place in range(1, 13) if place not in own] for own in places]
    means = [
        np.array([[[-float(own[text]) for own in each]] for text in range(len(each[0]))]) for each in (places, others)
    ]
    scores = average_precision([own[:, 0].astype(np.float32) for own in means])[0]
    assert scores[1:] == pytest.approx(7 / 12)
    assert scores[1] != scores[2]
    assert pairs(ap(make(means), rate=2 / 3)) == plain(means, 2 / 3) == [{(0, 0), (0, 1)}] * 2


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 0.9])
def test_as_many_neurons_as_the_rate_says(rate: float) -> None:
    generator = np.random.default_rng(0)
    means = [generator.normal(0, 1, (n, 3, 50)) for n in (7, 4, 9)]
    selection = ap(make(means), rate=rate)
    assert selection.any(axis=0).sum() == round(rate * 150)
    assert pairs(selection) == plain([own.astype(np.float32) for own in means], rate)


def test_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    means = [generator.integers(0, 5, (n, 2, 33)).astype(float) for n in (6, 3, 8)]
    whole = ap(make(means), rate=0.2)
    for block in (1, 17 * 4, 17 * 33):
        monkeypatch.setattr(sys.modules[ap.__module__], "BLOCK", block)
        assert (ap(make(means), rate=0.2) == whole).all()


def test_from_a_file_a_layer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    made = make([generator.normal(0, 1, (n, 3, 20)) for n in (5, 4)])
    files.save(made, tmp_path / "s")
    loaded = files.load(tmp_path / "s")
    monkeypatch.setattr(files.LanguageArrays, "__getitem__", lambda *_: pytest.fail("all of it was read"))
    assert (ap(loaded, rate=0.2) == ap(made, rate=0.2)).all()


def test_settings_of_the_method_only() -> None:
    generator = np.random.default_rng(3)
    made = make([generator.normal(0, 1, (5, 3, 20)) for _ in range(2)])
    found = find(made, "ap", rate=0.1, quantile=7.0)
    assert {key for key in found.method if key not in ("tokens", "texts")} == {"name", "rate"}
    assert list(found.values) == ["mean", "mean@en", "mean@fr"]
    assert sum(map(len, found.spare)) == 6


def test_what_ap_needs() -> None:
    made = make([np.ones((3, 1, 200)), np.zeros((2, 1, 200))])
    with pytest.raises(StatisticsError, match=r"no per-text means\. Make them with `monoglot detect --per-text`"):
        find(replace(made, per_text=None), "ap")
    for bad in (np.zeros((0, 1, 200), np.float32), np.full((1, 1, 200), np.nan, np.float32)):
        with pytest.raises(StatisticsError, match=r"no per-text means of fr that can be used\. Run .* on more text"):
            find(replace(made, per_text={**(made.per_text or {}), "fr": bad}), "ap")
