"""--compat-config: on where the base's config has the newer spelling alone, and said so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monoglot.editor.edits import recipe as recipes
from monoglot.editor.models.compat_config import READERS

Run = Callable[..., tuple[int, str, str]]
ROPE = {"rope_type": "default", "rope_theta": 500000.0}


def copied(model: Path, folder: Path, **keys: Any) -> Path:
    shutil.copytree(model, folder)
    written = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in written.items() if key not in (*READERS, "dtype", "rope_parameters")}
    (folder / "config.json").write_text(json.dumps({**kept, **keys}, indent=2))
    return folder


@pytest.fixture
def newer(model: Path, tmp_path: Path) -> Path:
    return copied(model, tmp_path / "newer", dtype="float32", rope_parameters=ROPE)


@pytest.fixture
def older(model: Path, tmp_path: Path) -> Path:
    return copied(model, tmp_path / "older", torch_dtype="float32", rope_theta=500000.0)


def spelled(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def test_on_by_default_and_said(monoglot: Run, newer: Path, neurons_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = monoglot("bake", newer, neurons_file, "--deactivate", "zh", "-o", out)
    said = " ".join(err.split())
    assert code == 0 and "rope_theta (transformers 4, mlx-lm, mistral.rs), torch_dtype" in said
    assert spelled(out) == {**spelled(newer), "torch_dtype": "float32", "rope_theta": 500000.0}
    assert recipes.load(out / "recipe.yaml").compat_config
    card = (out / "README.md").read_text()
    assert "in the older spelling too" in card and "loads it in the same way" not in card
    assert monoglot("verify", out, "--base", newer, "--fast")[0] == 0
    code, shown, _ = monoglot("rebuild", out, "--base", newer, "-o", tmp_path / "again")
    assert code == 0 and "DIFFERS" not in shown
    code, _, err = monoglot("bake", "--recipe", out / "recipe.yaml", newer, "-o", tmp_path / "by-recipe")
    assert code == 0 and (tmp_path / "by-recipe" / "config.json").read_bytes() == (out / "config.json").read_bytes()
    code, _, err = monoglot("bake", out, neurons_file, "--deactivate", "fr", "-o", tmp_path / "twice")
    assert code == 0 and "spelling" not in err and spelled(tmp_path / "twice") == spelled(out)


@pytest.mark.parametrize("name", ["TokenizersBackend", "PreTrainedTokenizerFast", None])
def test_a_tokenizer_that_only_transformers_5_knows(
    monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path, name: str | None
) -> None:
    base = copied(model, tmp_path / "base", torch_dtype="float32")
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name} if name else []))
    code, _, err = monoglot("bake", base, neurons_file, "--deactivate", "zh", "-o", tmp_path / "out")
    assert code == 0 and ("TokenizersBackend, which transformers 4" in " ".join(err.split())) == (
        name == "TokenizersBackend"
    )
    assert (tmp_path / "out" / "tokenizer_config.json").read_bytes() == (base / "tokenizer_config.json").read_bytes()


def test_off(monoglot: Run, newer: Path, neurons_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = monoglot("bake", newer, neurons_file, "--deactivate", "zh", "--no-compat-config", "-o", out)
    assert code == 0 and "spelling" not in err
    assert (out / "config.json").read_bytes() == (newer / "config.json").read_bytes()
    assert "compat_config" not in (out / "recipe.yaml").read_text()
    card = (out / "README.md").read_text()
    assert "spelling" not in card and "loads it in the same way" in card
    code, _, err = monoglot("bake", newer, "--recipe", out / "recipe.yaml", "-o", tmp_path / "again")
    assert code == 0 and "Warning" in err and "`compat_config: true`" in err  # a recipe says what it says
    assert (tmp_path / "again" / "config.json").read_bytes() == (newer / "config.json").read_bytes()


@pytest.mark.parametrize("flags", [(), ("--compat-config",)])
def test_a_base_that_has_the_older_keys_gets_nothing(
    monoglot: Run, older: Path, neurons_file: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    code, _, err = monoglot("bake", older, neurons_file, "--deactivate", "zh", "-o", out, *flags)
    assert code == 0 and ("had nothing to add" in " ".join(err.split())) == bool(flags)
    assert (out / "config.json").read_bytes() == (older / "config.json").read_bytes()
    assert "compat_config" not in (out / "recipe.yaml").read_text()


def test_a_recipe_has_its_own(monoglot: Run, newer: Path, tmp_path: Path) -> None:
    for flag in ("--compat-config", "--no-compat-config"):
        code, _, err = monoglot("bake", newer, "--recipe", tmp_path / "r.yaml", flag, "-o", tmp_path / "out")
        assert code == 2 and "compat-config" in err


def test_diff_knows_them(monoglot: Run, newer: Path, neurons_file: Path, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", tmp_path / "plain"
    monoglot("bake", newer, neurons_file, "--deactivate", "zh", "-o", out)
    monoglot("bake", newer, neurons_file, "--deactivate", "zh", "--no-compat-config", "-o", plain)
    for pair in ((newer, out), (out, newer), (plain, out)):
        _, shown, _ = monoglot("diff", *pair)
        assert "only the older spelling of what both configs say: rope_theta, torch_dtype" in shown
        assert json.loads(monoglot("diff", *pair, "--json")[1])["config_respelled"] == ["rope_theta", "torch_dtype"]
    assert "older config keys" in shown and "added" in shown
    written = {**spelled(out), "rope_theta": 1.0}
    (out / "config.json").write_text(json.dumps(written))
    assert json.loads(monoglot("diff", newer, out, "--json")[1])["config_respelled"] == ["torch_dtype"]


def test_export(monoglot: Run, newer: Path, corpus: Path, tmp_path: Path) -> None:
    command = ("export", newer, "--corpus", corpus, "--deactivate", "zh", "--rate", "0.1", "--tokens", 512, "--minimum", 64,
               "--verify-tokens", 64, "--context", 64, "--fast", "-o", tmp_path / "out")  # fmt: skip
    code, _, err = monoglot(*command)
    assert code == 0 and "rope_theta (transformers 4" in " ".join(err.split()), err
    assert spelled(tmp_path / "out")["rope_theta"] == 500000.0
    code, _, err = monoglot(*command)
    assert code == 0 and "is this checkpoint already" in err
    code, _, err = monoglot(*command, "--no-compat-config")
    assert code == 1  # another checkpoint, which is not put over this one
