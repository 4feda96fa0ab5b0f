"""Whatever file a reader is given in place of its own, it says what it is and who takes it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from monoglot.editor import embedded
from monoglot.editor.edits import calibration, manifest, recipe
from monoglot.editor.errors import MonoglotError
from monoglot.editor.files import kinds
from monoglot.editor.models.source import resolve
from monoglot.editor.neurons import neurons
from monoglot.editor.neurons.mask import write_mask
from monoglot.editor.statistics import statistics


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: Path, neurons_file: Path) -> dict[str, Path]:
    """One of each kind, under a name that says nothing."""
    folder = tmp_path_factory.mktemp("kinds")
    found = neurons.load(neurons_file)
    made = {name: folder / f"{number}" for number, name in enumerate(kinds.OF)}
    for name, key in kinds.METADATA.items():
        save_file({"a": np.zeros(3)}, made[name], metadata={key: "{}"})
    neurons.save(found, made["neurons"])
    write_mask(found, made["mask"])
    made["findings"].write_text(json.dumps({"format": 1, "model": {}, "neurons": {}, "evaluation": {}}))
    made["comparison"].write_text(json.dumps({"format": 1, "model": {}, "methods": {}, "overlap": {}}))
    made["manifest"].write_text(json.dumps({"format": 1, "base": {}, "recipe": {}, "files": {}, "evaluation": {}}))
    made["sidecar"].write_text(json.dumps({"format": 1, "base": {}, "recipe": {}, "file": {}, "cleared": []}))
    made["converted"].write_text(
        json.dumps({"format": 1, "checkpoint": {}, "type": "q8_0", "file": {}, "survival": None})
    )
    made["recipe"].write_text("format: 1\nbase: {model: m}\nneurons: neurons.json\nedits: []\n")
    made["config"] = model / "config.json"
    made["weights"] = model / "model.safetensors"
    return made


def test_each_is_told_by_its_bytes(files: dict[str, Path]) -> None:
    assert {name: kinds.kind(path) for name, path in files.items()} == {name: name for name in kinds.OF}


READERS: dict[str, Callable[[Path], object]] = {
    "calibration": calibration.load,
    "neurons": neurons.load,
    "recipe": recipe.load,
    "statistics": statistics.load,
    "manifest": manifest.read,
    "weights": lambda path: resolve(str(path)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("given", kinds.OF)
def test_a_reader_says_what_it_was_given(files: dict[str, Path], reader: str, given: str) -> None:
    """Its own file is not what this is about: here those are damaged, or files in place of a folder."""
    if reader == given:
        return
    with pytest.raises(MonoglotError) as error:
        READERS[reader](files[given])
    what, takes = kinds.OF[given]
    assert str(error.value).startswith(f"{files[given]} holds {what}, not ")
    assert str(error.value).endswith(f": {takes}.") and "damaged" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b"PK not really", b"\x05\0\0\0\0\0\0\0{", b"edit: x\n"])
def test_of_any_other_file_nothing_is_claimed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert kinds.instead(tmp_path / "x", "neurons") is None
    assert kinds.instead(tmp_path, "neurons") is None and kinds.instead(tmp_path / "nowhere", "neurons") is None


def test_tensors_without_a_config_are_nobodys(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / "x")
    assert kinds.instead(tmp_path / "x", "neurons") is None


def test_the_embedded_model_s_own_files() -> None:
    assert kinds.kind(embedded.MODEL / "config.json") == "config"
    assert kinds.kind(embedded.MODEL / "model.safetensors") == "weights"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("<!doctype html>", "web page"),
    ],
)
def test_a_pointer_and_a_page_are_called_so_by_every_reader(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "file").write_text(content)
    for read in (recipe.load, neurons.load):
        with pytest.raises(MonoglotError, match=said):
            read(tmp_path / "file")
