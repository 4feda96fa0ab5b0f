"""The perplexity matrix, against weights edited by hand."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny
from support.packed_texts import TEXTS, plainly

from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.plan import plan
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import NeuronsError
from monoglot.editor.live.log_loss import measure
from monoglot.editor.live.logits import Variant
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.measures.matrix import Matrix, dominance, perplexity_matrices
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons


def test_the_matrix_is_that_of_zeroed_columns(saved: Callable[..., Path]) -> None:
    """Second implementation: a copy of the model whose output columns are cleared by hand."""
    folder = saved("llama")
    target, model = open_target(resolve(str(folder))), tiny.live(folder)
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    steps: list[tuple[str, int, int]] = []
    found = perplexity_matrices(
        model, target.feed_forward, {"a": neurons}, TEXTS, progress=lambda *step: steps.append(step)
    )["a"]
    base = plainly(model, TEXTS)
    assert found.base == pytest.approx(base, rel=1e-5)
    assert set(found.change) == set(neurons.languages)
    for language in neurons.languages:
        cut = copy.deepcopy(model)
        with torch.no_grad():
            for layer, own in zip(cut.model.layers, neurons.indices[language], strict=True):
                layer.mlp.down_proj.weight[:, own] = 0
        expected = {k: loss - base[k] for k, loss in plainly(cut, TEXTS).items()}
        assert found.change[language] == pytest.approx(expected, abs=2e-5)
        assert found.neurons[language] == neurons.count(language)
    assert max(abs(v) for v in found.change["xx"].values()) > tiny.MOVED
    assert found.neurons["random"] == max(map(neurons.count, neurons.languages))
    assert "random" not in found.change and max(abs(v) for v in found.random.values()) > tiny.MOVED
    assert steps[-1][1] == steps[-1][2]


def test_several_sets_are_measured_as_each_by_itself(saved: Callable[..., Path]) -> None:
    folder = saved("gpt2")
    target, model = open_target(resolve(str(folder))), tiny.live(folder)
    sets = {name: tiny.to_steer(tiny.LAYERS, tiny.WIDTH, seed) for name, seed in (("a", 1), ("b", 5))}
    both = perplexity_matrices(model, target.feed_forward, sets, TEXTS)
    for name, neurons in sets.items():
        assert both[name] == perplexity_matrices(model, target.feed_forward, {name: neurons}, TEXTS)[name]


def test_shared_neurons_are_kept_or_taken(saved: Callable[..., Path]) -> None:
    folder = saved("llama")
    target, model = open_target(resolve(str(folder))), tiny.live(folder)
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    found = perplexity_matrices(model, target.feed_forward, {"a": neurons}, TEXTS, shared="keep")["a"]
    shared = len(neurons.pairs("xx") & neurons.pairs("off"))
    assert shared and found.neurons["off"] == neurons.count("off") - shared
    kept = plan(Recipe(Base("m"), (Edit("off", "deactivate"),), "keep"), neurons, layers=tiny.LAYERS, width=tiny.WIDTH)
    modules = activation_modules(model, target.feed_forward.family)
    alone = measure([Variant("off", model, partial(steered, modules, kept))], TEXTS).log_loss["off"]
    assert found.change["off"] == pytest.approx({k: alone[k] - found.base[k] for k in TEXTS}, abs=1e-6)


def test_languages_without_neurons_have_no_row(saved: Callable[..., Path]) -> None:
    folder = saved("llama")
    target, model = open_target(resolve(str(folder))), tiny.live(folder)
    none = tuple(np.zeros(0, np.int64) for _ in range(tiny.LAYERS))
    one = (np.array([3]), *none[1:])
    found = perplexity_matrices(model, target.feed_forward, {"a": Neurons({"xx": one, "yy": none})}, TEXTS)["a"]
    assert set(found.change) == {"xx"}
    with pytest.raises(NeuronsError, match="nothing to deactivate"):
        perplexity_matrices(model, target.feed_forward, {"a": Neurons({"xx": none, "yy": none})}, TEXTS)


def test_dominance_by_hand() -> None:
    change = {"en": {"en": 1.0, "fr": 0.2}, "fr": {"en": -0.4, "fr": 0.8}, "xx": {"en": 9.0, "fr": 9.0}}
    matrix = Matrix(change, {"en": 0.0, "fr": 0.1}, {"en": 3.0, "fr": 3.0}, {}, {})
    found = dominance(matrix)
    assert found.share == pytest.approx(1.8 / 2.0)  # what falls is no damage; a row without its text says nothing
    assert found.diagonal == pytest.approx(0.9) and found.elsewhere == pytest.approx(-0.1)
    assert found.random == pytest.approx(0.05)
    better = Matrix({"en": {"en": -1.0, "fr": 0.5}}, {"en": 0.0, "fr": 0.0}, {}, {}, {})
    assert dominance(better).share == 0 and dominance(better).diagonal == -1.0
    flat = Matrix({"en": {"en": 0.0, "fr": -1.0}}, {"en": 0.0, "fr": 0.0}, {}, {}, {})
    assert dominance(flat).share is None
