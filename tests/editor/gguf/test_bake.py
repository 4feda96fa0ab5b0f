"""Baking GGUF files: exactly the rows of the neurons become zeros, by what llama.cpp's own package reads; and the proof."""

import errno
import hashlib
import json
import os
import re
import resource
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ggufs
from support.folders import tree

from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import (
    CheckpointError,
    ModelError,
    NeuronsError,
    OutputError,
    RecipeError,
    VerificationError,
)
from monoglot.editor.files import streams
from monoglot.editor.gguf import bake as gguf_bake
from monoglot.editor.gguf import sidecar
from monoglot.editor.gguf.bake import BakedGguf, bake_gguf
from monoglot.editor.gguf.up_projection import FUSED, KNOWN, SEPARATE
from monoglot.editor.gguf.verify import GgufBytes, base_of, verify_gguf
from monoglot.editor.models.identity import Base
from monoglot.editor.neurons import neurons
from monoglot.editor.neurons.neurons import Neurons

OFF = Recipe(Base("m.gguf"), (Edit("fr", "deactivate"),))
CLEARED = [[3], [1], [2, 4]]  # of French, without 5, which is English too, and 7, which is Chinese too


@pytest.fixture
def found(neurons_file: Path) -> Neurons:
    return neurons.load(neurons_file)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return ggufs.write(tmp_path / "m.gguf", bias=True)


@pytest.fixture
def baked(base: Path, found: Neurons, tmp_path: Path) -> BakedGguf:
    return bake_gguf(base, found, OFF, tmp_path / "out.gguf")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ggufs.DECODED)
def test_exactly_the_recipes_rows_are_zeros(tmp_path: Path, found: Neurons, kind: str) -> None:
    """In bytes and in the numbers that llama.cpp's package decodes, in every type."""
    check_rows(ggufs.write(tmp_path / "m.gguf", kind=kind), found, tmp_path / "out.gguf", first=0)


@pytest.mark.parametrize("architecture", KNOWN)
def test_in_every_architecture(tmp_path: Path, found: Neurons, architecture: str) -> None:
    """Fused ones hold the gate's rows first."""
    fused = architecture in FUSED
    for bias in (False, True):
        path = ggufs.write(tmp_path / "m.gguf", architecture, kind="Q5_K", fused=fused, bias=bias)
        out = tmp_path / f"out{bias}.gguf"
        check_rows(path, found, out, first=ggufs.WIDTH if fused else 0)


def check_rows(path: Path, found: Neurons, out: Path, *, first: int) -> None:
    bake_gguf(path, found, OFF, out)
    before, after = ggufs.read(path), ggufs.read(out)
    assert before.keys() == after.keys() and out.stat().st_size == path.stat().st_size
    for name, was in before.items():
        expected, made = was.raw.copy(), after[name]
        assert made[:3] == was[:3]
        layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
        rows = [first + j for j in CLEARED[layer]]
        if name.endswith("ffn_up.weight"):
            assert was.raw[rows].any(axis=1).all()
            expected[rows] = 0
            assert made.numbers is not None and was.numbers is not None
            assert (made.numbers[rows] == 0).all() and (was.numbers[rows] != 0).any()
            others = np.delete(np.arange(len(expected)), rows)
            np.testing.assert_array_equal(made.numbers[others], was.numbers[others])
        elif name.endswith("ffn_up.bias"):
            expected.view(np.float32)[0, rows] = 0
        assert (made.raw == expected).all(), name
    start = min(tensor.begin for tensor in before.values())
    assert path.read_bytes()[:start] == out.read_bytes()[:start]


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


def test_same_in_same_out(base: Path, baked: BakedGguf, found: Neurons, tmp_path: Path) -> None:
    again = bake_gguf(base, found, OFF, tmp_path / "a" / "b" / "out.gguf")
    for name in ("out.gguf", "out.gguf.json"):
        assert (again.path.parent / name).read_bytes() == (baked.path.parent / name).read_bytes()
    assert sorted(path.name for path in again.path.parent.iterdir()) == ["out.gguf", "out.gguf.json"]


