"""Baking GGUF files: exactly the rows of the neurons become zeros, by what llama.cpp's own package reads."""

import errno
import os
import resource
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support import ggufs
from support.baked_ggufs import OFF, check_rows
from support.folders import tree

from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import (
    CheckpointError,
    NeuronsError,
    OutputError,
    RecipeError,
)
from monoglot.editor.files import streams
from monoglot.editor.gguf import bake as gguf_bake
from monoglot.editor.gguf import sidecar
from monoglot.editor.gguf.bake import BakedGguf, bake_gguf
from monoglot.editor.gguf.verify import verify_gguf
from monoglot.editor.models.identity import Base
from monoglot.editor.neurons.neurons import Neurons


@pytest.mark.parametrize("kind", ggufs.DECODED)
def test_exactly_the_recipes_rows_are_zeros(tmp_path: Path, found: Neurons, kind: str) -> None:
    """In bytes and in the numbers that llama.cpp's package decodes, in every type."""
    check_rows(ggufs.write(tmp_path / "m.gguf", kind=kind), found, tmp_path / "out.gguf", first=0)


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
