"""Baked against hooked, baked bytes against base bytes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import tiny

from monoglot.cards.render import card_writer
from monoglot.editor.edits import manifest
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.recipe import load as load_recipe
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons


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


KINDS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "sharded": {"dtype": "bfloat16", "shards": True},
    "tied": {"dtype": "float16", "tie_word_embeddings": True},
    "rows, not columns": {
        "dtype": "float16",
        "model_type": "gpt2",
        "n_embd": 16,
        "n_layer": 3,
        "n_head": 2,
        "n_inner": 24,
    },
}


@pytest.fixture(scope="module", params=KINDS, ids=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of each kind of file, with a README.md, a licence, a file in a subfolder and one that is not the model's."""
    folder = tmp_path_factory.mktemp("kind") / "base"
    tiny.save_model(folder, **KINDS[request.param])
    (folder / "README.md").write_text("---\nlicense: mit\n---\nThe base.\n", encoding="utf-8")
    (folder / "LICENSE").write_bytes(b"MIT\r\n\xff")
    (folder / "chat_templates").mkdir()
    (folder / "chat_templates" / "tool.jinja").write_text("x")
    (folder / "notes.txt").write_text("x")
    return folder


OUT = ("mlp.down_proj.weight", "mlp.c_proj.weight")
RECIPES = {
    "deactivate": Recipe(Base("tiny"), (Edit("fr", "deactivate"),), shared="edit"),
    "scale": Recipe(Base("tiny"), (Edit("fr", "scale", 1.7), Edit("zh", "deactivate"))),
}


def baked(base: Path, neurons_file: Path, recipe: Recipe, out: Path) -> dict[str, str]:
    """Bake with a card as the command does; sha256 of every file."""
    found = replace(neurons.load(neurons_file), model=None)
    bake(open_target(resolve(str(base))), found, recipe, out, describe=card_writer(found.method))
    return {path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*")) if path.is_file()}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_same_in_same_out(kind: Path, neurons_file: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Every file, the card and the manifest included; also from another place, in another order on the disk."""
    first = baked(kind, neurons_file, recipe, tmp_path / "first")
    assert {"README.md", "monoglot.json", "recipe.yaml", "neurons.json", "config.json"} <= first.keys()
    moved = tmp_path / "elsewhere" / kind.name
    moved.mkdir(parents=True)
    for path in sorted(kind.rglob("*"), reverse=True):
        if path.is_file():
            (moved / path.relative_to(kind)).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, moved / path.relative_to(kind))
    assert baked(moved, neurons_file, recipe, tmp_path / "a" / "second") == first
    assert str(tmp_path) not in (tmp_path / "first" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in (tmp_path / "first" / "monoglot.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_everything_else_stays_as_it_was(kind: Path, neurons_file: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Headers, tensors that no edit touches and all other files, byte for byte; each edited tensor did change."""
    out = tmp_path / "out"
    sums = baked(kind, neurons_file, recipe, out)
    base, ours = read_checkpoint(kind), read_checkpoint(out)
    assert [shard.path.name for shard in ours.shards] == [shard.path.name for shard in base.shards]
    edited = {name for shard in base.shards for name in (t.name for t in shard.tensors) if name.endswith(OUT)}
    changed = set()
    for new, old in zip(ours.shards, base.shards, strict=True):
        assert new.header == old.header
        content, original = new.path.read_bytes(), old.path.read_bytes()
        assert len(content) == len(original)
        for tensor in old.tensors:
            if content[tensor.begin : tensor.end] != original[tensor.begin : tensor.end]:
                changed.add(tensor.name)
    assert changed == edited and len(edited) == tiny.LAYERS
    own = {"README.md", "monoglot.json", "recipe.yaml", "neurons.json"}
    others = {path.relative_to(kind).as_posix() for path in kind.rglob("*") if path.is_file()} - own - {"notes.txt"}
    assert sums.keys() == others | own
    for name in others - {shard.path.name for shard in base.shards}:
        assert (out / name).read_bytes() == (kind / name).read_bytes(), name
    recorded = json.loads((out / "monoglot.json").read_text(encoding="utf-8"))["files"]
    assert {name: entry["sha256"] for name, entry in recorded.items()} | {
        "monoglot.json": sums["monoglot.json"]
    } == sums


@pytest.mark.parametrize(("model_type", "carrier"), [("llama", "flag"), ("phi3", "llama"), ("gpt2", "native")])
def test_progress_ends_at_the_whole(saved: Callable[..., Path], model_type: str, carrier: str, tmp_path: Path) -> None:
    target = open_target(resolve(str(saved(model_type, shards=True))))
    own, seen = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width), list[tuple[int, int]]()
    bake(
        target,
        own,
        tiny.recipe("pin", carrier),
        tmp_path / "out",
        progress=lambda done, size: seen.append((done, size)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_the_manifest_says_how_constants_were_carried(saved: Callable[..., Path], tmp_path: Path) -> None:
    """And the recipe in the folder names the carrier that `auto` stood for."""
    for model_type, carrier in (("llama", None), ("gpt2", "native"), ("qwen3", "calibrated")):
        target, out = open_target(resolve(str(saved(model_type)))), tmp_path / model_type
        own, made = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width), tiny.by_hand(target)
        recipe = tiny.recipe("pin")
        if carrier is None:
            recipe = replace(recipe, edits=recipe.edits[:1])
        baked = bake(target, own, recipe, out, calibration=made).manifest
        assert baked == manifest.read(out)
        record = baked.to_data()
        assert record == json.loads((out / "monoglot.json").read_text())
        assert load_recipe(out / "recipe.yaml").carrier == (carrier or "auto")
        if carrier is None:
            assert record["carrier"] is None
        else:
            errors = record["carrier"].pop("calibration")
            assert record["carrier"] == {"name": carrier, "layers_left_out": [], "spare_neurons": 0}
            assert (errors is None) == (carrier == "native")
        assert (out / "calibration.monoglot").exists() == (carrier == "calibrated")
        assert (
            set(record["rounding"]) == {"gpt2": {"weights", "biases"}, "qwen3": {"weights"}, "llama": set()}[model_type]
        )


def test_what_is_private_stays_private(model: Path, neurons_file: Path, tmp_path: Path) -> None:
    """A config of mode 0600 is not made anew for everybody to read."""
    shutil.copytree(model, tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        path.chmod(0o600)
    recipe = Recipe(Base("tiny"), (Edit("zh", "deactivate"),), compat_config=True)
    bake(open_target(resolve(str(tmp_path / "model"))), neurons.load(neurons_file), recipe, tmp_path / "out")
    for path in (tmp_path / "model").iterdir():
        assert (tmp_path / "out" / path.name).stat().st_mode & 0o777 == 0o600, path.name
