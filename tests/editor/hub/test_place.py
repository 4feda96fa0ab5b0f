"""The Hub is looked at before it is written to: what stands there, and what stands in the way."""

from pathlib import Path
from typing import Any

import pytest
from support import fake_hub as server
from support.pushing import push

from monoglot.editor.errors import PublishError
from monoglot.editor.hub.connection import Connection, open_hub
from monoglot.editor.hub.package import check
from monoglot.editor.hub.place import check_repo, look

# huggingface_hub hands files to its HTTP library in the way of the one before
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


def test_a_second_push_only_reads(folder: Path, hub: server.Hub, connection: Connection) -> None:
    first = push(connection, folder, "ann/m", private=False)
    assert not hub.repos["ann/m"].private
    hub.requests.clear()
    second = push(connection, folder, "ann/m")
    assert (second.commit, second.uploaded) == (first.commit, ())
    assert hub.count("POST|PUT") == 0


def test_a_tag_that_is_taken(folder: Path, hub: server.Hub, connection: Connection) -> None:
    hub.put("ann/m", {"notes.txt": b"x"})
    hub.repos["ann/m"].tags["v1"] = hub.head("ann/m")
    with pytest.raises(PublishError, match=r"ann/m has a tag v1 already, on \w{12}\. Choose another `tag`"):
        push(connection, folder, "ann/m", tag="v1")
    assert hub.count("PUT|preupload|commit/") == 0


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
