"""monoglot diff: what it says, its exit code, and the recipe that it writes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny

Run = Callable[..., tuple[int, str, str]]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def baked(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> Callable[..., Path]:
    def bake(name: str, *edits: str) -> Path:
        code, _, err = monoglot("bake", model, neurons_file, *edits, "--no-compat-config", "-o", tmp_path / name)
        assert code == 0, err
        return tmp_path / name

    return bake


def test_a_base_and_its_checkpoint(monoglot: Run, model: Path, baked: Any) -> None:
    out = baked("out", "--deactivate", "fr", "--scale", "zh=0.5", "--shared", "edit")
    code, shown, err = monoglot("diff", model, out)
    assert code == 0, err
    text = words(shown)
    assert f"A {model} B {out}" in text and "tensors: 27 the same, 3 changed" in text
    assert "model.layers.0.mlp.down_proj.weight F32 16 × 24 64 4 of 24 columns: 3, 5, 6, 7" in text
    assert "config: the same metadata: the same" in text and "monoglot.json only in B" in text
    assert "B was made from A by monoglot" in text and "fr: deactivated zh: scaled × 0.5" in text
    assert (
        "as a recipe, which gives B's weights from A's byte for byte: 6 neurons deactivated 4 neurons scaled × 0.5"
        in text
    )
    assert "Write it with --recipe" in err


def test_the_recipe_that_it_writes(monoglot: Run, model: Path, baked: Any, tmp_path: Path) -> None:
    out = baked("out", "--deactivate", "fr", "--scale", "zh=0.7", "--shared", "edit")
    recipe, place = tmp_path / "found" / "r.yaml", tmp_path / "again"
    code, _, err = monoglot("diff", model, out, "--recipe", recipe)
    assert code == 0 and "monoglot bake" in err
    neurons = recipe.with_name("neurons.json")
    code, _, err = monoglot("bake", model, neurons, "--recipe", recipe, "-o", place)
    assert code == 0, err
    assert (place / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    before = recipe.read_bytes()
    code, shown, err = monoglot("diff", model, out, "--recipe", recipe)
    assert (code, shown) == (1, "") and "--force" in err
    recipe.unlink()
    assert monoglot("diff", model, out, "--recipe", recipe)[0] == 1  # the neurons are there
    assert monoglot("diff", model, out, "--recipe", recipe, "--force")[0] == 0
    assert recipe.read_bytes() == before


def test_no_recipe_nothing_written(monoglot: Run, model: Path, tmp_path: Path) -> None:
    other = tiny.save_model(tmp_path / "other", seed=1)
    code, _, err = monoglot("diff", model, other, "--recipe", tmp_path / "x" / "r.yaml")
    assert code == 1 and "which is no output of a feed-forward network" in err and "Nothing was written" in err
    assert not (tmp_path / "x").exists()
    code, shown, _ = monoglot("diff", model, other)
    assert code == 0 and "as a recipe: no," in shown and "… and" in shown  # 27 matrices are more than are shown
    assert monoglot("diff", model, other, "--recipe", tmp_path / "neurons.json")[0] == 1
    assert monoglot("diff", model, other, "--recipe", tmp_path)[0] == 1
    assert monoglot("diff", model, other, "--force")[0] == 2


def test_the_exit_code(monoglot: Run, model: Path, tmp_path: Path) -> None:
    same, other = shutil.copytree(model, tmp_path / "same"), shutil.copytree(model, tmp_path / "other")
    tiny.edit_config(other, use_cache=False)
    assert monoglot("diff", model, same, "--exit-code")[0] == 0
    code, shown, _ = monoglot("diff", model, other, "--exit-code")
    assert code == 1 and "use_cache true false" in words(shown)
    assert monoglot("diff", model, other)[0] == 0
    assert "A and B are the same." in monoglot("diff", model, same)[1]


def test_two_checkpoints_of_one_base(monoglot: Run, baked: Any) -> None:
    one, other = baked("one", "--deactivate", "fr"), baked("other", "--scale", "zh=2", "--shared", "edit")
    text = words(monoglot("diff", one, other)[1])
    assert "recipes for tiny language A B" in text
    assert "fr deactivated not edited zh not edited scaled × 2 shared neurons keep edit" in text


def test_as_json(monoglot: Run, model: Path, baked: Any) -> None:
    out = baked("out", "--deactivate", "fr", "--shared", "edit")
    tiny.edit_config(out, new=None)
    code, shown, _ = monoglot("diff", model, out, "--json")
    found = json.loads(shown)
    assert code == 0 and found["differ"] and found["weights_differ"] and len(found["tensors"]["changed"]) == 3
    assert found["config"] == {"new": {"B": None}}
    assert found["recipe"]["edits"] == [{"language": "deactivated", "op": "deactivate"}]
    assert found["made_by_recipe"]["A"] is None and found["made_by_recipe"]["B"]["recipe"]["shared"] == "edit"


def test_names_and_values_that_would_act_on_a_terminal(monoglot: Run, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    tiny.edit_config(other, **{"\x1b[31mkey": "[bold]\u202e"})
    tensors = load_file(other / "model.safetensors")
    save_file({**tensors, "[/red]\x1b[2J": torch.ones(1)}, other / "model.safetensors", metadata={"format": "pt"})
    code, shown, _ = monoglot("diff", model, other)
    assert code == 0 and "\x1b" not in shown and "\u202e" not in shown
    assert "[/red]�[2J" in shown and "[bold]" in shown
