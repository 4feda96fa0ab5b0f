"""monoglot rebuild: as a command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import folders

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def out(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> Path:
    code, _, err = monoglot("bake", model, neurons_file, "--deactivate", "fr", "-o", tmp_path / "out")
    assert code == 0, err
    return tmp_path / "out"


def test_the_same_again(monoglot: Run, out: Path, model: Path, tmp_path: Path) -> None:
    code, shown, err = monoglot("rebuild", out, "-o", tmp_path / "again", "--base", model)
    assert code == 0 and "again." in err and "NOT" not in err
    assert "DIFFERS" not in shown and shown.count("the same") == len(folders.manifest_data(out)["files"])
    for name in ("model.safetensors", "config.json", "neurons.json", "recipe.yaml", "README.md", "monoglot.json"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    assert monoglot("rebuild", out, "-o", tmp_path / "again", "--base", model)[0] == 1
    assert monoglot("rebuild", out, "-o", tmp_path / "again", "--base", model, "--force")[0] == 0


def test_proved_first_and_made_again(monoglot: Run, out: Path, model: Path, tmp_path: Path) -> None:
    assert monoglot("verify", out, "--base", model, "--fast")[0] == 0
    code, shown, _ = monoglot("rebuild", out, "-o", tmp_path / "again", "--base", model, "--json")
    found = json.loads(shown)
    assert code == 0 and found["equal"] and found["differ"] == {}
    assert "written with that it is the same" in found["excused"]["README.md"]
    assert "model.safetensors" in found["same"]


def test_what_is_not_the_same(monoglot: Run, out: Path, model: Path, tmp_path: Path) -> None:
    record = folders.manifest_data(out)
    record["files"]["model.safetensors"]["sha256"] = "0" * 64
    folders.write_manifest(out, record)
    code, shown, err = monoglot("rebuild", out, "-o", tmp_path / "again", "--base", model)
    assert code == 1 and "NOT" in err and "DIFFERS" in shown
    assert (tmp_path / "again" / "model.safetensors").is_file()


def test_what_cannot_be(monoglot: Run, out: Path, model: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    code, _, err = monoglot("rebuild", out, "-o", again)
    assert code == 1 and "--base" in err  # a folder of that name is not beside it
    code, _, err = monoglot("rebuild", model, "-o", again)
    assert code == 1 and "not made by monoglot" in err
    code, _, err = monoglot("rebuild", out, "-o", out, "--force", "--base", model)
    assert code == 1 and "Choose another place" in err
    code, _, err = monoglot("rebuild", out, "-o", again, "--base", model, "--calibration", out / "x")
    assert code == 1 and "Leave --calibration out" in err
    assert not again.exists()
