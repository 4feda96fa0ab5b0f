"""monoglot inspect: one screen of each kind."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny
from support.redirected import vocabulary_of

from monoglot.editor.describe import describe
from monoglot.editor.edits import calibration, silence
from monoglot.editor.edits import recipe as recipes
from monoglot.editor.edits.silence import Floor, Silence, Tokens
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import statistics, vocabulary
from monoglot.editor.text.silenced import Staying

SILENCE = Silence(
    ModelInfo("tiny", None, "llama", 3, 24, "f" * 64), 300, {"Han": np.array([2, 5])},
    {"Han": Tokens(1, 1, 0, (Staying(3, "e3", 7, "Hiragana"),))}, "々", ("en", "zh"),
    np.array([0.5, -1.5]), Floor(10, 5, 1e-3, 1.0, 0.1, 0.5, "zh", 0.1, 100.0, -60.0),
)  # fmt: skip
Run = Callable[..., tuple[int, str, str]]
SCREEN = 40  # lines


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def out(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> Path:
    edits = ("--deactivate", "fr", "--activate", "zh", "--op", "scale", "--strength", "2")
    code, _, err = monoglot("bake", model, neurons_file, *edits, "-o", tmp_path / "out")
    assert code == 0, err
    return tmp_path / "out"


def test_a_model(monoglot: Run, model: Path) -> None:
    code, shown, err = monoglot("inspect", model)
    assert (code, err) == (0, "") and len(shown.splitlines()) < SCREEN
    text = words(shown)
    assert text.startswith("tiny a llama model weights")
    assert "3 layers × 24 = 72 neurons, 16 wide; gated, silu; mlp.gate_proj, mlp.up_proj → mlp.down_proj" in text
    assert "none in its feed-forward layers, mlp_bias in config.json turns them on" in text
    assert "operations deactivate, scale, pin, add, shift" in text
    assert "flag yes, exact" in text and "calibrated yes, approximate, what auto takes" in text
    assert "native no: its feed-forward layers have no biases" in text
    assert describe(str(model))["fingerprint"] in text


def test_a_checkpoint(monoglot: Run, out: Path) -> None:
    code, shown, err = monoglot("inspect", out)
    assert (code, err) == (0, "") and len(shown.splitlines()) < SCREEN
    text = words(shown)
    assert "made from tiny (" in text and "French: deactivated; 6 neurons, 0 shared ones kept" in text
    assert "Chinese: scaled × 2" in text and "neurons of several languages: edit" in text
    assert "proved nothing yet: monoglot verify measured nothing yet" in text
    assert "each with the size that the manifest lists (--hashes reads them)" in text
    assert "each with the sha256 that the manifest lists" in words(monoglot("inspect", out, "--hashes")[1])
    (out / "config.json").write_bytes((out / "config.json").read_bytes() + b" ")
    (out / "tokenizer.json").unlink()
    assert "NOT as the manifest lists them; missing: tokenizer.json; of another size: config.json" in words(
        monoglot("inspect", out)[1]
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "un\x1b[31m\x07\u202eheard"}, "unknown model family"),
        ({"model_type": "x_moe"}, "mixture of experts"),
        ({"num_experts": 4}, "the config says 4 experts, the file has none"),
        ({"quantization_config": {}, "model_type": 3}, "unknown model family 3"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised (awq)"),
    ],
)
def test_what_cannot_be_edited(monoglot: Run, model: Path, tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    tiny.edit_config(folder, **config)
    code, shown, err = monoglot("inspect", folder)
    assert (code, err) == (0, "") and not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert f"cannot be edited {folder}"[:16] in shown and reason in words(shown)


def test_the_other_files(monoglot: Run, model: Path, neurons_file: Path, corpus: Path, tmp_path: Path) -> None:
    text = words(monoglot("inspect", neurons_file)[1])
    assert "neurons of 3 languages, 12 in 3 layers" in text and "not pinned" in text
    assert "fr 6 4 3 1 2" in text
    stats = tmp_path / "s.safetensors"
    settings = ("--tokens", "300", "--context", "33", "--minimum", "100", "--device", "cpu")
    assert monoglot("detect", model, "--corpus", corpus, *settings, "--quantiles", "-o", stats)[0] == 0
    text = words(monoglot("inspect", stats)[1])
    assert "holds active counts and sums; histograms" in text and "not means over texts" in text
    assert "zh 300 1" in text and statistics.load(stats).model.fingerprint[:12] in text
    calibration.save(tiny.by_hand(open_target(resolve(str(model)))), tmp_path / "c")
    assert "3 layers × 16, for F32 weights" in words(monoglot("inspect", tmp_path / "c")[1])
    (tmp_path / "recipe.yaml").write_text(recipes.to_yaml(tiny.recipe("pin")))
    text = words(monoglot("inspect", tmp_path / "recipe.yaml")[1])
    assert "for tiny, whatever its fingerprint neurons neurons.json, which is not there edits off: deactivated" in text
    assert "xx: pinned at 1.5 × the mean" in text and "tolerance 0.15" in text


def test_what_is_counted_in_tokens(monoglot: Run, tmp_path: Path) -> None:
    """A vocabulary and a silence: a fact a line, and a table."""
    target = open_target(resolve(str(tiny.save_model(tmp_path / "model"))))
    vocabulary.save(vocabulary_of(target), tmp_path / "v.monoglot")
    lines = monoglot("inspect", tmp_path / "v.monoglot")[1].splitlines()
    assert lines[0].split()[:2] == ["vocabulary", "of"] and lines[1].startswith("used  ")
    silence.save(SILENCE, tmp_path / "s.monoglot")
    lines = monoglot("inspect", tmp_path / "s.monoglot")[1].splitlines()
    assert lines[0].split()[:2] == ["silence", "of"] and any(line.startswith("held down by ") for line in lines)


def test_as_json(monoglot: Run, model: Path, out: Path, neurons_file: Path) -> None:
    for what in (model, out, neurons_file, "embedded"):
        code, shown, _ = monoglot("inspect", what, "--json")
        assert code == 0 and json.loads(shown) == json.loads(json.dumps(describe(str(what))))


def test_what_is_nothing(monoglot: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    code, shown, err = monoglot("inspect", tmp_path / "x")
    assert (code, shown) == (1, "") and "What can: a model" in err
    assert monoglot("inspect")[0] == 2
    code, shown, err = monoglot("inspect", model, "--hashes")
    assert (code, shown) == (2, "") and "--hashes goes with a checkpoint" in err


def test_nothing_heavy_is_imported() -> None:
    """The embedded model is an answer of headers alone."""
    code = (
        "import sys; from monoglot.editor.describe import describe; describe('embedded'); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
