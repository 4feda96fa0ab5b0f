"""A checkpoint of a test's own, and the fake Hub that it is pushed to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fake_hub as server
from support.checkpoints import baked

from monoglot.editor.hub import connection as hub_module
from monoglot.editor.hub.connection import Connection, open_hub


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