@pytest.mark.slow
@pytest.mark.parametrize("piece", [1, 97, 4096, 2**30])
@pytest.mark.parametrize("error", [None, errno.EXDEV, errno.ENOSYS, "half", "absent"])
def test_however_it_is_copied(
    base: Path,
    baked: BakedGguf,
    found: Neurons,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
    error: Any,
) -> None:
    """By the kernel, by hand where it can't, or half by one and half by the other; in pieces of any size."""
    if piece == 1:
        base = ggufs.write(tmp_path / "m.gguf", hidden=32, vocabulary=3, bias=True)
        baked = bake_gguf(base, found, OFF, tmp_path / "small.gguf")
    monkeypatch.setattr(gguf_bake, "PIECE", piece)
    monkeypatch.setattr(streams, "CHUNK", 61)
    kernel = getattr(os, "copy_file_range", None)
    if kernel is None and error in (None, "half"):
        pytest.skip("this system has no copy_file_range")

    def copy(source: int, out: int, count: int, at: int, to: int) -> int:
        if error is None:
            return int(kernel(source, out, count, at, to))  # type: ignore[misc]
        if error == "half":
            return int(kernel(source, out, count // 2, at, to)) if count > 40 else 0  # type: ignore[misc]
        raise OSError(error, os.strerror(error))

    if error == "absent":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:
        monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    again = bake_gguf(base, found, OFF, tmp_path / "again.gguf")
    assert again.sidecar == baked.sidecar
    assert again.path.read_bytes() == baked.path.read_bytes()


@pytest.mark.slow
def test_memory_is_constant(tmp_path: Path, found: Neurons) -> None:
    path = ggufs.write(tmp_path / "m.gguf", kind="F32", vocabulary=200_000)  # 55 MB
    tracemalloc.start()
    made = bake_gguf(path, found, OFF, tmp_path / "out.gguf")
    verify_gguf(made.path, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 50e6 and peak < 25e6


def test_progress_ends_at_the_whole(base: Path, found: Neurons, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = bake_gguf(base, found, OFF, tmp_path / "out.gguf", progress=lambda *done: seen.append(done))
    assert seen[-1] == (base.stat().st_size,) * 2 and seen == sorted(seen)
    seen.clear()
    verify_gguf(made.path, base, progress=lambda *done: seen.append(done))
    assert seen[-1] == (base.stat().st_size,) * 2


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit", [Edit("fr", "scale", 0.5), Edit("fr", "pin", 1.0, "mean"), Edit("fr", "add", 1.0, "mean")]
)
def test_other_operations(base: Path, found: Neurons, tmp_path: Path, edit: Edit) -> None:
    recipe = Recipe(Base("m"), (Edit("zh", "deactivate"), edit))
    with pytest.raises(RecipeError, match=rf"{edit.op} \(fr\) can't be done .* safetensors checkpoint, then convert"):
        bake_gguf(base, found, recipe, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 2}, "of a model with 3 layers, m.gguf has 2"),
        ({"width": 32}, "of a model with 24 neurons a layer, m.gguf has 32"),
    ],
)
def test_neurons_of_another_shape(tmp_path: Path, found: Neurons, options: dict[str, int], message: str) -> None:
    path = ggufs.write(tmp_path / "m.gguf", **options)  # type: ignore[arg-type]
    with pytest.raises(NeuronsError, match=f"{message}.*Find the neurons in the checkpoint that it was made from"):
        bake_gguf(path, found, OFF, tmp_path / "out.gguf")


