"""A checkpoint as a model: on which device, in which dtype, and which numbers it then has."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from monoglot.editor.errors import ModelError
from monoglot.editor.live.load import choose_device, choose_dtype, load_model


def test_the_weights_are_those_of_the_file(model: Path) -> None:
    live, stored = load_model(model, device="cpu"), load_file(model / "model.safetensors")
    assert not live.training
    weights = live.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in stored.items())


def test_a_cpu_computes_in_float32_and_others_as_the_config_says(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_dtype(model, "cpu") == "float32"
    assert choose_dtype(model, "cpu", "bfloat16") == "bfloat16"
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    monkeypatch.setattr("monoglot.editor.live.load.choose_device", lambda device: "cuda:0")
    for stored, expected in (("bfloat16", "bfloat16"), ("torch.float16", "float16"), ("float64", "float32")):
        (folder / "config.json").write_text(json.dumps({**config, "dtype": stored, "torch_dtype": stored}))
        assert choose_dtype(folder, "cuda") == expected


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(ModelError, match=r"there is no cuda device here\. Use `device` auto"):
        choose_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("auto") == choose_device("cuda") == "cuda:3"


def test_weights_that_are_missing_are_an_error(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight"):
        load_model(folder)
