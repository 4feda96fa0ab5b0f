"""A checkpoint made again: the same bytes, or what differs and why."""

import hashlib
import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from support import folders, tiny

from monoglot.cards.render import card_writer
from monoglot.editor.edits import calibration, manifest, manifest_files, silence
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.manifest import Manifest
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import ModelError, OutputError, RecipeError, VerificationError
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import Source, fetch, resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof import rebuild
from monoglot.editor.proof.rebuild import NEEDED, Rebuilt, open_base
from monoglot.editor.statistics import vocabulary

Make = Callable[..., tuple[Path, Path]]


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


@pytest.fixture
def make(saved: Any, tmp_path: Path) -> Make:
    """A base of a family, in a folder of its own, and a checkpoint of it."""

    def baked(model_type: str = "llama", recipe: Recipe | None = None, hub: bool = False) -> tuple[Path, Path]:
        base = Path(shutil.copytree(saved(model_type), tmp_path / "base"))
        (base / "README.md").write_text("---\nlicense: mit\n---\nThe base.\n")
        target = open_target(resolve(str(base)))
        if hub:
            target = Target(
                Source(base, "org/base", "abc", True), target.checkpoint, target.feed_forward, target.fingerprint
            )
        recipe = recipe or Recipe(Base("x"), (Edit("off", "deactivate"), Edit("half", "scale", 0.5)), "edit")
        own = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
        fitted = tiny.by_hand(target) if recipe.carrier == "calibrated" else None
        bake(target, own, recipe, tmp_path / "out", calibration=fitted, describe=card_writer(own.method))
        return base, tmp_path / "out"

    return baked


def again(out: Path, base: Path | None = None, **settings: Any) -> Rebuilt:
    target = open_base(manifest.read(out), str(base) if base else None, beside=out)
    describe = card_writer(neurons.load(out / "neurons.json").method)
    return rebuild.rebuild(out, target, out.parent / "again", describe=describe, **settings)


@pytest.mark.parametrize(
    ("model_type", "recipe"),
    [
        ("llama", None),
        ("gpt2", tiny.recipe("all", "native")),
        ("llama", tiny.recipe("pin", "flag")),
        ("mistral", tiny.recipe("add", "calibrated", slots="deactivated")),
        ("phi3", tiny.recipe("pin", "calibrated")),
    ],
)
def test_every_byte_again(make: Make, model_type: str, recipe: Recipe | None) -> None:
    _, out = make(model_type, recipe)
    made = again(out)
    assert hashes(made.folder) == hashes(out)
    assert set(made.same) == set(hashes(out)) - {"monoglot.json"}
    assert made.differ == made.excused == {}


def test_under_another_name_the_same_model_is_called_as_it_was(make: Make, tmp_path: Path) -> None:
    base, out = make(hub=True)
    elsewhere = base.rename(tmp_path / "elsewhere")
    assert again(out, elsewhere).differ == {}
    assert hashes(tmp_path / "again") == hashes(out)