LAYOUTS: dict[str, tuple[dict[str, Any], type[ModelError], str]] = {
    "no gate": (
        {"architecture": "gpt2"},
        ModelError,
        "'gpt2', whose neurons can't be cleared .* then convert .* Known",
    ),
    "another": ({"architecture": "bitnet"}, ModelError, "of the architecture 'bitnet'"),
    "experts": ({"keys": {"llama.expert_count": 8}}, ModelError, "is a mixture of experts .*Use a dense model"),
    "adapter": ({"keys": {"general.type": "adapter"}}, ModelError, "holds 'adapter', not a model"),
    "no layers": ({"keys": {"llama.block_count": None}}, CheckpointError, "has the llama.block_count None"),
    "many layers": ({"keys": {"llama.block_count": 2**31}}, CheckpointError, "has the llama.block_count 2147483648"),
    "more layers": ({"keys": {"llama.block_count": 4}}, CheckpointError, "has no blk.3.ffn_down.weight"),
    "no width": (
        {"keys": {"llama.feed_forward_length": None}},
        CheckpointError,
        "has the llama.feed_forward_length None",
    ),
    "another width": (
        {"keys": {"llama.feed_forward_length": 12}},
        CheckpointError,
        r"has shape \[24, 256\].* 12 neurons",
    ),
    "widths": (
        {"keys": {"llama.feed_forward_length": [24, 24, 12]}},
        CheckpointError,
        "models with as many in every layer",
    ),
    "up missing": ({"drop": "blk.1.ffn_up.weight"}, CheckpointError, "has no blk.1.ffn_up.weight"),
    "gate missing": ({"drop": "blk.2.ffn_gate.weight"}, CheckpointError, "has no blk.2.ffn_gate.weight"),
    "not fused": ({"architecture": "phi3"}, CheckpointError, r"has shape \[256, 24\].* \[256, 48\] there"),
    "fused": ({"fused": True}, CheckpointError, "has no blk.0.ffn_gate.weight"),
    "unproved": ({"kind": "Q8_K"}, ModelError, "is stored as Q8_K, of which it isn't proved that zero bytes are zeros"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_that_are_not_known(tmp_path: Path, found: Neurons, name: str) -> None:
    options, error, message = LAYOUTS[name]
    path = ggufs.write(tmp_path / "m.gguf", **options)
    with pytest.raises(error, match=message) as caught:
        bake_gguf(path, found, OFF, tmp_path / "out.gguf")
    assert str(path) in str(caught.value) and not (tmp_path / "out.gguf").exists()


def test_a_width_for_every_layer(tmp_path: Path, found: Neurons) -> None:
    path = ggufs.write(tmp_path / "m.gguf", keys={"llama.feed_forward_length": [24, 24, 24]})
    assert bake_gguf(path, found, OFF, tmp_path / "out.gguf").sidecar.to_data()["cleared"] == CLEARED


def test_architectures_are_the_gated_dense_ones_of_llama_cpp() -> None:
    """By what its package says of their tensors: separate ones have a gate, fused ones have none of their own."""
    from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSOR, MODEL_TENSORS

    theirs = {MODEL_ARCH_NAMES[arch]: set(tensors) for arch, tensors in MODEL_TENSORS.items()}
    for name in KNOWN:
        assert MODEL_TENSOR.FFN_UP in theirs[name] and MODEL_TENSOR.FFN_DOWN in theirs[name]
        assert (MODEL_TENSOR.FFN_GATE in theirs[name]) == (name in SEPARATE)
        assert MODEL_TENSOR.FFN_SUB_NORM not in theirs[name]


# --- the destination -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "kind", ["file", "folder", "link", "sidecar alone", "sidecar of another", "the model", "by a link"]
)
def test_what_exists_is_not_touched(base: Path, found: Neurons, tmp_path: Path, kind: str, force: bool) -> None:
    out = tmp_path / "place" / "out.gguf"
    out.parent.mkdir()
    if kind == "file":
        out.write_text("precious")
    elif kind == "folder":
        out.mkdir()
    elif kind == "link":
        out.symlink_to(tmp_path / "gone")
    elif kind == "sidecar alone":
        sidecar.sidecar_of(out).write_text("precious")
    elif kind == "sidecar of another":
        out.write_text("precious")
        sidecar.sidecar_of(out).write_text('{"format": 1}')
    elif kind == "the model":
        out = base
    else:
        out.symlink_to(base)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="Choose another place"):
        bake_gguf(base, found, OFF, out, force=force)
    assert tree(tmp_path) == before


