"""Neurons drawn at random: as many in each layer and language as others have, and none of the same."""

from dataclasses import replace

import numpy as np
import pytest
from support.mean_activations import NAMES, make, uniform

from monoglot.editor.errors import MonoglotWarning, NeuronsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.methods.random import draw
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.statistics.statistics import Statistics


def neurons(*by_language: list[list[int]]) -> Neurons:
    return Neurons({
        name: tuple(np.array(layer, np.int64) for layer in layers)
        for name, layers in zip(NAMES, by_language, strict=False)
    })  # fmt: skip


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
