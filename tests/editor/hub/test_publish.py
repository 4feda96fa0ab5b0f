"""A checkpoint is checked before anything is sent, the Hub is looked at before it is written to, and read back afterwards."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import fake_hub as server
from support import folders
from support.checkpoints import PROVED, baked, certify

from monoglot.editor.errors import PublishError, VerificationError
from monoglot.editor.hub import connection as hub_module
from monoglot.editor.hub import publish
from monoglot.editor.hub.connection import Connection, open_hub
from monoglot.editor.hub.package import check, git_blob
from monoglot.editor.hub.place import check_repo, look

# huggingface_hub hands files to its HTTP library in the way of the one before
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


@pytest.fixture(scope="module")
def whole(model: Path, neurons_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return baked(tmp_path_factory.mktemp("publish") / "out", model, neurons_file)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "out")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[server.Hub]:
    monkeypatch.setattr(hub_module, "_wait", lambda seconds: None)
    settings = {"part_size": 50_000, "page_size": 3}
    with server.running(tmp_path / "hub", **settings) as running, server.in_this_process(running, monkeypatch):
        yield running


@pytest.fixture
def connection(hub: server.Hub) -> Connection:
    return open_hub()


def push(connection: Connection, folder: Path, repo: str, **more: Any) -> publish.Published:
    package = check(folder)
    looking = {key: more[key] for key in ("revision", "private", "create_pr", "tag") if key in more}
    doing = {key: more[key] for key in ("create_pr", "tag", "told") if key in more}
    place = look(connection, package, repo, **looking)
    return publish.publish(connection, package, place, message="a checkpoint", **doing)


def local(folder: Path) -> dict[str, bytes]:
    """What should be on the Hub: every file that the manifest lists, and the manifest."""
    listed = [*json.loads((folder / "monoglot.json").read_text())["files"], "monoglot.json"]
    return {name: (folder / name).read_bytes() for name in listed}


def remote(hub: server.Hub, repo: str, revision: str = "main") -> dict[str, bytes]:
    return {name: hub.content(repo, name, revision) for name in hub.files(repo, revision) if name != ".gitattributes"}


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


def test_a_card_that_a_person_edited(folder: Path, hub: server.Hub, connection: Connection) -> None:
    with (folder / "README.md").open("a") as card:
        card.write("\nMore words.\n")
    assert "README.md was edited after monoglot wrote it. It is uploaded as it is." in check(folder).notes
    push(connection, folder, "ann/m")
    assert hub.content("ann/m", "README.md").endswith(b"More words.\n")


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


# look and publish


def test_a_new_repository_is_private_and_holds_the_manifest_s_files(
    folder: Path, hub: server.Hub, connection: Connection
) -> None:
    (folder / "report.html").write_text("mine")
    done = push(connection, folder, "ann/m")
    assert hub.repos["ann/m"].private
    assert remote(hub, "ann/m") == local(folder)
    assert (done.url, done.commit, done.revision) == (f"{hub.url}/ann/m", hub.head("ann/m"), "main")
    assert set(done.uploaded) == set(local(folder))
    assert hub.commits[done.commit].message == "a checkpoint"
    assert hub.count("PUT /lfs") == 2  # the weights, in parts


def test_a_second_push_only_reads(folder: Path, hub: server.Hub, connection: Connection) -> None:
    first = push(connection, folder, "ann/m", private=False)
    assert not hub.repos["ann/m"].private
    hub.requests.clear()
    second = push(connection, folder, "ann/m")
    assert (second.commit, second.uploaded) == (first.commit, ())
    assert hub.count("POST|PUT") == 0


def test_only_what_changed_is_sent(folder: Path, hub: server.Hub, connection: Connection) -> None:
    push(connection, folder, "ann/m")
    certify(folder, PROVED)
    done = push(connection, folder, "ann/m")
    assert done.uploaded == ("monoglot.json",)
    assert remote(hub, "ann/m") == local(folder)


def test_files_of_the_same_size_are_told_apart(folder: Path, hub: server.Hub, connection: Connection) -> None:
    """The large one by its sha256, the small one by its git blob."""
    push(connection, folder, "ann/m")
    size, text = hub.files("ann/m")["model.safetensors"].size, (folder / "recipe.yaml").read_bytes()
    others = {"model.safetensors": server.File(size, "0" * 40, "0" * 64), "recipe.yaml": hub.regular(text[::-1])}
    hub.commit("ann/m", "main", others, "theirs", "bob")
    assert push(connection, folder, "ann/m").uploaded == ("model.safetensors", "recipe.yaml")
    assert remote(hub, "ann/m") == local(folder)


def test_a_branch_and_a_tag(folder: Path, hub: server.Hub, connection: Connection) -> None:
    hub.put("ann/m", {"notes.txt": b"here before"})
    before = hub.head("ann/m")
    done = push(connection, folder, "ann/m", revision="try/one", tag="v1")
    assert hub.head("ann/m") == before
    assert hub.repos["ann/m"].tags == {"v1": done.commit} and hub.head("ann/m", "try/one") == done.commit
    assert remote(hub, "ann/m", "v1") == local(folder) | {"notes.txt": b"here before"}
    assert done.url == f"{hub.url}/ann/m/tree/try/one"


def test_a_tag_that_is_taken(folder: Path, hub: server.Hub, connection: Connection) -> None:
    hub.put("ann/m", {"notes.txt": b"x"})
    hub.repos["ann/m"].tags["v1"] = hub.head("ann/m")
    with pytest.raises(PublishError, match=r"ann/m has a tag v1 already, on \w{12}\. Choose another `tag`"):
        push(connection, folder, "ann/m", tag="v1")
    assert hub.count("PUT|preupload|commit/") == 0


def test_a_tag_of_the_same_push_is_no_error(folder: Path, hub: server.Hub, connection: Connection) -> None:
    first = push(connection, folder, "ann/m", tag="v1")
    assert push(connection, folder, "ann/m", tag="v1").commit == first.commit
    push(connection, folder, "ann/m", tag="v2")
    assert hub.repos["ann/m"].tags == {"v1": first.commit, "v2": first.commit}


def test_a_pull_request(folder: Path, hub: server.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("acme/m", {"notes.txt": b"x"})
    before = hub.head("acme/m")
    monkeypatch.setenv("HF_TOKEN", server.OTHER)
    connection = open_hub()
    with pytest.raises(PublishError, match=r"bob may not do that .403, .*`create_pr`"):
        push(connection, folder, "acme/m")
    done = push(connection, folder, "acme/m", create_pr=True)
    assert done.pull_request == f"{hub.url}/acme/m/discussions/1"
    assert (done.revision, done.commit) == ("refs/pr/1", hub.head("acme/m", "refs/pr/1"))
    assert hub.head("acme/m") == before
    assert remote(hub, "acme/m", "refs/pr/1") == local(folder) | {"notes.txt": b"x"}
    again = push(connection, folder, "acme/m", create_pr=True)
    assert (again.pull_request, again.uploaded) == (done.pull_request, ())
    assert len(hub.repos["acme/m"].pulls) == 1


def test_a_pull_request_whose_answer_is_lost_is_gone_on_with(
    folder: Path, hub: server.Hub, connection: Connection
) -> None:
    hub.put("ann/m", {"notes.txt": b"x"})
    hub.fault("POST .*/discussions", cut=True, late=True)
    with pytest.raises(PublishError, match="cannot be reached while opening a pull request in ann/m"):
        push(connection, folder, "ann/m", create_pr=True)
    done = push(connection, folder, "ann/m", create_pr=True)
    assert len(hub.repos["ann/m"].pulls) == 1 and remote(hub, "ann/m", "refs/pr/1").keys() > local(folder).keys()
    assert done.revision == "refs/pr/1"


def test_a_pull_request_that_changes_nothing_is_not_opened(
    folder: Path, hub: server.Hub, connection: Connection
) -> None:
    push(connection, folder, "ann/m")
    assert push(connection, folder, "ann/m", create_pr=True).pull_request is None
    assert hub.repos["ann/m"].pulls == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"private": True}, r"acme/m is public, and push does not change that\. Leave out `private`, or change it"),
        ({"revision": "v1"}, r"v1 is a tag, and acme/m can only be written to on a branch"),
        ({"revision": "refs/pr/7"}, r"refs/pr/7 is no pull request there, and"),
        ({"revision": "0" * 40}, r"0{40} is a commit, and acme/m can only"),
        ({"repo": "acme/absent", "create_pr": True}, r"there is no acme/absent to open a pull request in\."),
        ({"repo": "acme/absent", "revision": "refs/pr/7"}, r"there is no acme/absent, so it has no pull request"),
        ({"repo": "nobody/m"}, r"ann may not do that .403, while making nobody/m.: You don't have the rights"),
    ],
)
def test_what_stands_in_the_way(
    folder: Path, hub: server.Hub, connection: Connection, asked: dict[str, Any], message: str
) -> None:
    hub.put("acme/m", {"notes.txt": b"x"})
    hub.repos["acme/m"].tags["v1"] = hub.head("acme/m")
    before = len(hub.commits)
    with pytest.raises(PublishError, match=message):
        push(connection, folder, asked.pop("repo", "acme/m"), **asked)
    assert len(hub.commits) == before


@pytest.mark.parametrize(
    "repo",
    [
        "m",
        "ann/m/x",
        "https://huggingface.co/ann/m",
        "ann/",
        "/m",
        "ann/a--b",
        "ann/a..b",
        "ann/m.git",
        "ann/ü",
        "a b/c",
    ],
)
def test_what_is_no_repository(repo: str) -> None:
    with pytest.raises(PublishError, match="is not the id of a repository on the Hub"):
        check_repo(repo)


def test_a_token_that_may_only_read(folder: Path, hub: server.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", server.READER)
    connection, package = open_hub(), check(folder)
    hub.requests.clear()
    with pytest.raises(PublishError, match="the token of ann may only read"):
        look(connection, package, "ann/m")
    assert hub.requests == []
    monkeypatch.setenv("HF_TOKEN", server.FINE)
    with pytest.raises(PublishError, match=r"ann may not do that .403, while making ann/m."):
        push(open_hub(), folder, "ann/m")


def test_weights_of_another_checkpoint_would_be_loaded(folder: Path, hub: server.Hub, connection: Connection) -> None:
    push(connection, folder, "ann/m")
    hub.put("ann/m", {"model.safetensors.index.json": b"{}", "onnx/a.safetensors": b"x", "calibration.monoglot": b"x"})
    with pytest.raises(
        PublishError, match=r"ann/m has model\.safetensors\.index\.json, which is not of this checkpoint"
    ):
        push(connection, folder, "ann/m")


def test_a_repository_that_was_renamed(folder: Path, hub: server.Hub, connection: Connection) -> None:
    push(connection, folder, "ann/new")
    hub.fault("GET /api/models/ann/old", 200, body={"id": "ann/new", "private": True, "sha": "0" * 40})
    with pytest.raises(PublishError, match=r"ann/old is now called ann/new\. Push there\."):
        push(connection, folder, "ann/old")


# faults


def meanwhile(connection: Connection, monkeypatch: pytest.MonkeyPatch, times: int, act: Callable[[], object]) -> None:
    """Let `act` happen on the Hub right before each of the next uploads."""
    upload = connection.api.upload_folder
    left = [times]

    def late(**arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            act()
        return upload(**arguments)

    monkeypatch.setattr(connection.api, "upload_folder", late)


def test_somebody_else_commits_meanwhile(
    folder: Path, hub: server.Hub, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("ann/m", {"notes.txt": b"x"})
    told: list[str] = []
    meanwhile(connection, monkeypatch, 1, lambda: hub.put("ann/m", {"theirs.txt": b"y"}))
    push(connection, folder, "ann/m", told=told.append)
    assert remote(hub, "ann/m") == local(folder) | {"notes.txt": b"x", "theirs.txt": b"y"}
    assert "ann/m changed meanwhile. Looking at it again." in told
    assert hub.count("/commit/main") == 2


def test_somebody_else_commits_again_and_again(
    folder: Path, hub: server.Hub, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(99))
    meanwhile(connection, monkeypatch, 99, lambda: hub.put("ann/m", {"theirs.txt": b"%d" % next(count)}))
    with pytest.raises(
        PublishError, match=r"changed while it was written to .412, while uploading to ann/m.: A commit has"
    ):
        push(connection, folder, "ann/m")
    assert hub.count("/commit/main") == 2


def test_a_commit_whose_answer_is_lost(folder: Path, hub: server.Hub, connection: Connection) -> None:
    hub.fault("/commit/main", cut=True, late=True)
    done = push(connection, folder, "ann/m")
    assert done.commit == hub.head("ann/m") and remote(hub, "ann/m") == local(folder)
    assert sum(1 for commit in hub.commits.values() if commit.message == "a checkpoint") == 1


@pytest.mark.parametrize(
    "route", ["repos/create", "/branch/", "/tag/", "objects/batch", "/commit/", "PUT /lfs", "/tree/", "/refs"]
)
def test_a_server_that_fails_once(folder: Path, hub: server.Hub, connection: Connection, route: str) -> None:
    hub.fault(route, 503, headers={"Retry-After": "0"})
    done = push(connection, folder, "ann/m", revision="b", tag="v1")
    assert remote(hub, "ann/m", "v1") == local(folder) and done.commit == hub.head("ann/m", "b")


@pytest.mark.parametrize("route", ["repos/create", "/branch/", "/tag/"])
def test_an_answer_that_is_lost(folder: Path, hub: server.Hub, connection: Connection, route: str) -> None:
    """The request was carried out, and the one that repeats it is told so with a 409."""
    hub.fault(route, cut=True, late=True)
    done = push(connection, folder, "ann/m", revision="b", tag="v1")
    assert hub.repos["ann/m"].tags == {"v1": done.commit}


def test_a_tag_that_somebody_else_made_meanwhile(folder: Path, hub: server.Hub, connection: Connection) -> None:
    hub.fault("/tag/", 409)
    with pytest.raises(PublishError, match="ann/m has got another tag v1 meanwhile"):
        push(connection, folder, "ann/m", tag="v1")


def test_a_quota_and_a_card_that_the_hub_refuses(folder: Path, hub: server.Hub, connection: Connection) -> None:
    hub.fault("objects/batch", 403, message="Private repository storage limit reached")
    with pytest.raises(
        PublishError, match=r"the Hub has no room for it .403, while uploading to ann/m.: Private repos"
    ):
        push(connection, folder, "ann/m")
    hub.fault("PUT /lfs", 413, message="too large")
    with pytest.raises(
        PublishError, match=r"the Hub takes nothing that large .413, while uploading to ann/m.: too large"
    ):
        push(connection, folder, "ann/m")
    hub.fault("validate-yaml", 400, body={"errors": [{"message": '"license" must be one of'}]})
    with pytest.raises(PublishError, match=r'Invalid metadata in README\.md\. - "license" must be one of'):
        push(connection, folder, "ann/m")


def test_what_arrives_is_compared(folder: Path, hub: server.Hub, connection: Connection) -> None:
    """A file that the repository's own rules leave out, and one that somebody's commit has overwritten."""
    preupload = server.Hub.preupload

    def ignoring(self: server.Hub, asked: server.Asked) -> server.Reply:
        status, data, headers = preupload(self, asked)
        for file in data["files"]:
            file["shouldIgnore"] = file["path"] == "neurons.json"
        return status, data, headers

    routes = tuple((verb, path, ignoring if answer is preupload else answer) for verb, path, answer in server.ROUTES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "ROUTES", routes)
        with pytest.raises(
            PublishError, match=r"ann/m at \w{12} lacks neurons\.json than was sent|lacks neurons\.json"
        ):
            push(connection, folder, "ann/m")
    push(connection, folder, "ann/m")
    assert remote(hub, "ann/m") == local(folder)


def test_a_file_that_changes_while_it_is_uploaded(
    folder: Path, hub: server.Hub, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(connection, monkeypatch, 1, lambda: (folder / "recipe.yaml").write_text("another"))
    with pytest.raises(PublishError, match=r"has another recipe\.yaml"):
        push(connection, folder, "ann/m")


def test_a_small_file_is_known_by_git_s_own_sha1(tmp_path: Path) -> None:
    for data in (b"", b"text\n", bytes(range(256)) * 5000):
        (tmp_path / "file").write_bytes(data)
        told = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, text=True, check=True)
        assert git_blob(tmp_path / "file") == server.blob(data) == told.stdout.strip()


def test_names_with_letters_that_patterns_know(folder: Path, hub: server.Hub, connection: Connection) -> None:
    record = folders.manifest_data(folder)
    for name in ("a[1].txt", "a1.txt"):
        (folder / name).write_text(name)
    record["files"]["a[1].txt"] = folders.listed(b"a[1].txt")
    folders.write_manifest(folder, record)
    push(connection, folder, "ann/m")
    assert remote(hub, "ann/m") == local(folder)
