"""What distinguishes two checkpoints, against torch's own arithmetic."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from support.copies import DOWN, copy, sources

from monoglot.editor.files import streams
from monoglot.editor.proof.as_recipe import Said, as_recipe
from monoglot.editor.proof.difference import ABSENT, difference, flat


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
