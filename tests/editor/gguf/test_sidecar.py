"""The sidecar of a baked GGUF: what it says, and what is refused as one."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.baked_ggufs import CLEARED, renewed

from monoglot.editor.errors import (
    VerificationError,
)
from monoglot.editor.gguf import sidecar
from monoglot.editor.gguf.bake import BakedGguf
from monoglot.editor.gguf.verify import verify_gguf
from monoglot.editor.neurons.neurons import Neurons


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_sidecar_says_what_was_done(base: Path, baked: BakedGguf, neurons_file: Path, found: Neurons) -> None:
    assert sidecar.read(baked.path) == baked.sidecar
    record = json.loads(sidecar.sidecar_of(baked.path).read_text())
    assert record["base"] == {
        "name": "m.gguf", "sha256": sha256(base), "size": base.stat().st_size, "architecture": "llama", "layers": 3,
        "width": 24,
    }  # fmt: skip
    assert record["file"] == {"sha256": sha256(baked.path), "size": base.stat().st_size}
    assert record["recipe"] == {"shared": "keep", "edits": [{"language": "fr", "op": "deactivate"}]}
    assert (record["edited"], record["kept"], record["neurons_edited"]) == ({"fr": 4}, {"fr": 2}, 4)
    assert record["cleared"] == CLEARED and record["certificate"] is None
    assert record["neurons"]["sha256"] == sha256(neurons_file)
    assert found.model and record["neurons"]["model"]["fingerprint"] == found.model.fingerprint
    assert str(base.parent) not in sidecar.sidecar_of(baked.path).read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(format=2), "has format 2, this version reads 1. Upgrade monoglot"),
        (lambda record: record.pop("cleared"), "malformed"),
        (lambda record: record["cleared"][0].append(24), "malformed"),
        (lambda record: record["cleared"][0].insert(0, -1), "malformed"),
        (lambda record: record["cleared"][2].insert(0, 4), "malformed"),
        (lambda record: record["cleared"].append([]), "malformed"),
        (lambda record: record.update(base=[]), "malformed"),
        (lambda record: record["base"].update(layers="3"), "malformed"),
        (lambda record: record["recipe"].update(edits=[]), "malformed"),
        (lambda record: record.update(edited={}), "malformed"),
        (lambda record: record.update(certificate={}), "malformed"),
        (lambda record: record["base"].update(architecture="gemma"), "is not what .* was made from"),
    ],
)
def test_a_malformed_sidecar(
    base: Path, baked: BakedGguf, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    renewed(baked.path, change)
    with pytest.raises(VerificationError, match=message):
        verify_gguf(baked.path, base)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null"])
def test_a_sidecar_that_is_none(base: Path, baked: BakedGguf, content: bytes) -> None:
    sidecar.sidecar_of(baked.path).write_bytes(content)
    with pytest.raises(VerificationError):
        verify_gguf(baked.path, base)
    assert not sidecar.is_ours(sidecar.sidecar_of(baked.path))
