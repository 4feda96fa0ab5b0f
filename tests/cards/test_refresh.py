"""A card written anew keeps what a person wrote, and one that a person rewrote is left alone."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support import checkpoints, folders

from monoglot.cards import refresh
from monoglot.editor.edits import manifest
from monoglot.editor.edits.manifest import Manifest
from monoglot.editor.errors import VerificationError
from monoglot.editor.files import card_text

PLACES = "".join(f"\n<!-- monoglot: yours, {name}. -->\n{card_text.END}\n" for name in ("about", "notes"))


def card(figure: str, **more: Any) -> str:
    data = {"license": "other", "license_name": "terms", "tags": ["monoglot"], "model-index-size": figure, **more}
    return f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n# Title\n\nIt is {figure}.\n{PLACES}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a card as monoglot wrote it."""
    assert refresh.refresh(tmp_path, Manifest.of_data(checkpoints.MANIFEST), lambda: card("one")) == ()
    return tmp_path


def renewed(folder: Path, figure: str = "two", *, force: bool = False) -> tuple[str, tuple[str, ...]]:
    before = manifest.read(folder)
    found = refresh.refreshed(folder, before, lambda: card(figure), force=force)
    notes = refresh.refresh(folder, before, lambda: card(figure), force=force)
    expected = found.manifest if found.text is None else found.manifest.with_file("README.md", found.text.encode())
    assert manifest_of(folder) == expected.to_data()
    return (folder / "README.md").read_text(), notes


def manifest_of(folder: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads((folder / "monoglot.json").read_text())
    return found


def as_listed(folder: Path) -> bool:
    return manifest_of(folder)["files"]["README.md"] == folders.listed((folder / "README.md").read_bytes())


def edited(folder: Path, *changes: tuple[str, str]) -> None:
    text = (folder / "README.md").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "README.md").write_text(text)


def test_the_first_card_is_what_was_rendered(folder: Path) -> None:
    assert card_text.split((folder / "README.md").read_text()) == card_text.split(card("one"))
    assert as_listed(folder)


def test_an_unedited_card_follows_the_manifest(folder: Path) -> None:
    text, notes = renewed(folder)
    assert "It is two." in text and "model-index-size: two" in text and notes == () and as_listed(folder)


def test_places_and_keys_of_a_person_survive_again_and_again(folder: Path) -> None:
    own = "\n**Mine**, `verbatim`:\n\n<details>\n| a |\n</details>\n"
    edited(
        folder, ("yours, about. -->\n", f"yours, about. -->\n{own}"), ("yours, notes. -->\n", "yours, notes. -->\nLast."),
        ("license: other", 'license: mit\nextra: "no"'), ("license_name: terms\n", ""), ("- monoglot", "- monoglot\n- mine"),
    )  # fmt: skip
    for figure in ("two", "three", "two"):
        text, notes = renewed(folder, figure)
        data, body = card_text.split(text)
        assert notes == () and as_listed(folder) and f"It is {figure}." in body
        assert data == {"license": "mit", "extra": "no", "tags": ["monoglot", "mine"], "model-index-size": figure}
        assert card_text.places(body) == {"about": own, "notes": "Last."}
    edited(folder, (own, ""), ("Last.", ""), ("license: mit", "license: gemma"))
    text, _ = renewed(folder)
    assert card_text.places(text) == {} and card_text.split(text)[0]["license"] == "gemma"


def test_what_monoglot_comes_to_write_anew_is_added_beside_a_person_s(folder: Path) -> None:
    edited(folder, ("license: other", "license: mit"))
    refresh.refresh(folder, manifest.read(folder), lambda: card("two", pipeline_tag="text-generation"))
    data, _ = card_text.split((folder / "README.md").read_text())
    assert data["pipeline_tag"] == "text-generation" and data["license"] == "mit"


@pytest.mark.parametrize("change", [("It is one.", "It is mine."), ("# Title", "# Mine"), (card_text.END, "")])
def test_a_card_that_was_edited_elsewhere_is_left_alone(folder: Path, change: tuple[str, str]) -> None:
    edited(folder, ("yours, notes. -->\n", "yours, notes. -->\nMine.\n"), change)
    before = (folder / "README.md").read_text()
    for _ in range(2):
        text, (note,) = renewed(folder)
        assert text == before and not as_listed(folder)
        assert "edited outside of the places" in note and f"monoglot card {folder} --force" in note
    text, notes = renewed(folder, force=True)
    assert "It is two." in text and "Mine." in text and notes == () and as_listed(folder)
    assert (folder / "README.md.bak").read_text() == before


def test_force_keeps_no_copy_of_what_does_not_change(folder: Path) -> None:
    renewed(folder, "one", force=True)
    assert not (folder / "README.md.bak").exists()


@pytest.mark.parametrize("data", [b"---\nlicense: [\n---\n", b"---\nlicense: mit\n", b"---\na: \xff\n---\n"])
def test_metadata_that_cannot_be_read_is_left_alone_too(folder: Path, data: bytes) -> None:
    (folder / "README.md").write_bytes(data)
    (note,) = refresh.refresh(folder, manifest.read(folder), lambda: card("two"))
    assert (folder / "README.md").read_bytes() == data and "left as it is" in note and "--force" in note
    text, notes = renewed(folder, force=True)
    assert text.startswith("---\nlicense: other") and notes == () and (folder / "README.md.bak").read_bytes() == data


def test_a_card_that_is_missing_is_written_and_one_without_metadata_gets_it_back(folder: Path) -> None:
    (folder / "README.md").write_text(card_text.split(card("one"))[1])
    assert renewed(folder)[0].startswith("---\nlicense: other")
    (folder / "README.md").unlink()
    assert "It is two." in renewed(folder)[0]


def test_metadata_of_a_person_that_the_hub_refuses_is_kept_and_said(folder: Path) -> None:
    edited(folder, ("license: other", "license: Mine"))
    text, (note,) = renewed(folder)
    assert "license: Mine" in text and "The Hub will refuse" in note and "license has 'Mine'" in note


def test_a_manifest_that_remembers_nothing(folder: Path) -> None:
    """Then only an untouched card is rendered anew, and all on it is monoglot's."""
    record = manifest_of(folder)
    del record["card"]
    folders.write_manifest(folder, record)
    text, notes = renewed(folder)
    assert card_text.split(text) == card_text.split(card("two")) and notes == ()
    record = manifest_of(folder)
    del record["card"]
    folders.write_manifest(folder, record)
    edited(folder, ("license: other", "license: mit"))
    assert "--force" in renewed(folder)[1][0]
    folders.write_manifest(folder, {**record, "card": "?"})
    with pytest.raises(VerificationError, match="card is not a mapping"):
        manifest.read(folder)


def test_windows_line_breaks_are_no_edit(folder: Path) -> None:
    (folder / "README.md").write_bytes((folder / "README.md").read_bytes().replace(b"\n", b"\r\n"))
    text, notes = renewed(folder)
    assert "It is two." in text and "\r" not in text and notes == ()


def test_nothing_is_written_to_look(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = refresh.refreshed(folder, manifest.read(folder), lambda: card("two"), force=True)
    assert found.text is not None and {path.name: path.read_bytes() for path in folder.iterdir()} == before
