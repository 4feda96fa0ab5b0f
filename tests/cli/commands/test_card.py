"""The card of a checkpoint: rendered anew by hand and by what measures, with what a person wrote on it kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import folders, measured, tiny

from monoglot.editor.files import card_text

Run = Callable[..., tuple[int, str, str]]
BASE_CARD = "---\nlicense: apache-2.0\nlanguage: [en, fr, zh]\n---\n# The base\n"


@pytest.fixture(scope="module")
def described(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with a card of its own."""
    folder = tmp_path_factory.mktemp("described") / "tiny"
    shutil.copytree(model, folder)
    (folder / "README.md").write_text(BASE_CARD)
    return folder


@pytest.fixture
def out(monoglot: Run, described: Path, neurons_file: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    code, _, err = monoglot("bake", described, neurons_file, "--deactivate", "zh", "--shared", "edit", "-o", folder)
    assert code == 0, err
    return folder


def write(out: Path, *changes: tuple[str, str]) -> str:
    text = (out / "README.md").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (out / "README.md").write_text(text)
    return text


MINE = (
    ("is rendered again; so do the keys of the metadata that you add or change. -->\n",
     "is rendered again; so do the keys of the metadata that you add or change. -->\nMade for **me**.\n"),
    ("license: apache-2.0", "license: mit\nmine: [\"no\"]"),
)  # fmt: skip


def measure(out: Path) -> None:
    """As if `evaluate` had been run, with an unedited card left as it was."""
    record = folders.manifest_data(out)
    record["evaluation"] = {"overlap": measured.evaluation(("en", "fr", "zh"))["overlap"]}
    folders.write_manifest(out, record)


def test_a_fresh_card_is_as_it_is_rendered(monoglot: Run, out: Path, described: Path) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code, shown, err = monoglot("card", out, "--base", described)
    assert (code, shown) == (0, "") and err == f"{out / 'README.md'} is unchanged.\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_was_measured_since_comes_onto_it_and_what_a_person_wrote_stays(
    monoglot: Run, out: Path, described: Path
) -> None:
    write(out, *MINE)
    measure(out)
    code, _, err = monoglot("card", out, "--base", described)
    assert code == 0 and err.endswith("is written.\n")
    data, body = card_text.split((out / "README.md").read_text())
    assert data["license"] == "mit" and data["mine"] == ["no"] and data["language"] == ["en", "fr"]
    assert "Made for **me**." in body and "### Which languages share neurons" in body
    code, _, err = monoglot("verify", out, "--base", described, "--fast")
    assert code == 0 and "edited" not in err
    data, body = card_text.split((out / "README.md").read_text())
    assert data["license"] == "mit" and "Made for **me**." in body and "Compared with the base byte for byte" in body


def test_verify_keeps_what_a_person_wrote_and_passes(monoglot: Run, out: Path, described: Path) -> None:
    write(out, *MINE)
    code, _, err = monoglot("verify", out, "--base", described, "--fast")
    assert code == 0 and "Note: README.md was edited after monoglot wrote it." in err
    text = (out / "README.md").read_text()
    assert "license: mit" in text and "Made for **me**." in text and "Compared with the base byte for byte" in text
    code, _, err = monoglot("verify", out, "--base", described, "--fast")
    assert code == 0 and "edited" not in err and (out / "README.md").read_text() == text


@pytest.mark.slow
def test_evaluate_keeps_it_too(monoglot: Run, out: Path, described: Path) -> None:
    write(out, *MINE)
    code, _, err = monoglot("evaluate", out, "--base", described, "--overlap", "--profile")
    assert code == 0, err
    text = (out / "README.md").read_text()
    assert "license: mit" in text and "Made for **me**." in text
    assert '<img src="figures/overlap.png"' in text and '<img src="figures/profile.png"' in text
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["overlap.png", "profile.png"]
    write(out, ("It is an ordinary", "It is no ordinary"))
    code, _, err = monoglot("evaluate", out, "--base", described, "--overlap", "--profile")
    assert code == 0 and err.count("was edited outside of the places") == 1  # said once, not after each measure


def test_a_card_that_was_rewritten_is_left_alone_until_forced(monoglot: Run, out: Path, described: Path) -> None:
    before = write(out, ("It is an ordinary checkpoint", "It is mine"))
    for command in (("card", out), ("verify", out, "--fast")):
        code, _, err = monoglot(*command, "--base", described)
        assert code == 0 and f"`monoglot card {out} --force`" in err
        assert (out / "README.md").read_text() == before
    code, _, err = monoglot("card", out, "--base", described, "--force")
    assert code == 0 and "It is an ordinary checkpoint" in (out / "README.md").read_text()
    assert (out / "README.md.bak").read_text() == before
    code, _, err = monoglot("verify", out, "--base", described, "--fast")
    assert code == 0 and "Note: README.md.bak is not in the manifest." in err


