"""What `bake --dry-run` says, against what `bake` then does."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import tiny

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.request import AUTO, Request
from monoglot.editor.errors import OutputError, RecipeError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.forecast.of_bake import forecast_bake
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

OURS = ("README.md", "monoglot.json", "neurons.json", "recipe.yaml", "calibration.monoglot")
Run = Callable[..., tuple[int, str, str]]


def content(folder: Path) -> dict[str, bytes]:
    """Give the bytes of each tensor."""
    return {
        tensor.name: shard.path.read_bytes()[tensor.begin : tensor.end]
        for shard, tensor in read_checkpoint(folder).tensors()
    }


@pytest.mark.parametrize(("case", "carrier"), [("llama", "flag"), ("gpt2", "native"), ("qwen3", "calibrated")])
def test_it_is_what_bake_does(saved: Callable[..., Path], tmp_path: Path, case: str, carrier: str) -> None:
    base, out = saved(case, dtype="float16", shards=True), tmp_path / "a" / "out"
    target = open_target(resolve(str(base)))
    own = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    made = tiny.by_hand(target) if carrier == "calibrated" else None
    recipe = tiny.recipe("pin", carrier)
    forecast = forecast_bake(target, own, recipe, out, calibration=made)
    assert not (tmp_path / "a").exists()
    baked = bake(target, own, recipe, out, calibration=made)
    sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.name not in OURS}
    ((need, free),) = forecast.disk.values()
    assert need == sum(sizes.values()) < free
    (step,) = forecast.steps
    assert f"{baked.carried.plan.size:,} neurons" in step.what and step.seconds > 0
    before, after = content(base), content(out)
    changed = [data for name, data in before.items() if after[name] != data]
    if carrier != "flag":  # whose new biases are no tensors of the base
        assert f"{len(changed)} tensors of {sum(map(len, changed)) / 1e6:,.1f} MB" in step.what


def test_what_bake_refuses_it_refuses(saved: Callable[..., Path], tmp_path: Path) -> None:
    target = open_target(resolve(str(saved("llama"))))
    own = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        forecast_bake(target, own, tiny.recipe("pin", "flag"), tmp_path / "out")
    with pytest.raises(OutputError, match="inside the model's own folder"):
        forecast_bake(target, own, tiny.recipe("pin", "flag"), target.source.folder / "out")
    with pytest.raises(RecipeError, match="calibration"):
        forecast_bake(target, own, tiny.recipe("pin", "calibrated"), tmp_path / "new")


def test_a_search_is_named(saved: Callable[..., Path], tmp_path: Path) -> None:
    target = open_target(resolve(str(saved("llama"))))
    own = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    request = Request(activate=("xx",), strength=AUTO, op="pin", layers="all", shared="edit", carrier="flag")
    (line,) = forecast_bake(target, own, request, tmp_path / "out").notes
    assert "search of the strength" in line


def test_as_a_command(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, notes = monoglot("bake", model, neurons_file, "--deactivate", "fr", "-o", out, "--dry-run")
    assert code == 0 and "are edited" in said and "Nothing was written" in notes and not out.exists()
    code, _, notes = monoglot("bake", "x.gguf", neurons_file, "--deactivate", "fr", "-o", "y.gguf", "--dry-run")
    assert code != 0
