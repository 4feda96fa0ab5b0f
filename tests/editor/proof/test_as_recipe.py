"""A difference as a recipe: against `bake`, and the factors in their intervals."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from support import tiny
from support.copies import DOWN, copy, sources

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.files import floats
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof.as_recipe import _interval, as_recipe, shortest
from monoglot.editor.proof.difference import difference

FACTORS = (1.5, -1.7, 1 / 3, 1000.25, 0.5)


# As a recipe


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "gpt2", "gpt2+square", "phi3", "opt", "falcon", "mpt", "gemma3"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_recipe_gives_the_weights_again(case: str, dtype: str, tmp_path: Path) -> None:
    """Deactivated and scaled by five factors, the other checkpoint in other shards: byte for byte the same tensors."""
    model_type, config = tiny.CASES.get(case, tiny.Case(case, {}))
    tiny.need(model_type)
    a = tiny.save_model(tmp_path / "a", model_type, dtype=dtype, tokenizer=False, **config)
    target = open_target(resolve(str(a)))
    drawn = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    scaled = zip(("half", "xx", "yy", "zz"), FACTORS, strict=False)
    edits = (Edit("off", "deactivate"), *(Edit(language, "scale", factor) for language, factor in scaled))
    bake(target, drawn, Recipe(Base("a"), edits, "edit"), tmp_path / "b")
    b = tmp_path / "b"
    both = sources(a, b)
    said = as_recipe(*both, difference(*both))
    assert said.recipe and said.neurons, said.reason
    assert len(said.recipe.edits) == 5  # no more groups than there were
    assert said.recipe.shared == "keep"
    neurons.save(said.neurons, tmp_path / "neurons.json")
    bake(target, neurons.load(tmp_path / "neurons.json"), said.recipe, tmp_path / "again")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "again", b))
    assert ours.keys() == theirs.keys()
    kind = torch.int32 if dtype == "float32" else torch.int16
    assert all(torch.equal(ours[name].view(kind), tensor.view(kind)) for name, tensor in theirs.items())


def test_the_simplest_factor_of_many(model: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[DOWN][:, [2, 5]] *= 1.25
        tensors[DOWN][:, 7] = (tensors[DOWN][:, 7].double() * 0.1).float()

    both = sources(model, copy(model, tmp_path / "b", change))
    said = as_recipe(*both, difference(*both))
    assert said.recipe and said.neurons
    assert {edit.strength for edit in said.recipe.edits} == {1.25, 0.1}
    assert said.neurons.indices["scaled-1.25"][1].tolist() == [2, 5]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t[DOWN][3, 4].add_(1), "column 4 is neither zero"),
        (lambda t: t[DOWN][:, 4].add_(1), "column 4 is neither zero"),
        (lambda t: t[DOWN][:, 4].mul_(-0.0), "no factor gives|neither zero"),
        (lambda t: t[DOWN][:, 4].fill_(math.nan), "NaN"),
        (lambda t: t["model.layers.1.mlp.gate_proj.weight"][3].zero_(), "gate_proj.weight changed, which is no output"),
        (lambda t: t.update(new=torch.zeros(1)), "same tensors"),
    ],
)
def test_what_no_recipe_says(model: Path, tmp_path: Path, change: Any, reason: str) -> None:
    both = sources(model, copy(model, tmp_path / "b", change))
    said = as_recipe(*both, difference(*both))
    assert said.recipe is None and re.search(reason, said.reason), said.reason


def test_a_constant_in_a_bias_is_a_difference_and_no_recipe(saved: Any, tmp_path: Path) -> None:
    name = "transformer.h.0.mlp.c_fc.bias"
    base = saved("gpt2")
    both = sources(base, copy(base, tmp_path / "b", lambda t: t[name][3].add_(1)))
    found = difference(*both)
    assert [(one.name, one.rows, one.first_rows) for one in found.changed] == [(name, 1, (3,))]
    assert "constants in biases are not recognised" in as_recipe(*both, found).reason


@settings(deadline=None)
@given(
    st.sampled_from(sorted(floats.STORED)),
    st.lists(st.floats(-3, 3, width=16), min_size=1, max_size=30),
    st.floats(-4, 4).filter(lambda k: abs(k) > 1e-3),
)
def test_a_factor_lies_in_its_own_interval(dtype: str, values: list[float], factor: float) -> None:
    """And the one that is chosen gives the same bits."""
    old = floats.from_float64(np.array(values)[:, None], dtype)
    new = floats.from_float64(floats.to_float64(old, dtype) * factor, dtype)
    assume(floats.to_float64(new, dtype).any())
    (low,), (high,) = _interval(old, new, dtype)
    assert low <= factor * (1 + 1e-14) if factor > 0 else low <= factor * (1 - 1e-14)
    assert high >= factor * (1 - 1e-14) if factor > 0 else high >= factor * (1 + 1e-14)
    chosen = shortest(low, high)
    again = floats.from_float64(floats.to_float64(old, dtype) * chosen, dtype)
    assert np.array_equal(floats.to_float64(again, dtype), floats.to_float64(new, dtype))


@pytest.mark.parametrize("dtype", sorted(floats.STORED))
def test_the_ends_of_an_interval_belong_to_even_numbers(dtype: str) -> None:
    """Of the numbers after 1 the first is odd, the second even; the next interval begins where one ends."""
    one = floats.from_float64(np.ones((1, 1)), dtype)
    bits = one.view(f"u{one.itemsize}")
    odd, even = ((bits + step).astype(bits.dtype).view(one.dtype) for step in (1, 2))
    ends = {}
    for name, new in (("odd", odd), ("even", even)):
        ends[name] = (low, high) = [end[0] for end in _interval(one, new, dtype)]
        for factor in (low, high, (low + high) / 2):
            assert floats.from_float64(np.array([[factor]]), dtype).tobytes() == new.tobytes()
        step = floats.to_float64(even, dtype) - floats.to_float64(odd, dtype)
        assert high - low == pytest.approx(step.item(), rel=1e-6)
    assert ends["odd"][1] < ends["even"][0]


def test_what_was_nothing_is_no_product() -> None:
    nothing, something = np.zeros((2, 1), np.float32), np.array([[0.0], [1.0]], np.float32)
    (low,), (high,) = _interval(nothing, something, "F32")
    assert low > high
    (low,), (high,) = _interval(nothing, nothing, "F32")
    assert (low, high) == (-math.inf, math.inf)


def test_the_shortest_number() -> None:
    assert shortest(1.2, 1.8) == 1.5
    assert shortest(0.33332, 0.33335) == 0.33333
    assert shortest(0.9, 2.2) == 2
    assert shortest(-1.52, -1.49) == -1.5
    assert shortest(1.5, 1.5) == 1.5
    assert shortest(-math.inf, math.inf) == 0
    assert shortest(2.0, math.nextafter(2.0, 3)) in (2.0, math.nextafter(2.0, 3))
