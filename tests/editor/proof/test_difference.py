"""What distinguishes two checkpoints: against torch's own arithmetic, and the recipe against `bake`."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import tiny

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.files import floats, streams
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof.as_recipe import Said, _interval, as_recipe, shortest
from monoglot.editor.proof.difference import ABSENT, difference, flat

DOWN = "model.layers.1.mlp.down_proj.weight"
FACTORS = (1.5, -1.7, 1 / 3, 1000.25, 0.5)


def sources(a: Path, b: Path) -> tuple[Any, Any]:
    return resolve(str(a)), resolve(str(b))


def copy(model: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], Any] | None = None) -> Path:
    """A copy of a model in one file, with its tensors changed."""
    shutil.copytree(model, folder)
    if change:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_same(model: Path, tmp_path: Path) -> None:
    found = difference(*sources(model, copy(model, tmp_path / "b")))
    assert not found.any and found.changed == () and found.same == len(load_file(model / "model.safetensors"))
    assert "tokenizer.json" in found.same_files and found.fingerprints[0] == found.fingerprints[1]


@pytest.mark.parametrize("chunk", [64, 100, 2**20])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int32", "bool"])
def test_rows_columns_and_changes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, dtype: str
) -> None:
    """Against torch, for any size of the pieces."""
    monkeypatch.setattr(streams, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(3)
    before = (torch.randn(16, 24, generator=generator) * 4).to(getattr(torch, dtype))
    after = before.clone()
    rows, columns = torch.tensor([1, 1, 9, 15, 2, 3, 4, 7]), torch.tensor([2, 3, 3, 23, 3, 2, 2, 3])
    after[rows, columns] = ~after[rows, columns] if dtype == "bool" else after[rows, columns] * 3 + 1

    def put(value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], Any]:
        return lambda tensors: tensors.update({DOWN: value, "vector": value[:, 3].contiguous()})

    a, b = (copy(model, tmp_path / name, put(value)) for name, value in (("a", before), ("b", after)))
    found = {one.name: one for one in difference(*sources(a, b)).changed}
    assert found.keys() == {DOWN, "vector"}
    one, unequal = found[DOWN], before != after
    assert one.numbers == int(unequal.sum()) and one.shape == (16, 24)
    where = [torch.nonzero(unequal.any(dim)).flatten().tolist() for dim in (1, 0)]
    assert (one.rows, one.columns) == tuple(map(len, where))
    assert (one.first_rows, one.first_columns) == (tuple(where[0][:5]), tuple(where[1][:5]))
    old, new = before.double(), after.double()
    change = (new - old).abs()
    assert one.largest == float(change.max())
    assert one.largest_relative == pytest.approx(float((change / old.abs())[old != 0].max()))
    assert (found["vector"].rows, found["vector"].columns) == (int(unequal[:, 3].any() and unequal[:, 3].sum()), 0)


def test_numbers_that_are_not_read_and_not_numbers(model: Path, tmp_path: Path) -> None:
    def eight(value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
        tensor = torch.full((4, 6), value)
        odd = torch.tensor([[1.0, math.nan], [math.inf, 2.0]])
        odd[1, 1] = value
        return lambda tensors: tensors.update(
            {"eight": tensor.to(torch.float8_e4m3fn), "odd": odd, "one": odd[1, 1].clone()}
        )

    a, b = copy(model, tmp_path / "a", eight(1.0)), copy(model, tmp_path / "b", eight(4.0))
    found = {one.name: one for one in difference(*sources(a, b)).changed}
    assert (found["eight"].rows, found["eight"].numbers, found["eight"].largest) == (4, 24, None)
    assert (found["odd"].numbers, found["odd"].largest, found["odd"].largest_relative) == (1, 3.0, 3.0)
    assert (found["one"].rows, found["one"].columns, found["one"].first_rows) == (1, 0, (0,))


def test_tensors_that_only_one_has_or_that_have_another_form(model: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["new"] = tensors.pop("model.norm.weight")
        tensors[DOWN] = tensors[DOWN].half()

    found = difference(*sources(model, copy(model, tmp_path / "b", change)))
    assert found.only == (("model.norm.weight",), ("new",))
    assert found.other_form == {DOWN: ("F32 16 × 24", "F16 16 × 24")}
    assert found.changed == () and found.weights


def test_other_shards_are_no_difference(tmp_path: Path) -> None:
    a, b = (tiny.save_model(tmp_path / name, shards=shards) for name, shards in (("a", False), ("b", True)))
    found = difference(*sources(a, b))
    assert not found.any and found.shards[0] == 1 and found.shards[1] > 2


def test_config_files_and_metadata(model: Path, tmp_path: Path) -> None:
    b = copy(model, tmp_path / "b")
    save_file(load_file(b / "model.safetensors"), b / "model.safetensors", metadata={"format": "pt", "by": "hand"})
    config = json.loads((b / "config.json").read_text())
    del config["vocab_size"]
    config["rope_parameters"] = {**config.get("rope_parameters", {}), "deep": {"er": None}}
    config["tie_word_embeddings"] = 0  # as Python has it, equal to false
    (b / "config.json").write_text(json.dumps(config))
    (b / "notes").mkdir()
    (b / "notes" / "a.txt").write_text("x")
    (b / "tokenizer.json").write_bytes((b / "tokenizer.json").read_bytes() + b" ")
    (b / "tokenizer_config.json").unlink()
    (b / ".hidden").write_text("x")
    (b / "pytorch_model.bin").write_text("x")
    found = difference(*sources(model, b))
    assert found.config == {
        "rope_parameters.deep.er": (ABSENT, None),
        "tie_word_embeddings": (False, 0),
        "vocab_size": (300, ABSENT),
    }
    assert found.metadata == {"by": (ABSENT, "hand")}
    assert found.files == {
        "notes/a.txt": "only in B", "tokenizer.json": "changed", "tokenizer_config.json": "only in A"
    }  # fmt: skip
    assert found.any and not found.weights
    assert as_recipe(*sources(model, b), found) == Said(reason="the weights are the same")


def test_nested_keys_are_dotted() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": []}, "e": {}}) == {"a.b.c": 1, "a.d": [], "e": {}}


def test_quantised_and_unknown_ones_are_compared(model: Path, tmp_path: Path) -> None:
    b = copy(model, tmp_path / "b", lambda tensors: tensors[DOWN].zero_())
    tiny.edit_config(b, quantization_config={"quant_method": "x"}, model_type="unheard")
    found = difference(*sources(model, b))
    assert len(found.changed) == 1
    assert "quantised" in as_recipe(*sources(model, b), found).reason


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
