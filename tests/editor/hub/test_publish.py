"""A checkpoint goes to the Hub whole, and is read back afterwards, whatever happens in between."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import fake_hub as server
from support import folders
from support.checkpoints import PROVED, certify
from support.pushing import local, push

from monoglot.editor.errors import PublishError
from monoglot.editor.hub.connection import Connection, open_hub
from monoglot.editor.hub.package import check

# huggingface_hub hands files to its HTTP library in the way of the one before
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


def remote(hub: server.Hub, repo: str, revision: str = "main") -> dict[str, bytes]:
    return {name: hub.content(repo, name, revision) for name in hub.files(repo, revision) if name != ".gitattributes"}


def test_a_card_that_a_person_edited(folder: Path, hub: server.Hub, connection: Connection) -> None:
    with (folder / "README.md").open("a") as card:
        card.write("\nMore words.\n")
    assert "README.md was edited after monoglot wrote it. It is uploaded as it is." in check(folder).notes
    push(connection, folder, "ann/m")
    assert hub.content("ann/m", "README.md").endswith(b"More words.\n")


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


def test_names_with_letters_that_patterns_know(folder: Path, hub: server.Hub, connection: Connection) -> None:
    record = folders.manifest_data(folder)
    for name in ("a[1].txt", "a1.txt"):
        (folder / name).write_text(name)
    record["files"]["a[1].txt"] = folders.listed(b"a[1].txt")
    folders.write_manifest(folder, record)
    push(connection, folder, "ann/m")
    assert remote(hub, "ann/m") == local(folder)