def test_a_copy_of_the_old_card_is_not_inherited(
    monoglot: Run, out: Path, described: Path, neurons_file: Path, tmp_path: Path
) -> None:
    write(out, ("It is an ordinary checkpoint", "It is mine"))
    assert monoglot("card", out, "--base", described, "--force")[0] == 0
    assert monoglot("bake", out, neurons_file, "--deactivate", "fr", "-o", tmp_path / "child")[0] == 0
    assert not (tmp_path / "child" / "README.md.bak").exists()


def test_stdout_prints_it_and_writes_nothing(monoglot: Run, out: Path, described: Path) -> None:
    write(out, *MINE)
    measure(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code, shown, err = monoglot("card", out, "--base", described, "--stdout")
    assert (code, err) == (0, "") and "Made for **me**." in shown and "### Which languages share neurons" in shown
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    monoglot("card", out, "--base", described)
    assert (out / "README.md").read_text() == shown
    write(out, ("It is an ordinary", "It is no ordinary"))
    code, shown, err = monoglot("card", out, "--base", described, "--stdout")
    assert code == 0 and "edited outside" in err and "It is an ordinary" in shown


def test_check(monoglot: Run, out: Path) -> None:
    code, shown, err = monoglot("card", out, "--check")
    assert (code, shown) == (0, "") and "as the Hub takes it" in err
    write(out, ("license: apache-2.0", "license: mine\nlanguage_bcp47: [no]"))
    before = (out / "README.md").read_bytes()
    code, shown, err = monoglot("card", out, "--check")
    assert code == 1 and shown == "" and err.count("\n") == 2
    assert "license has 'mine'" in err and 'Norwegian is "no"' in err and (out / "README.md").read_bytes() == before
    code, shown, err = monoglot("card", out, "--check", "--json")
    assert code == 1 and len(json.loads(shown)["problems"]) == 2
    (out / "README.md").unlink()
    code, _, err = monoglot("card", out, "--check")
    assert code == 1 and "cannot be read" in err and "Traceback" not in err


def test_check_needs_no_checkpoint(monoglot: Run, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(BASE_CARD)
    assert monoglot("card", tmp_path, "--check")[0] == 0
    assert monoglot("card", tmp_path / "README.md", "--check")[0] == 0


def test_json(monoglot: Run, out: Path, described: Path) -> None:
    code, shown, _ = monoglot("card", out, "--base", described, "--json")
    assert code == 0 and json.loads(shown) == {"card": str(out / "README.md"), "changed": False, "notes": []}


def test_a_card_that_is_missing_is_written(monoglot: Run, out: Path, described: Path) -> None:
    before = (out / "README.md").read_bytes()
    (out / "README.md").unlink()
    assert monoglot("card", out, "--base", described)[0] == 0
    assert (out / "README.md").read_bytes() == before


def test_the_base_on_the_hub_is_asked_for_its_card_alone(
    monoglot: Run, out: Path, described: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, only: tuple[str, ...]) -> Path:
        asked.append((name, only))
        return described

    monkeypatch.setattr("monoglot.editor.models.source.fetch", fetch)
    record = folders.manifest_data(out)
    record["base"] |= {"model": "org/tiny", "revision": "abc", "hub": True}
    folders.write_manifest(out, record)
    assert monoglot("card", out)[0] == 0
    assert asked == [("org/tiny@abc", ("README.md", "LICENSE"))]
    data, _ = card_text.split((out / "README.md").read_text())
    assert data["base_model"] == "org/tiny" and data["license"] == "apache-2.0"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--check", "--force"), 2, "--force does not go with it"),
        (("--check", "--base", "x"), 2, "--base does not go with it"),
        (("--stdout", "--json"), 2, "Give one of them"),
        (("--base", "absent"), 1, "absent"),
    ],
)
def test_what_is_refused(monoglot: Run, out: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    ended, shown, err = monoglot("card", out, *arguments)
    assert (ended, shown) == (code, "") and words in err and "Traceback" not in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_another_base_and_a_folder_that_monoglot_did_not_make(monoglot: Run, out: Path, tmp_path: Path) -> None:
    other = tiny.save_model(tmp_path / "other", "gpt2")
    code, _, err = monoglot("card", out, "--base", other)
    assert code == 1 and "is not the model this checkpoint was made from" in err
    code, _, err = monoglot("card", other)
    assert code == 1 and "was not made by monoglot" in err
    code, _, err = monoglot("card", tmp_path / "absent")
    assert code == 1 and "there is no folder" in err
