"""What `find` makes of a method's selection. The methods have files of their own."""

import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.activity import make

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.neurons import find as methods
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.neurons import SETTINGS
from monoglot.editor.statistics import statistics
from monoglot.editor.statistics.histogram import BINS, ZERO

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "find.py"


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
