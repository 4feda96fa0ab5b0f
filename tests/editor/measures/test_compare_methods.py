"""Methods side by side, counted again by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monoglot.editor.errors import StatisticsError
from monoglot.editor.measures.compare_methods import comparison, find_all, left_out
from monoglot.editor.measures.matrix import Matrix, as_data
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import model_info, open_target
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.variation import Variation
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.statistics.statistics import Statistics

NAMES, INFO = ("en", "fr", "zh"), ModelInfo("tiny", None, "llama", 3, 60, "f" * 64)


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    generator = np.random.default_rng(0)
    counts = {k: (1000 * generator.beta(0.5, 1, (3, 60))).astype(int) for k in NAMES}
    means = {k: generator.normal(0, 1, (6, 3, 60)).astype(np.float32) for k in NAMES}
    return Statistics(
        INFO, dict.fromkeys(NAMES, 1000), counts, {k: own * generator.random((3, 60)) for k, own in counts.items()},
        {k: (k,) for k in NAMES}, per_text=means,
    )  # fmt: skip


@pytest.fixture(scope="module")
def variation() -> Variation:
    return Variation(INFO, {k: np.random.default_rng(ord(k[0])).random((3, 60)) for k in NAMES})


SETTINGS: dict[str, Any] = {"rate": 0.2, "quantile": 0.6}


def test_every_method_as_find_finds_it(statistics: Statistics, variation: Variation) -> None:
    sets = find_all(statistics, variation=variation, threshold=0.5, seed=4, **SETTINGS)
    assert list(sets) == ["lape", "lap", "lave", "pv", "ap", "random"]
    for method, found in sets.items():
        source = variation if method == "pv" else statistics
        alone = find(source, method, threshold=0.5, seed=4, statistics=statistics, **SETTINGS)
        assert {k: found.pairs(k) for k in NAMES} == {k: alone.pairs(k) for k in NAMES}
        assert found.method == alone.method
    sizes = {method: len(set().union(*(own.pairs(k) for k in NAMES))) for method, own in sets.items()}
    assert {sizes[method] for method in ("lape", "lave", "pv", "ap")} == {36}


def test_methods_without_what_they_need_are_left_out(statistics: Statistics, variation: Variation) -> None:
    bare = replace(statistics, per_text=None)
    assert list(find_all(bare, threshold=0.5, **SETTINGS)) == ["lape", "lap", "lave", "random"]
    assert list(left_out(bare, None)) == ["ap", "pv"]
    assert left_out(statistics, variation) == {}
    with pytest.raises(StatisticsError, match=r"ap can't be compared: .*monoglot detect --per-text"):
        find_all(bare, ["lape", "ap"], **SETTINGS)
    with pytest.raises(StatisticsError, match=r"pv can't be compared: it needs tuned copies"):
        find_all(statistics, ["pv"], **SETTINGS)
    with pytest.raises(StatisticsError, match="unknown method 'guess'"):
        find_all(statistics, ["guess"], **SETTINGS)
    assert list(find_all(statistics, ["random", "lape"], **SETTINGS)) == ["random", "lape"]


def test_counts_and_overlap_by_hand() -> None:
    def neurons(en: list[int], fr: list[int], **method: Any) -> Neurons:
        return Neurons({"en": (np.array(en),), "fr": (np.array(fr),)}, {}, INFO, method)

    sets = {
        "lape": neurons([1, 2, 3], [3, 4], name="lape", rate=0.1, quantile=0.5, tokens={"en": 9}),
        "lave": neurons([2, 3, 4, 5], [4], name="lave", rate=0.1, quantile=0.5),
        "lap": neurons([], [], name="lap", threshold=0.9),
        "random": neurons([], [], name="random", seed=1, like={"name": "lape"}),
    }
    found = comparison(INFO, sets, rate=0.1, quantile=0.5)
    assert json.loads(json.dumps(found)) == found
    assert {key: found[key] for key in ("model", "rate", "quantile")} == {
        "model": INFO.to_data(),
        "rate": 0.1,
        "quantile": 0.5,
    }
    assert found["methods"]["lape"] == {
        "neurons": 4, "languages": {"en": 3, "fr": 2}, "settings": {"rate": 0.1, "quantile": 0.5}, "perplexity": None,
    }  # fmt: skip
    assert [found["methods"][name]["settings"] for name in ("lap", "random")] == [
        {"threshold": 0.9}, {"seed": 1, "like": {"name": "lape"}},
    ]  # fmt: skip
    # pairs: en 2, en 3, fr 4 of en 1 … en 5, fr 3, fr 4; neurons 2, 3, 4 of 1 … 5
    assert found["overlap"]["lape"]["lave"] == found["overlap"]["lave"]["lape"] == {"pairs": 0.4286, "neurons": 0.6}
    assert found["overlap"]["lape"]["lap"] == {"pairs": 0.0, "neurons": 0.0}
    assert found["overlap"]["lap"]["random"] == {"pairs": None, "neurons": None}
    assert {name: sorted(row) for name, row in found["overlap"].items()} == {
        name: sorted({*sets} - {name}) for name in sets
    }


def test_matrices_stand_with_their_method(statistics: Statistics) -> None:
    sets = find_all(statistics, ["lape", "ap"], **SETTINGS)
    matrix = Matrix(
        {"en": {"en": 0.4, "fr": 0.1}}, {"en": 0.0, "fr": 0.1}, {"en": 3.0, "fr": 2.5}, {"en": 9, "fr": 8}, {"en": 5}
    )
    found = comparison(INFO, sets, matrices={"ap": matrix}, **SETTINGS)
    assert found["methods"]["lape"]["perplexity"] is None
    assert found["methods"]["ap"]["perplexity"] == as_data(matrix, "edit")
    assert found["methods"]["ap"]["perplexity"]["dominance"]["share"] == pytest.approx(0.8)


def test_of_a_real_model(model: Path) -> None:
    info = model_info(open_target(resolve(str(model))))
    assert comparison(info, {}, **SETTINGS) == {"model": info.to_data(), **SETTINGS, "methods": {}, "overlap": {}}
