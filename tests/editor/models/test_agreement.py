"""A config whose sizes are none, or another file's, is refused by every command that opens a model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from monoglot.editor.errors import CheckpointError
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

ODD = [
    ("num_hidden_layers", 0), ("num_hidden_layers", -1), ("num_hidden_layers", 1.5), ("num_hidden_layers", "3"),
    ("num_hidden_layers", True), ("num_hidden_layers", None), ("hidden_size", "16"), ("hidden_size", 0),
    ("vocab_size", -4), ("vocab_size", 10.0), ("vocab_size", [10]),
]  # fmt: skip


def changed(model: Path, place: Path, **keys: Any) -> Path:
    shutil.copytree(model, place)
    config = json.loads((place / "config.json").read_text()) | keys
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.mark.parametrize(("key", "value"), ODD)
def test_sizes_are_positive_whole_numbers(key: str, value: object, model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"the config says (True layers|{key} is .* no positive whole number)"):
        open_target(resolve(str(changed(model, tmp_path / "m", **{key: value}))))


@pytest.mark.parametrize("value", ["yes", 1, []])
def test_tied_is_true_or_false(value: object, model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tie_word_embeddings is .* neither true nor false"):
        open_target(resolve(str(changed(model, tmp_path / "m", tie_word_embeddings=value))))


def test_the_files_sizes_are_the_configs(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    hidden, rows = config["hidden_size"], config["vocab_size"]
    with pytest.raises(
        CheckpointError, match=rf"says vectors of {hidden + 1} numbers \(hidden_size\), .* write {hidden}\."
    ):
        open_target(resolve(str(changed(model, tmp_path / "hidden", hidden_size=hidden + 1))))
    with pytest.raises(CheckpointError, match=rf"the config says {rows + 1} tokens \(vocab_size\), .* has {rows} rows"):
        open_target(resolve(str(changed(model, tmp_path / "rows", vocab_size=rows + 1))))
    open_target(resolve(str(changed(model, tmp_path / "same"))))


def test_where_experts_begin_is_what_the_config_says(saved: Callable[..., Path], tmp_path: Path) -> None:
    base = saved("deepseek_v3")
    open_target(resolve(str(base)))
    for said in (0, 2):
        with pytest.raises(
            CheckpointError, match=rf"{said} layers without experts .* the first that has some is layer 1"
        ):
            open_target(resolve(str(changed(base, tmp_path / f"{said}", first_k_dense_replace=said))))


def test_all_routers_have_a_correction_or_none(saved: Callable[..., Path], tmp_path: Path) -> None:
    """A shard that is left out is not the only way to lose one."""
    base = saved("deepseek_v3")
    tensors = load_file(base / "model.safetensors")
    (name, *others) = sorted(key for key in tensors if key.endswith("e_score_correction_bias"))
    assert others
    place = changed(base, tmp_path / "m")
    save_file({key: value for key, value in tensors.items() if key != name}, place / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layer 1 has no mlp\.gate\.e_score_correction_bias, others have"):
        open_target(resolve(str(place)))
    save_file({key: value for key, value in tensors.items() if key not in (name, *others)}, place / "model.safetensors")
    open_target(resolve(str(place)))