def test_force_replaces_what_monoglot_wrote(base: Path, baked: BakedGguf, found: Neurons, tmp_path: Path) -> None:
    first = tree(tmp_path)
    zh = Recipe(Base("m.gguf"), (Edit("zh", "deactivate"),))
    with pytest.raises(OutputError, match=r"exists. Choose another place, or replace it with `force`"):
        bake_gguf(base, found, zh, baked.path)
    assert tree(tmp_path) == first
    bake_gguf(base, found, zh, baked.path, force=True)
    second = tree(tmp_path)
    assert second.keys() == first.keys() and second["out.gguf"] != first["out.gguf"]
    assert not verify_gguf(baked.path, base).problems
    shutil.copy(sidecar.sidecar_of(baked.path), tmp_path / "alone.gguf.json")  # what a killed run leaves
    bake_gguf(base, found, zh, tmp_path / "alone.gguf")
    assert not verify_gguf(tmp_path / "alone.gguf", base).problems


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("where", ["_copy_piece", "_hash_piece"])
@pytest.mark.parametrize("force", [False, True])
def test_an_error_leaves_what_was_there(
    base: Path, found: Neurons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any, where: str, force: bool
) -> None:
    if force:
        bake_gguf(base, found, OFF, tmp_path / "a" / "out.gguf")
    before = tree(tmp_path)
    monkeypatch.setattr(gguf_bake, "PIECE", 1000)
    work = getattr(gguf_bake, where)

    def fail(*arguments: Any) -> None:
        if arguments[3] > 9000:
            raise error
        work(*arguments)

    monkeypatch.setattr(gguf_bake, where, fail)
    expected = OutputError if isinstance(error, OSError) else error
    with pytest.raises(expected):
        bake_gguf(base, found, Recipe(Base("m"), (Edit("zh", "deactivate"),)), tmp_path / "a" / "out.gguf", force=force)
    assert tree(tmp_path) == before


def test_disk_too_small(base: Path, found: Neurons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"GB free, the file needs .* GB. Make room"):
        bake_gguf(base, found, OFF, tmp_path / "a" / "out.gguf")
    assert not (tmp_path / "a").exists()


def test_a_real_limit_in_mid_write(base: Path, found: Neurons, tmp_path: Path) -> None:
    before, held = tree(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, held[1]))
        with pytest.raises(OutputError, match=r"File too large. Nothing was kept"):
            bake_gguf(base, found, OFF, tmp_path / "out.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_taken_at_the_end(
    base: Path, found: Neurons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """The sidecar moved in, the file could not: the old sidecar goes back."""
    out = tmp_path / "out.gguf"
    if force:
        bake_gguf(base, found, OFF, out)
    before, replace = tree(tmp_path), Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target == out:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=r"Input/output error. Nothing was kept"):
        bake_gguf(base, found, Recipe(Base("m"), (Edit("zh", "deactivate"),)), out, force=force)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("what", ["longer", "shorter", "touched"])
