"""monoglot report: where the page goes, what it replaces, and what it refuses; and that a checkpoint stays one."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import folders, measured
from support.folders import tree

from monoglot.cards.figures import draw as figures
from monoglot.cards.report import GENERATOR

Run = Callable[..., tuple[int, str, str]]
SMALL = measured.evaluation(("en", "fr"), 4)
MODEL = {"name": "tiny", "revision": None, "model_type": "llama", "layers": 4, "width": 24, "fingerprint": "f" * 64}


@pytest.fixture
def findings(tmp_path: Path) -> Path:
    """A folder with what was measured of a model."""
    folder = tmp_path / "findings"
    folder.mkdir()
    record = {
        "format": 1,
        "model": MODEL,
        "neurons": {"sha256": "0" * 64, "method": {"name": "hand"}},
        "evaluation": SMALL,
    }
    (folder / "evaluation.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def checkpoint(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> Path:
    """A baked and verified checkpoint with an evaluation and its figures."""
    out = tmp_path / "out"
    assert monoglot("bake", model, neurons_file, "--deactivate", "zh", "--shared", "edit", "-o", out)[0] == 0
    record = folders.manifest_data(out)
    record["evaluation"] = SMALL
    for path in figures.write(out, SMALL):
        record["files"][path.relative_to(out).as_posix()] = folders.listed(path.read_bytes())
    folders.write_manifest(out, record)
    assert monoglot("verify", out, "--base", model, "--fast")[0] == 0
    return out


@pytest.mark.slow
def test_the_page_lies_in_the_folder_and_may_be_made_again(monoglot: Run, findings: Path) -> None:
    assert monoglot("report", findings) == (0, "", f"Wrote {findings / 'report.html'}.\n")
    first = (findings / "report.html").read_bytes()
    assert GENERATOR.encode() in first and b"<svg " in first
    assert monoglot("report", findings)[0] == 0
    assert (findings / "report.html").read_bytes() == first
    assert sorted(path.name for path in findings.iterdir()) == ["evaluation.json", "report.html"]


def test_json_is_everything_for_programs(monoglot: Run, findings: Path) -> None:
    code, out, err = monoglot("report", findings, "--json")
    assert (code, err) == (0, "") and json.loads(out)["evaluation"] == json.loads(json.dumps(SMALL))
    assert monoglot("report", findings, "--format", "json", "--json") == (0, out, "")
    code, out, err = monoglot("report", findings, "--format", "html", "--json")
    assert (code, out) == (2, "") and "--json and --format html contradict each other" in err
    assert not (findings / "report.html").exists()


def test_a_page_of_someone_else_is_kept(monoglot: Run, findings: Path) -> None:
    (findings / "report.html").write_text("mine")
    code, out, err = monoglot("report", findings)
    assert (code, out) == (1, "") and "exists and monoglot did not make it" in err and "--force" in err
    assert (findings / "report.html").read_text() == "mine"
    assert monoglot("report", findings, "--force")[0] == 0
    assert (findings / "report.html").read_text() != "mine"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "begin"), [("html", "<!DOCTYPE html>"), ("markdown", "# Language"), ("json", "{")])
def test_a_file_or_stdout_in_each_format(monoglot: Run, findings: Path, tmp_path: Path, form: str, begin: str) -> None:
    code, out, err = monoglot("report", findings, "--format", form, "-o", "-")
    assert (code, err) == (0, "") and out.startswith(begin) and out.endswith("\n") and not out.endswith("\n\n")
    file = tmp_path / "new" / "file"
    assert monoglot("report", findings, "--format", form, "-o", file)[:2] == (0, "")
    assert file.read_text() == out
    code, _, err = monoglot("report", findings, "--format", form, "-o", file)
    assert code == 1 and f"{file} exists. Choose another place with -o, or replace it with --force." in err
    assert monoglot("report", findings, "--format", form, "-o", file, "--force")[0] == 0
    if form != "html":
        assert monoglot("report", findings, "--format", form) == (0, out, "")
    assert not (findings / "report.html").exists()


NO_NEURONS = {"method": {}, "sha256": "0" * 64}


def write(text: str, name: str = "evaluation.json") -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "evaluation.json").unlink(), "neither monoglot.json nor evaluation.json"),
        (write("{"), "is not valid JSON"),
        (write("[]"), "evaluation.json has format None"),
        (write('{"format": 9, "evaluation": {}}'), "has format 9"),
        (write('{"format": 1, "evaluation": {}}'), "is not what monoglot writes (it has no model). Measure again"),
        (write('{"format": 1}', "monoglot.json"), "monoglot.json is not what monoglot writes"),
        (write("nonsense", "monoglot.json"), "is not valid JSON"),
        (
            write(json.dumps({"format": 1, "model": MODEL, "neurons": NO_NEURONS, "evaluation": {}})),
            "nothing was measured of",
        ),
    ],
)
def test_one_message_and_nothing_written(monoglot: Run, findings: Path, change: Any, words: str) -> None:
    change(findings)
    before = tree(findings)
    code, out, err = monoglot("report", findings)
    assert (code, out) == (1, "") and err.startswith("Error: ") and err.count("\n") == 1 and words in err
    assert tree(findings) == before


def test_no_folder_and_no_such_format(monoglot: Run, tmp_path: Path) -> None:
    code, _, err = monoglot("report", tmp_path / "absent")
    assert code == 1 and "there is no folder" in err
    code, _, err = monoglot("report", tmp_path, "--format", "pdf")
    assert code == 2 and "'pdf' is not one of" in err


@pytest.mark.slow
def test_a_place_that_cannot_be_written(monoglot: Run, findings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = monoglot("report", findings, "-o", tmp_path / "file" / "page.html")
    assert code == 1 and "cannot be written" in err and "Traceback" not in err
    code, _, err = monoglot("report", findings, "-o", findings, "--force")
    assert code == 1 and "is a folder" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(monoglot: Run, findings: Path) -> None:
    findings.chmod(0o500)
    code, _, err = monoglot("report", findings)
    assert code == 1 and "cannot be written" in err


@pytest.mark.slow
def test_a_checkpoint_with_figures_and_a_page_is_still_what_it_says(
    monoglot: Run, checkpoint: Path, model: Path
) -> None:
    before = (checkpoint / "monoglot.json").read_bytes()
    assert monoglot("report", checkpoint)[0] == 0
    assert (checkpoint / "monoglot.json").read_bytes() == before  # it is no part of the checkpoint
    page = (checkpoint / "report.html").read_text()
    assert (
        "tiny without Chinese" in page
        and "Compared with the base byte for byte" in page
        and str(checkpoint) not in page
    )
    assert '<img src="figures/perplexity.png"' in (checkpoint / "README.md").read_text()
    code, _, err = monoglot("verify", checkpoint, "--base", model, "--fast")
    assert code == 0 and err.endswith("is what its recipe says.\n")
    (checkpoint / "figures" / "profile.png").write_bytes(b"x")
    code, _, err = monoglot("verify", checkpoint, "--base", model, "--fast")
    assert code == 1 and "figures/profile.png has another sha256" in err


@pytest.mark.slow
def test_what_is_baked_from_it_does_not_inherit_its_figures(
    monoglot: Run, checkpoint: Path, neurons_file: Path, tmp_path: Path
) -> None:
    """They are of another model; and when it has figures of its own, they are not held against the base's."""
    assert monoglot("report", checkpoint)[0] == 0
    child = tmp_path / "child"
    assert monoglot("bake", checkpoint, neurons_file, "--deactivate", "fr", "--shared", "edit", "-o", child)[0] == 0
    assert not (child / "figures").exists() and not (child / "report.html").exists()
    assert "<img" not in (child / "README.md").read_text()
    record = folders.manifest_data(child)
    record["evaluation"] = {"overlap": SMALL["overlap"], "profile": SMALL["profile"]}
    for path in figures.write(child, record["evaluation"]):
        record["files"][path.relative_to(child).as_posix()] = folders.listed(path.read_bytes())
    folders.write_manifest(child, record)
    code, _, err = monoglot("verify", child, "--base", checkpoint, "--fast")
    assert code == 0, err
