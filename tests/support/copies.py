"""Copies of the tiny model in which single numbers are changed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from monoglot.editor.models.source import resolve

DOWN = "model.layers.1.mlp.down_proj.weight"


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
