"""Baked against hooked, baked bytes against base bytes."""

from pathlib import Path

import torch
from monoglot.editor import neurons
from monoglot.editor.bake import bake, open_target
from monoglot.editor.recipe import Base, Edit, Recipe
from monoglot.editor.source import resolve
from safetensors.torch import load_file


def test_exactly_the_recipes_columns_are_zero(model: Path, neurons_file: Path, tmp_path: Path) -> None:
    """Against a plain second implementation: zero the columns with torch."""
    found = neurons.load(neurons_file)
    recipe = Recipe(Base("tiny"), (Edit("fr", "deactivate"),), shared="edit")
    bake(open_target(resolve(str(model))), found, recipe, tmp_path / "out")
    expected = load_file(model / "model.safetensors")
    for layer, columns in enumerate([[3, 5, 7], [1], [2, 4]]):
        expected[f"model.layers.{layer}.mlp.down_proj.weight"][:, columns] = 0
    baked = load_file(tmp_path / "out" / "model.safetensors")
    assert baked.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(baked[name], tensor), name
