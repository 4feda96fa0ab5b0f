"""Neurons that barely change when a model is tuned, against a plain second implementation."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tuned import PARTS, Saved, opened, tune

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.pv import EPSILON, pv
from monoglot.editor.neurons.methods.variation import Variation, vary
from monoglot.editor.statistics.statistics import Statistics


def test_a_neuron_of_zeros(saved: Saved, tmp_path: Path) -> None:
    def zero(name: str, tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        for own, axis in PARTS["llama"].items():
            if f".1.{own}" in name:
                changed.select(axis, 3).zero_()
                changed.select(axis, 4).zero_()
        return changed

    def wake(name: str, tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        if ".1.mlp.up_proj" in name:
            changed[4] += 1
            changed[7] += 1
        return changed

    base = tune(saved("llama"), tmp_path / "base", 0, zero)
    tuned = {"en": tune(base, tmp_path / "en", 0, wake), "zh": tune(base, tmp_path / "zh", 1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = vary(opened(base), {language: opened(folder) for language, folder in tuned.items()})
        selection = pv(found, rate=0.1, quantile=0.5)
    assert found.relative["en"][1, 3:5].tolist() == [0, math.inf]
    assert not selection[0, 1, 4]  # infinitely changed


# What is selected


def plain(relative: dict[str, list[list[float]]], rate: float, quantile: float) -> list[set[tuple[int, int]]]:
    s = {k: [[1 / (v + EPSILON) for v in layer] for layer in layers] for k, layers in relative.items()}
    in_order = sorted(v for layers in s.values() for layer in layers for v in layer)
    bar = in_order[min(max(round(quantile * len(in_order)), 1), len(in_order)) - 1]
    first = next(iter(s.values()))
    candidates = []
    for i, layer in enumerate(first):
        for j in range(len(layer)):
            own = [layers[i][j] for layers in s.values()]
            if max(own) > bar:
                entropy = -math.fsum(v / sum(own) * math.log(v / sum(own)) for v in own if v)
                candidates.append((round(entropy, 9), i, j))
    taken = sorted(candidates)[: round(rate * len(first) * len(first[0]))]
    return [{(i, j) for _, i, j in taken if layers[i][j] > bar} for layers in s.values()]


INFO = ModelInfo("tiny", None, "llama", 3, 20, "f" * 64)


def random_variation(seed: int) -> Variation:
    generator = np.random.default_rng(seed)
    return Variation(INFO, {k: generator.choice([0, 1e-4, 0.01, 0.1, math.inf], (3, 20)) for k in ("en", "fr", "zh")})


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("quantile", [0.3, 0.6, 0.8])
def test_selection(seed: int, quantile: float) -> None:
    made = random_variation(seed)
    kept = {language: own.copy() for language, own in made.relative.items()}
    selection = pv(made, rate=0.2, quantile=quantile)
    found = [{(int(i), int(j)) for i, j in np.argwhere(own)} for own in selection]
    assert found == plain({k: own.tolist() for k, own in made.relative.items()}, 0.2, quantile)
    assert all((made.relative[language] == kept[language]).all() for language in kept)


def statistics(names: tuple[str, ...], model: ModelInfo = INFO) -> Statistics:
    generator = np.random.default_rng(0)
    counts = {name: generator.integers(0, 100, (3, 20)) for name in names}
    return Statistics(
        model, dict.fromkeys(names, 100), counts, {k: own / 2 for k, own in counts.items()}, {k: (k,) for k in names}
    )


def test_neurons_that_barely_change_under_their_language() -> None:
    made = {k: np.full((3, 20), 0.1) for k in ("en", "fr", "zh")}
    made["en"][0, 3] = made["zh"][2, 7] = 0.001
    with pytest.warns(MonoglotWarning, match=r"pv finds no neurons for fr\. Raise `rate`\."):
        found = find(Variation(INFO, made), "pv", rate=2 / 60, quantile=0.9)
    assert {k: found.pairs(k) for k in found.languages} == {"en": {(0, 3)}, "fr": set(), "zh": {(2, 7)}}
    assert (found.values, found.spare, found.model) == ({}, (), INFO)
    assert found.method == {"name": "pv", "rate": 2 / 60, "quantile": 0.9}


def test_statistics_give_them_values() -> None:
    made = random_variation(1)
    known = statistics(("zh", "en", "vi", "fr"))
    bare, found = (find(made, "pv", rate=0.2, quantile=0.6, statistics=each) for each in (None, known))
    assert found.languages == ("en", "fr", "zh")
    assert [bare.pairs(k) for k in bare.languages] == [found.pairs(k) for k in found.languages]
    assert list(found.values) == ["mean", "mean@zh", "mean@en", "mean@vi", "mean@fr"]
    assert found.values["mean"]["fr"][1].tolist() == known.mean("fr")[1][found.indices["fr"][1]].tolist()
    assert found.spare
    assert found.method["tokens"] == dict.fromkeys(("zh", "en", "vi", "fr"), 100)


def test_statistics_that_do_not_fit() -> None:
    with pytest.raises(StatisticsError, match=r"no fr, zh; they have en, vi\. Run `monoglot detect` on more"):
        find(random_variation(1), "pv", statistics=statistics(("en", "vi")))
    other = ModelInfo("other", None, "llama", 3, 20, "0" * 64)
    with pytest.raises(StatisticsError, match=r"of another model \(other\) than the base \(tiny\)"):
        find(random_variation(1), "pv", statistics=statistics(("en", "fr", "zh"), other))
