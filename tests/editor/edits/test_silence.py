"""The file of a silence: what is read is what was written, and what is no such file is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from monoglot.editor.edits.silence import METADATA, Floor, Silence, Tokens, load, save, serialise
from monoglot.editor.errors import StatisticsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.text.silenced import Staying

SILENCE = Silence(
    ModelInfo("tiny", None, "llama", 2, 8, "f" * 64), 20, {"Han": np.array([2, 5, 9]), "Thai": np.array([4])},
    {"Han": Tokens(1, 1, 1, (Staying(3, "e3", 7, "Hiragana"),)), "Thai": Tokens(1, 0, 0)}, "々", ("en", "zh"),
    np.array([0.5, -1.5]), Floor(10, 5, 1e-3, 1.0, 0.1, 0.5, "zh", 0.1, 100.0, -60.0),
)  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "silence.monoglot"
    save(SILENCE, path)
    found = load(path)
    assert serialise(found) == serialise(SILENCE) == path.read_bytes()
    assert (found.tokens, found.floor, found.scripts) == (SILENCE.tokens, SILENCE.floor, ("Han", "Thai"))
    exact = replace(SILENCE, direction=None, floor=None)
    save(exact, path)
    assert load(path).direction is load(path).floor is None


def rewritten(path: Path, change: Any) -> None:
    with safe_open(path, framework="numpy") as file:
        head = json.loads(file.metadata()[METADATA])
        arrays = {name: file.get_tensor(name) for name in list(file.keys())}  # it is no dict
    change(head, arrays)
    save_file(arrays, path, {METADATA: json.dumps(head)})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda head, arrays: head.update(version=9), "has format 9"),
        (lambda head, arrays: head.update(rows=9), "is not in the table"),
        (lambda head, arrays: head.pop("spared"), "is damaged"),
        (lambda head, arrays: arrays.pop("Thai.ids"), "is damaged"),
        (lambda head, arrays: arrays.update({"Thai.ids": np.array([5])}), "a token is of two scripts"),
        (lambda head, arrays: arrays.update({"Han.ids": np.array([5, 2, 9])}), "not ids in order"),
        (lambda head, arrays: arrays.update({"Han.ids": np.array([2, 9])}), "not as many as it says"),
        (lambda head, arrays: arrays.pop("direction"), "figures without one"),
        (lambda head, arrays: arrays.update(direction=np.array([np.nan, 1], np.float32)), "finite numbers"),
        (lambda head, arrays: head["model"].pop("fingerprint"), "is damaged"),
    ],
)
def test_damaged(change: Any, word: str, tmp_path: Path) -> None:
    path = tmp_path / "silence.monoglot"
    save(SILENCE, path)
    rewritten(path, change)
    with pytest.raises(StatisticsError, match=word):
        load(path)


def test_another_file(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match="there is no silence"):
        load(tmp_path / "none")
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(StatisticsError, match="is damaged"):
        load(tmp_path / "x")
    (tmp_path / "recipe.yaml").write_text("format: 1\nscripts: []\n")
    with pytest.raises(StatisticsError, match="holds a recipe, not a silence"):
        load(tmp_path / "recipe.yaml")
