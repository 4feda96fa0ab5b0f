"""Five hundred of the inputs that `make fuzz` tries in their thousands, and whether it would tell."""

import shutil
import time
from pathlib import Path
from unittest import mock

import pytest
from scripts import fuzz

from monoglot.editor.edits import recipe


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuzz.example(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
def test_damaged_and_hostile_files_of_every_format() -> None:
    told: list[str] = []
    assert fuzz.fuzz(500, seed=0, told=told.append) == 0, "\n".join(told)


def test_the_same_number_is_the_same_input(example: Path) -> None:
    before = fuzz.contents(example)
    first, again = (fuzz.one(number, 3, example, None)[0] for number in (7, 7))
    assert first == again and fuzz.contents(example) == before


def test_what_is_wrong_is_seen(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def problems() -> str:
        found = fuzz.problems_of(fuzz.BY_RECIPE, example, {})
        shutil.rmtree(example / "new", ignore_errors=True)
        return " ".join(found)

    load, left = recipe.load, example / "left"
    assert problems() == ""

    def other(path: Path) -> recipe.Recipe:
        return recipe.of_data({**recipe.as_data(load(path)), "shared": "edit"})

    def leaves(path: Path) -> recipe.Recipe:
        left.write_text("x")
        return load(path)

    def hangs(path: Path) -> recipe.Recipe:
        time.sleep(5)
        return load(path)

    def computes(path: Path) -> recipe.Recipe:
        end = time.process_time() + 5
        while time.process_time() < end:
            pass
        return load(path)

    def takes(path: Path) -> recipe.Recipe:
        assert bytes(2 * fuzz.MEMORY)
        return load(path)

    for wrong, said in (
        (KeyError("x"), "a traceback"), (other, "is not the base's with its edit"), (leaves, "left is left behind"),
        (hangs, "it runs longer than"), (computes, "it runs longer than"), (takes, "more than"),
    ):  # fmt: skip
        monkeypatch.setattr(fuzz, "LONGEST", 2)
        monkeypatch.setattr(fuzz, "BUSY", 2 if wrong is hangs else 12)
        with mock.patch.object(recipe, "load", side_effect=wrong):
            assert said in problems(), said
        left.unlink(missing_ok=True)