def test_a_model_that_changes_meanwhile(
    base: Path, found: Neurons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(gguf_bake, "PIECE", 1000)
    work, content = gguf_bake._copy_piece, base.read_bytes()

    def change(*arguments: Any) -> None:
        if arguments[2] == 0:
            if what == "shorter":
                os.truncate(base, 5000)
            else:
                base.write_bytes(content + b"x" if what == "longer" else content[:-1] + b"x")
                os.utime(base, ns=(1, 1))
        work(*arguments)

    monkeypatch.setattr(gguf_bake, "_copy_piece", change)
    with pytest.raises(CheckpointError, match=r"(became shorter|was written to) .*Leave it alone and run it again"):
        bake_gguf(base, found, OFF, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


# --- the proof -------------------------------------------------------------------------------------------------------


def test_what_was_baked_passes(base: Path, baked: BakedGguf, found: Neurons) -> None:
    assert verify_gguf(baked.path, base, neurons=found) == GgufBytes(4, 0, 6, 8, ())


def change_byte(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        value = file.read(1)[0] ^ 1
        file.seek(at)
        file.write(bytes([value]))


@pytest.mark.parametrize(
    ("tensor", "row", "message"),
    [
        ("blk.1.ffn_up.weight", 1, "blk.1.ffn_up.weight: 1 bytes are not as they should be, the first in row 1"),
        ("blk.1.ffn_up.weight", 2, "blk.1.ffn_up.weight: 1 bytes are not as they should be, the first in row 2"),
        ("blk.2.ffn_gate.weight", 4, "blk.2.ffn_gate.weight: 1 bytes .* in row 4"),
        ("token_embd.weight", 7, "token_embd.weight: 1 bytes .* in row 7"),
        ("blk.0.ffn_up.bias", 0, "blk.0.ffn_up.bias: 1 bytes"),
        (None, 30, "outside of the tensors: 1 bytes .* byte 30"),
    ],
)
def test_a_changed_byte_is_found(base: Path, baked: BakedGguf, tensor: str | None, row: int, message: str) -> None:
    theirs = ggufs.read(base)
    at = theirs[tensor].begin + row * theirs[tensor].raw.shape[1] + 3 if tensor else row
    change_byte(baked.path, at)
    problems = verify_gguf(baked.path, base).problems
    assert len(problems) == 2 and "has the sha256" in problems[1]
    assert re.search(message, problems[0]), problems


def test_padding_counts_too(base: Path, baked: BakedGguf) -> None:
    norm = ggufs.read(base)["output_norm.weight"]
    change_byte(baked.path, norm.begin + norm.raw.size + 1)
    assert any("outside of the tensors: 1 bytes" in one for one in verify_gguf(baked.path, base).problems)


@pytest.mark.parametrize("what", ["longer", "shorter"])
def test_another_size_is_found(base: Path, baked: BakedGguf, what: str) -> None:
    content = baked.path.read_bytes()
    baked.path.write_bytes(content + b"\0" if what == "longer" else content[:-1])
    problems = verify_gguf(baked.path, base).problems
    assert any("bytes, " in one for one in problems) and any("sha256" in one for one in problems)


def renewed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(sidecar.sidecar_of(path).read_text())
    change(record)
    sidecar.sidecar_of(path).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["cleared"][0].append(9),
        lambda record: record["cleared"][2].pop(),
        lambda record: record.update(cleared=[[], [], []]),
        lambda record: record.update(neurons_edited=5),
        lambda record: record["base"].update(sha256="0" * 64),
        lambda record: record["file"].update(sha256="0" * 64),
    ],
)
def test_a_sidecar_that_lies_is_found(base: Path, baked: BakedGguf, change: Callable[[dict[str, Any]], None]) -> None:
    renewed(baked.path, change)
    assert verify_gguf(baked.path, base).problems


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


def test_no_sidecar_and_no_file(base: Path, baked: BakedGguf) -> None:
    with pytest.raises(VerificationError, match="was not made by monoglot"):
        verify_gguf(base, base)
    baked.path.unlink()
    with pytest.raises(VerificationError, match="there is no file"):
        verify_gguf(baked.path, base)


def test_another_base(base: Path, baked: BakedGguf, tmp_path: Path, found: Neurons) -> None:
    other = ggufs.write(tmp_path / "other.gguf", bias=True)
    change_byte(other, other.stat().st_size - 1)
    problems = verify_gguf(baked.path, other).problems
    assert any("blk.2.ffn_up.bias" in one for one in problems) and any(
        f"{other} has the sha256" in one for one in problems
    )
    with pytest.raises(VerificationError, match=r"is not what .* was made from: it is a llama model of 2 layers × 24"):
        verify_gguf(baked.path, ggufs.write(tmp_path / "other.gguf", layers=2))


def test_the_base_is_looked_for_beside(base: Path, baked: BakedGguf, tmp_path: Path) -> None:
    assert base_of(baked.path, None) == base and base_of(baked.path, Path("x")) == Path("x")
    base.rename(tmp_path / "moved.gguf")
    with pytest.raises(VerificationError, match=r"was a file called m.gguf. Say where it is with `base`"):
        base_of(baked.path, None)


def test_other_neurons_than_the_sidecars(base: Path, baked: BakedGguf, found: Neurons) -> None:
    more = {**found.indices, "fr": tuple(np.append(layer, 20) for layer in found.indices["fr"])}
    problems = verify_gguf(baked.path, base, neurons=Neurons(more)).problems
    assert problems == ("the neurons to clear are others, in 3 layers, the first of them 0",)
    problems = verify_gguf(baked.path, base, neurons=Neurons({"fr": found.indices["fr"][:2]})).problems
    assert len(problems) == 1 and "of a model with 2 layers" in problems[0]


def test_rows_that_were_zeros_already(base: Path, baked: BakedGguf, found: Neurons, tmp_path: Path) -> None:
    again = bake_gguf(baked.path, found, OFF, tmp_path / "again.gguf")
    assert again.path.read_bytes() == baked.path.read_bytes()
    result = verify_gguf(again.path, baked.path)
    assert (result.zero_before, result.problems) == (4, ())
