"""Every file that monoglot writes and reads again says which format it has, and one of an unknown format is refused: the
message says which it has, which this version reads, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from support import tiny

from monoglot.editor.edits import calibration, manifest, recipe
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import MonoglotError
from monoglot.editor.files.kinds import FILE
from monoglot.editor.measures import compare_methods as compare
from monoglot.editor.measures import findings
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.statistics import resume, statistics
from monoglot.editor.statistics.statistics import Statistics

UNKNOWN = 999
Write = Callable[[Target, Path], Path]  # a folder in, the file in it out


class Kind(NamedTuple):
    """How a file is written, read, and given another format number."""

    write: Write
    read: Callable[[Path], Any]
    renumber: Callable[[Path], None]
    format: int


def some_neurons(target: Target) -> Neurons:
    return neurons.Neurons(
        {k: tuple(np.array([number]) for _ in range(tiny.LAYERS)) for number, k in enumerate(("en", "fr"))},
        {}, model_info(target), {"name": "hand"},
    )  # fmt: skip


def write_statistics(target: Target, folder: Path) -> Path:
    zeros = np.zeros((tiny.LAYERS, tiny.WIDTH), np.int64)
    made = Statistics(model_info(target), {"en": 5}, {"en": zeros}, {"en": zeros.astype(np.float64)}, {"en": ("a",)})
    statistics.save(made, folder / "stats.safetensors")
    return folder / "stats.safetensors"


def write_calibration(target: Target, folder: Path) -> Path:
    calibration.save(tiny.by_hand(target), folder / calibration.FILE)
    return folder / calibration.FILE


def write_neurons(target: Target, folder: Path) -> Path:
    neurons.save(some_neurons(target), folder / "neurons.json")
    return folder / "neurons.json"


def write_recipe(target: Target, folder: Path) -> Path:
    path = folder / recipe.FILE
    path.write_text(recipe.to_yaml(Recipe(target.base, (Edit("fr", "deactivate"),))), encoding="utf-8")
    return path


def write_checkpoint(target: Target, folder: Path) -> Path:
    bake(target, some_neurons(target), Recipe(target.base, (Edit("fr", "deactivate"),)), folder / "out")
    return folder / "out" / FILE


def write_findings(target: Target, folder: Path) -> Path:
    own = some_neurons(target)
    findings.write(folder, findings.of_folder(folder, model_info(target), own), own)
    return folder / findings.FILE


def half_done(path: Path | None) -> resume.Resume:
    return resume.Resume(path, {}, ["en"], {"en.total": np.zeros(3)}, 8)


def write_progress(_: Target, folder: Path) -> Path:
    begun = half_done(folder / ".stats.safetensors.progress")
    begun.done["en"] = 2
    begun.sums["en.total"] += 1
    begun.save()
    return folder / ".stats.safetensors.progress"


def in_json(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format": UNKNOWN}))


def in_yaml(path: Path) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text(encoding="utf-8")), "format": UNKNOWN}))


def in_safetensors(metadata: str, number: str) -> Callable[[Path], None]:
    """The number stands in JSON under a key of the file's metadata."""

    def renumber(path: Path) -> None:
        from safetensors import safe_open
        from safetensors.numpy import save_file

        with safe_open(path, framework="numpy") as file:
            head = {**json.loads(file.metadata()[metadata]), number: UNKNOWN}
            arrays = {name: file.get_tensor(name) for name in list(file.keys())}  # no mapping
        save_file(arrays, path, {metadata: json.dumps(head)})

    return renumber


KINDS = {
    "statistics": Kind(
        write_statistics, statistics.load, in_safetensors(statistics.METADATA, "version"), statistics.FORMAT
    ),
    "calibration": Kind(
        write_calibration, calibration.load, in_safetensors(calibration.METADATA, "version"), calibration.FORMAT
    ),
    "progress": Kind(write_progress, half_done, in_safetensors("state", "format"), resume.FORMAT),
    "neurons": Kind(write_neurons, neurons.load, in_json, neurons.FORMAT),
    "recipe": Kind(write_recipe, recipe.load, in_yaml, recipe.FORMAT),
    "manifest": Kind(write_checkpoint, lambda path: manifest.read(path.parent), in_json, manifest.FORMAT),
    "findings": Kind(write_findings, lambda path: findings.read(path.parent), in_json, findings.FORMAT),
}


@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_format_is_refused_with_advice(name: str, model: Path, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = kind.write(open_target(resolve(str(model))), tmp_path)
    kind.read(path)
    kind.renumber(path)
    with pytest.raises(MonoglotError) as caught:
        kind.read(path)
    said = str(caught.value)
    assert path.name in said and f"{UNKNOWN}" in said and f"this version reads {kind.format}" in said
    assert any(advice in said for advice in ("Upgrade monoglot", "delete the file")), said
    assert "damaged" not in said


def test_progress_of_the_known_format_counts(model: Path, tmp_path: Path) -> None:
    """Otherwise its refusal above would say little."""
    path = write_progress(open_target(resolve(str(model))), tmp_path)
    again = half_done(path)
    assert again.done == {"en": 2} and again.sums["en.total"].tolist() == [1, 1, 1]


def test_a_comparison_says_its_format(monoglot: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Nothing of monoglot's reads it again; who does can tell."""
    target = open_target(resolve("embedded"))
    shape = (target.feed_forward.layers, target.feed_forward.width)
    counts = {k: np.random.default_rng(ord(k[0])).integers(0, 9, shape) for k in ("en", "fr")}
    made = Statistics(
        model_info(target), dict.fromkeys(counts, 9), counts, {k: 1.0 * own for k, own in counts.items()},
        {k: (k,) for k in counts},
    )  # fmt: skip
    statistics.save(made, tmp_path / "stats.safetensors")
    code, _, err = monoglot(
        "compare", tmp_path / "stats.safetensors", "--methods", "lape", "-o", tmp_path / "comparison.json"
    )
    assert code == 0, err
    assert json.loads((tmp_path / "comparison.json").read_text())["format"] == compare.FORMAT
