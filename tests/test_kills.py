"""A few of the kills that `scripts.kills` does by the hundred, and whether it would tell."""

import json
import random
import shutil
from pathlib import Path

import pytest
from scripts import kills

ROUNDS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("kills")
    return folder, kills.prepare(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", kills.COMMANDS)
def test_killed_and_run_again(place: tuple[Path, dict[str, dict[str, str]]], kind: str) -> None:
    """Whenever a run is killed, what is there is whole, and the next run gives what one gives that nobody disturbed."""
    folder, undisturbed = place
    if kind == "verify":  # it takes the checkpoint without Chinese
        kills.finish(kills.command_of("bake", folder, "zh", force=True))
    seconds = kills.finish(kills.command_of(kind, folder, "zh", force=True))
    chance = random.Random(7)
    for number in range(ROUNDS):
        _, seconds, problems = kills.round_of(kind, folder, number, seconds, chance, undisturbed)
        assert not problems, (number, problems)


@pytest.mark.slow
def test_what_is_wrong_is_seen(place: tuple[Path, dict[str, dict[str, str]]], tmp_path: Path) -> None:
    folder, undisturbed = place
    kills.finish(kills.command_of("bake", folder, "zh", force=True))
    shutil.copytree(folder / "OUT", tmp_path / "OUT")
    out = tmp_path / "OUT"
    assert kills.problems(out, "zh", undisturbed, again=True) == []
    assert "not those without fr" in " ".join(kills.problems(out, "fr", undisturbed, again=True))
    (tmp_path / ".OUT.partial-0123456789abcdef").mkdir()
    (out / "half").write_text("x")
    said = " ".join(kills.problems(out, "zh", undisturbed, again=True))
    assert "half is left in OUT" in said and ".OUT.partial-0123456789abcdef is left beside OUT" in said
    shard = out / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "model.safetensors is not what the manifest lists" in kills.problems(out, "zh", undisturbed, again=False)
    record = json.loads((out / "monoglot.json").read_text())
    del record["files"]["model.safetensors"]
    (out / "monoglot.json").write_text(json.dumps(record))
    assert "not those of an undisturbed run" in " ".join(kills.problems(out, "zh", undisturbed, again=False))
    shutil.rmtree(out)
    assert kills.problems(out, "zh", undisturbed, again=False) == []
    assert kills.problems(out, "zh", undisturbed, again=True) == ["OUT is absent after the second run"]
