"""A model on the Hub by its headers alone: what is told of it is what is told of it on disk."""

import hashlib
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from support import tiny

from monoglot.editor.describe import describe
from monoglot.editor.errors import CheckpointError, ModelError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.files.fingerprint import fingerprint
from monoglot.editor.models import outline
from monoglot.editor.models.outline import outlined

COMMIT = "c0ffee"


class Hub:
    """A folder as if it were `org/name` on the Hub; remembers which bytes it was asked for."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.asked: list[tuple[str, int, int]] = []
        self.status = 206
        self.large = True

    def snapshot_download(self, name: str, *, allow_patterns: list[str], **_: Any) -> str:
        assert name == "org/name"
        place = self.cache / COMMIT
        place.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, place)
        return str(place)

    def model_info(self, name: str, *, revision: str, files_metadata: bool) -> Any:
        assert (name, revision, files_metadata) == ("org/name", COMMIT, True)
        files = [
            SimpleNamespace(rfilename=p.name, size=p.stat().st_size, lfs=self.lfs(p)) for p in self.folder.iterdir()
        ]
        return SimpleNamespace(siblings=[*files, SimpleNamespace(rfilename="../evil", size=3)])

    def lfs(self, path: Path) -> Any:
        """The Hub knows the sha256 of what is stored apart from the repository."""
        if not self.large or not (path.suffix == ".safetensors" or path.name == "tokenizer.json"):
            return None
        return SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    def get(self, url: str, *, headers: dict[str, str], timeout: float) -> Any:
        found = re.fullmatch(rf".*/org/name/resolve/{COMMIT}/(.+)", url)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers["range"])
        assert found and span
        begin, end = int(span[1]), int(span[2]) + 1
        self.asked.append((found[1], begin, end))
        data = (self.folder / found[1]).read_bytes()[begin:end]
        return SimpleNamespace(content=data, status_code=self.status, raise_for_status=lambda: None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    (tmp_path / "cache").mkdir()
    made = Hub(tmp_path / "model", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, *a, **k: made.model_info(*a, **k))
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: made)
    monkeypatch.setattr(huggingface_hub.utils, "hf_raise_for_status", lambda response: None)
    monkeypatch.setattr(outline, "FIRST", 512)
    return made


def test_what_the_hub_has_no_hash_of_is_read(hub: Hub) -> None:
    """Small files, which lie in the repository itself: weights of a tiny model, and a tokenizer."""
    tiny.save_model(hub.folder, vocab_size=20_000)
    (hub.folder / "tokenizer.json").write_text("{}")
    hub.large = False
    assert describe("org/name")["fingerprint"] == describe(str(hub.folder))["fingerprint"]
    assert {name for name, _, _ in hub.asked} == {"model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("shards", [False, True])
def test_the_same_as_on_disk(hub: Hub, shards: bool) -> None:
    tiny.save_model(hub.folder, shards=shards, vocab_size=20_000)
    (hub.folder / "chat_template.jinja").write_text("x")
    found, expected = describe("org/name"), describe(str(hub.folder))
    different = {"name": "org/name", "revision": COMMIT, "hub": True}
    assert found == {**expected, **different}
    weights = {path.name: path.stat().st_size for path in hub.folder.glob("*.safetensors")}
    assert {name for name, _, _ in hub.asked} == set(weights)
    if not shards:
        assert sum(end - begin for _, begin, end in hub.asked) < sum(weights.values()) / 10
    assert not (hub.cache / "evil").exists()


def test_a_checkpoint_of_monoglots(hub: Hub, model: Path, neurons_file: Path, monoglot: Any) -> None:
    assert monoglot("bake", model, neurons_file, "--deactivate", "fr", "-o", hub.folder)[0] == 0
    found = describe("org/name")
    assert found["kind"] == "checkpoint" and found["files"]["missing"] == found["files"]["changed"] == []


def test_what_was_downloaded_before_is_read_where_it_is(hub: Hub, model: Path) -> None:
    shutil.copytree(model, hub.folder)
    shutil.copytree(model, hub.cache / COMMIT)
    with outlined("org/name@main") as source:
        assert source.folder == hub.cache / COMMIT and (source.name, source.revision) == ("org/name", COMMIT)
    assert hub.asked == []


def test_the_outline_is_gone_afterwards(hub: Hub, model: Path) -> None:
    shutil.copytree(model, hub.folder)
    with outlined("org/name") as source:
        folder = source.folder
        assert fingerprint(read_checkpoint(folder), source.hashes) == fingerprint(read_checkpoint(model))
        assert (folder / "model.safetensors").stat().st_size == (model / "model.safetensors").stat().st_size
    assert not folder.exists()


def test_what_the_hub_does_not_give(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(model, hub.folder)
    hub.status = 200  # the whole file, whatever was asked for
    with pytest.raises(ModelError, match="Download org/name first"):
        describe("org/name")
    hub.status = 206
    weights = hub.folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="does not fit"):
        describe("org/name")

    def fails(self: Any, *_: Any, **__: Any) -> None:
        raise RuntimeError("no route\nat all")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fails)
    with pytest.raises(ModelError, match=r"\(no route\)\. Run it again"):
        describe("org/name")
