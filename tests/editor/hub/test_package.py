"""A checkpoint is checked before anything is sent."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import fake_hub as server
from support import folders
from support.checkpoints import PROVED, certify
from support.pushing import local

from monoglot.editor.errors import PublishError, VerificationError
from monoglot.editor.hub.package import check, git_blob

# huggingface_hub hands files to its HTTP library in the way of the one before
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


# check


def test_a_whole_checkpoint(folder: Path) -> None:
    (folder / "report.html").write_text("mine")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    seen: list[tuple[str, int, int]] = []
    package = check(folder, progress=lambda *step: seen.append(step))
    expected = local(folder)
    assert {name: (file.size, file.sha256) for name, file in package.files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in expected.items()
    }
    assert package.left_out == (".cache/x", "report.html")
    assert package.size == sum(map(len, expected.values()))
    assert package.notes == ("Only its bytes were proved, by `monoglot verify --fast`.",)
    assert seen[-1][1] == seen[-1][2] == package.size - package.files["monoglot.json"].size


def test_a_file_that_changed(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(
        PublishError, match=r"model\.safetensors is not the file that the manifest lists: its sha256 is"
    ):
        check(folder)
    with pytest.raises(PublishError):
        check(folder, unverified=True)


def test_a_file_that_is_missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PublishError, match=r"lacks tokenizer\.json, which its manifest lists\. Copy it there again"):
        check(folder)


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"has no monoglot\.json: it was not made by monoglot"):
        check(tmp_path)
    with pytest.raises(VerificationError, match="there is no folder"):
        check(tmp_path / "absent")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret"])
def test_a_manifest_that_points_elsewhere(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    record = folders.manifest_data(folder)
    record["files"][name] = folders.listed(b"secret")
    folders.write_manifest(folder, record)
    with pytest.raises(VerificationError, match="a name in files is not the name of a file in this folder"):
        check(folder)


@pytest.mark.parametrize("files", [None, [], {"a": 1}, {"a": {}}])
def test_a_manifest_without_files(folder: Path, files: Any) -> None:
    folders.write_manifest(folder, {**folders.manifest_data(folder), "files": files})
    with pytest.raises(VerificationError, match=r"is malformed \(files.* is not a mapping|files.a has no sha256"):
        check(folder)


def failed(part: str, *problems: str) -> dict[str, Any]:
    """A certificate with a part that did not pass."""
    return {**PROVED, part: {**PROVED[part], "passed": False, "problems": list(problems)}}


@pytest.mark.parametrize("certificate", [{"logits": PROVED["logits"]}, {"bytes": {**PROVED["bytes"], "passed": "yes"}}])
def test_a_certificate_that_is_none(folder: Path, certificate: Any) -> None:
    certify(folder, certificate)
    with pytest.raises(VerificationError, match=r"certificate has no bytes|passed is not true or false"):
        check(folder)


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        (None, "was not verified. Run `monoglot verify"),
        (failed("bytes", "a.b changed."), "failed, in its bytes: a.b changed. Bake it anew"),
        (failed("logits", "fr: off."), "failed, in its logits: fr: off. Bake it"),
        (failed("bytes"), "failed, in its bytes: no reason is given. Bake it anew, or insist with `unver"),
    ],
)
def test_a_certificate_that_does_not_say_it_passed(folder: Path, certificate: Any, message: str) -> None:
    certify(folder, certificate)
    with pytest.raises(PublishError) as error:
        check(folder)
    assert message in str(error.value)
    (note,) = check(folder, unverified=True).notes
    assert note.startswith("Pushed all the same:")


def test_a_certificate_that_passed(folder: Path) -> None:
    certify(folder, PROVED)
    assert check(folder).notes == ()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("# No metadata\n", "it does not begin with a block of metadata between two lines of ---"),
        ("---\nlicense: mit\n# never closed\n", "at its beginning is not closed, or says nothing"),
        ("---\nlicense: mit\ntags: [a, b\nx: 1\n---\n", "line 4: "),
        ("---\n- a\n- b\n---\n", "its metadata is no mapping"),
        ("---\n\n---\n", "is not closed, or says nothing"),
        (
            "--- \nlicense: mit\n---\n",
            "it does not begin with a block of metadata",
        ),  # which huggingface_hub passes over
        ("\ufeff---\nlicense: mit\n---\n", "it does not begin with a block of metadata"),
        ("---\nlicense: mit\nlicense: mit\n---\n", "twice"),
    ],
)
def test_a_card_whose_metadata_cannot_be_read(folder: Path, card: str, message: str) -> None:
    (folder / "README.md").write_text(card)
    with pytest.raises(PublishError) as error:
        check(folder)
    assert f"the metadata of {folder / 'README.md'} cannot be read: " in str(error.value)
    assert message in str(error.value)


def test_a_small_file_is_known_by_git_s_own_sha1(tmp_path: Path) -> None:
    for data in (b"", b"text\n", bytes(range(256)) * 5000):
        (tmp_path / "file").write_bytes(data)
        told = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, text=True, check=True)
        assert git_blob(tmp_path / "file") == server.blob(data) == told.stdout.strip()