def test_the_base_at_its_revision(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a Hub model the recorded commit is asked for."""
    import huggingface_hub

    base, out = make(hub=True)
    asked: list[tuple[str, str]] = []

    def download(name: str, *, revision: str, **_: Any) -> str:
        asked.append((name, revision))
        return str(base)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert again(out).differ == {}
    assert asked == [("org/base", "abc")]


def test_a_checkpoint_on_the_hub_without_its_weights(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    base, out = make("phi3", tiny.recipe("pin", "calibrated"))

    def download(name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert (name, revision) == ("user/out", "v1")
        (tmp_path / "hub").mkdir()
        for path in out.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, tmp_path / "hub")
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folder = fetch("user/out@v1", NEEDED)
    assert {path.name for path in folder.iterdir()} == set(NEEDED) - {
        vocabulary.FILE,
        silence.FILE,
    }  # no tokens are redirected or silenced
    assert again(folder, base).differ == {}
    assert hashes(tmp_path / "again") == hashes(out)


def test_fetch_leaves_folders_alone(make: Make) -> None:
    _, out = make()
    assert fetch(str(out), NEEDED) == out
    with pytest.raises(ModelError, match="no folder"):
        fetch("/nowhere/at all", NEEDED)
    assert (fetch("embedded", NEEDED) / "config.json").is_file()


# What differs, and why


def test_a_card_that_tells_what_was_measured(make: Make) -> None:
    base, out = make()
    record = folders.manifest_data(out)
    record["certificate"] = {
        "bytes": {"passed": True, "edited_tensors": 3, "changed_columns": 9, "identical_tensors": 27, "problems": []}
    }
    whole = Manifest.of_data(record)
    whole = manifest_files.replace_text(out, whole, "README.md", card_writer({"name": None})(whole, base))
    (out / "figures").mkdir()
    (out / "figures" / "x.png").write_bytes(b"x")
    manifest.write(out, whole.with_file("figures/x.png", b"x"))
    made = again(out)
    assert made.differ == {}
    assert "what `verify` found" in made.excused["README.md"]
    assert "drawn" in made.excused["figures/x.png"]


def test_measured_and_written_with_it_it_is_the_same(make: Make) -> None:
    base, out = make()
    record = folders.manifest_data(out)
    record["certificate"] = {
        "bytes": {"passed": True, "edited_tensors": 3, "changed_columns": 9, "identical_tensors": 27, "problems": []}
    }
    method = neurons.load(out / "neurons.json").method
    whole = Manifest.of_data(record)
    whole = manifest_files.replace_text(out, whole, "README.md", card_writer(method)(whole, base))
    assert again(out).excused["README.md"].endswith("written with that it is the same")


def test_edited_by_hand(make: Make) -> None:
    _, out = make()
    (out / "README.md").write_text("mine")
    (out / "recipe.yaml").write_text("mine")
    made = again(out)
    assert made.differ == {} and "README.md" in made.same  # as it was written, the manifest says so
    assert "manifest's recipe" in made.excused["recipe.yaml in out"]
    assert hashes(made.folder)["recipe.yaml"] == folders.manifest_data(out)["files"]["recipe.yaml"]["sha256"]


def test_neurons_that_were_changed(make: Make) -> None:
    _, out = make()
    found = json.loads((out / "neurons.json").read_text())
    del found["languages"]["off"][0]["neurons"][0], found["languages"]["off"][0]["mean"][0]
    (out / "neurons.json").write_text(json.dumps(found))
    made = again(out)
    assert "changed since" in made.differ["neurons.json"]
    assert made.differ["model.safetensors"] == "neurons.json is another one"
    assert "config.json" in made.same


def test_another_base_and_another_version(make: Make) -> None:
    base, out = make()
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    (base / "LICENSE").write_text("x")
    record = folders.manifest_data(out)
    record["monoglot"] = "0.0.1"
    folders.write_manifest(out, record)
    made = again(out)
    for name in ("model.safetensors", "recipe.yaml", "LICENSE"):
        assert "the base is another one" in made.differ[name] and "monoglot 0.0.1" in made.differ[name]
    assert "config.json" in made.same


def test_a_base_that_changed_where_its_fingerprint_does_not_look(make: Make) -> None:
    base, out = make()
    tiny.edit_config(base, use_cache=False)
    (base / "NOTICE").write_text("x")
    made = again(out)
    assert "others than they were" in made.differ["config.json"]
    assert made.differ["NOTICE"] == "the base had no such file"
    assert "model.safetensors" in made.same


# The calibration


def test_a_calibration_that_is_lost(make: Make, tmp_path: Path) -> None:
    _, out = make("phi3", tiny.recipe("pin", "calibrated"))
    kept = (out / calibration.FILE).rename(tmp_path / "kept.safetensors")
    with pytest.raises(RecipeError, match=r"no calibration\.monoglot: the direction w of each of the 3 layers, 16"):
        again(out)
    assert not (tmp_path / "again").exists()
    assert again(out, calibration_path=kept).differ == {}
    assert hashes(tmp_path / "again")[calibration.FILE] == hashlib.sha256(kept.read_bytes()).hexdigest()


def test_another_calibration(make: Make, tmp_path: Path) -> None:
    base, out = make("phi3", tiny.recipe("pin", "calibrated"))
    other = tmp_path / "other.safetensors"
    calibration.save(tiny.by_hand(open_target(resolve(str(base))), seed=5), other)
    made = again(out, calibration_path=other)
    assert "another calibration" in made.differ[calibration.FILE]
    assert made.differ["model.safetensors"] == "calibration.monoglot is another one"


def test_a_calibration_that_is_not_needed(make: Make, tmp_path: Path) -> None:
    _, out = make()
    with pytest.raises(RecipeError, match="Leave `calibration` out"):
        again(out, calibration_path=tmp_path)


# What cannot be


def test_never_over_the_first_one(make: Make) -> None:
    _, out = make()
    target = open_base(manifest.read(out), None, beside=out)
    before = hashes(out)
    for place in (out, out / "inside", out.parent):
        with pytest.raises(OutputError):
            rebuild.rebuild(out, target, place, force=True)
    assert hashes(out) == before


def test_neurons_that_are_missing(make: Make) -> None:
    _, out = make()
    target = open_base(manifest.read(out), None, beside=out)
    (out / "neurons.json").unlink()
    with pytest.raises(VerificationError, match=r"no neurons\.json"):
        rebuild.rebuild(out, target, out.parent / "again")


@pytest.mark.parametrize("key", ["base", "recipe", "files", "monoglot", "carrier"])
def test_a_manifest_that_is_malformed(make: Make, key: str) -> None:
    _, out = make()
    record = folders.manifest_data(out)
    record[key] = ["x"]
    if key == "monoglot":
        del record[key]
    (out / "monoglot.json").write_text(json.dumps(record))
    with pytest.raises(VerificationError):
        again(out)
    assert not (out.parent / "again").exists()
