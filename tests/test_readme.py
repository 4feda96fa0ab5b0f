"""The README can't lie: its commands run, its Python runs, its list of families is the table, its
help texts are what the commands print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts import help_texts
from support import tiny

from monoglot.cli.main import COMMANDS
from monoglot.editor.models.families import FAMILIES

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^\$ (monoglot .*)$", re.MULTILINE)
ELSEWHERE = re.compile(r"monoglot (demo$|push(?!.*--dry-run))")  # has a test of its own, or needs the Hub
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has what the README speaks of: ./my-model, texts/, and a Hub cache with the Hub's model in it."""
    folder = tmp_path_factory.mktemp("readme")
    tiny.save_model(folder / "my-model")
    cached = folder / "hub" / "models--google--gemma-3-270m"
    tiny.save_model(cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    tiny.save_corpus(folder / "texts")
    (folder / "texts" / "fr.txt").rename(folder / "texts" / "ja.txt")  # the README switches Japanese off
    return folder


def run(place: Path, *command: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "hub")}
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMAND.findall(README) if not ELSEWHERE.match(command)])
def test_the_commands_run(place: Path, command: str) -> None:
    """In order, as a reader would; on tiny models the neurons are few, so more are asked for, and sixteen dimensions of
    random weights have no direction that is 1 on every text."""
    words = shlex.split(command)[1:]
    more = ["--rate", "0.3", "--quantile", "0.7"] if words[0] in ("compare", "export", "find", "paper") else []
    more += ["--tolerance", "9"] if "--activate" in words else []
    run(place, sys.executable, "-m", "monoglot.cli", *words, *more)


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(place: Path) -> None:
    """Every line, with figures to the second decimal, as another processor may round differently; what the models write
    after the prompts is theirs, and shares of answers may differ by two answers."""
    shown = README.split("```text\n")[1].split("```")[0]
    printed = run(place, sys.executable, "-m", "monoglot.cli", "demo")
    lines = [line.split() for line in printed.splitlines()]
    for line in filter(None, (line.split() for line in shown.splitlines())):
        if line != ["…"] and line[:2] not in (["base", "…"], ["demo", "…"], ["demo-fr", "…"]):
            assert any(same(line, other) for other in lines), line
    answers = {
        line[0]: line[1:] for line in lines if line and all(cell.endswith("%") for cell in line[1:]) and line[1:]
    }
    accuracy = {name: sum(int(cell[:-1]) for cell in cells) / len(cells) for name, cells in answers.items()}
    assert accuracy["base"] < 10 and accuracy["demo-fr"] >= 75
    continued = [line[0] for line in lines if line[1:2] == ["…"]]
    assert continued == ["base", "demo"] * 2 + ["base", "demo-fr"] * 2


def same(shown: list[str], printed: list[str]) -> bool:
    def alike(a: str, b: str) -> bool:
        try:
            if a.endswith("%") and b.endswith("%"):
                return abs(float(a[:-1]) - float(b[:-1])) <= 25  # two of eight answers
            return abs(float(a) - float(b)) <= 0.02
        except ValueError:
            return a == b

    return len(shown) == len(printed) and all(map(alike, shown, printed))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(README.split("```python\n")) - 1))
def test_the_python_runs(place: Path, number: int) -> None:
    code = README.split("```python\n")[number + 1].split("```")[0]
    if "out" in code and (place / "out").exists():
        (place / "out").rename(place / "out-of-the-commands")
    run(place, sys.executable, "-c", code)


def test_every_family_and_every_command_is_named() -> None:
    for family in FAMILIES:
        for name in family.model_types:
            assert f"`{name}`" in README, name
    for command in COMMANDS:
        assert command in README, command


def test_the_help_texts_are_those_of_the_commands() -> None:
    assert help_texts.written(README) == help_texts.block(), "The README has other help texts. Write them: make readme"


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_a_help_text_is_what_the_command_prints(
    name: str | None, monoglot: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wide terminal too: the width of a page is the same for everybody."""
    monkeypatch.setenv("COLUMNS", "200")
    assert monoglot(*filter(None, (name, "-h"))) == (0, help_texts.help_of(name) + "\n", "")
