"""What maintainers rely on agrees with itself: the version stands once, `make help` and CONTRIBUTING.md are complete."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def version() -> str:
    (found,) = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    return str(found)


def test_the_changelog_has_the_version_with_a_date_below_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(version())}\] - \d{{4}}-\d\d-\d\d", headings[1])


def test_the_lock_file_was_made_of_this_pyproject() -> None:
    """Every package that is asked for is locked, by hash and from no address."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project, lock = tomllib.loads(read("pyproject.toml"))["project"], read("requirements.lock")
    asked = [one for part in (project["dependencies"], *project["optional-dependencies"].values()) for one in part]
    names = {re.split(r"[\[<>=~! ;]", one)[0].lower().replace("_", "-") for one in asked} - {"monoglot"}
    locked = set(re.findall(r"^([a-z0-9.-]+)==\S+", lock, re.MULTILINE))
    assert names - locked == set()
    assert "://" not in lock and lock.count("--hash=sha256:") > len(locked)


def test_the_citation_has_no_version_of_its_own() -> None:
    assert not re.search(r"^(version|date-released):", read("CITATION.cff"), re.MULTILINE)


def test_make_lists_every_target_on_a_line_of_its_own() -> None:
    text = read("Makefile").replace("\\\n", " ")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    printed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(re.findall(r"^make ([a-z-]+) +\S", printed, re.MULTILINE)) == sorted(phony.split())


def test_contributing_names_files_that_are_there() -> None:
    names = re.findall(r"`((?:editor|cards|cli|monoglot|tests|docs|\.ci)/[^`]*)`", read("CONTRIBUTING.md"))
    assert len(names) > 30
    assert [name for name in names if "NAME" not in name and not (ROOT / name).exists()] == []
    folders = [name.rpartition("/")[0] for name in names if "NAME" in name]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
