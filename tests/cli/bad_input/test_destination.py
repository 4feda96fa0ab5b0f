"""Places that can't be written, are taken, or fill up."""

import errno
import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support.bad_input import EDIT, Place, one_message, set_weight, shard
from support.folders import tree

from monoglot.editor.models import target
from monoglot.editor.models.target import open_target


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "loop"])
@pytest.mark.parametrize("force", [False, True])
def test_out_exists(place: Place, kind: str, force: bool) -> None:
    place.out.parent.mkdir()
    if kind == "file":
        place.out.write_text("precious")
    elif kind == "folder":
        place.out.mkdir()
        (place.out / "precious").write_text("x")
    else:
        (place.root / "other").mkdir()
        place.out.symlink_to({"link": "../other", "dangling link": "../gone", "loop": "out"}[kind])
    words = (str(place.out), "Choose another place", "does not replace it" if force else "--force")
    place.refused(*words, options=(*EDIT, *(["--force"] if force else [])))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("where", ["same", "inside", "deep inside", "parent", "by a link", "with dots"])
def test_out_in_the_models_way(place: Place, where: str, force: bool) -> None:
    """Even when both are monoglot's own, and however they are written."""
    assert place.bake().code == 0
    base = place.out
    (place.root / "link").symlink_to(base, target_is_directory=True)
    (base.parent / "monoglot.json").write_text("{}")
    out, word = {
        "same": (base, "lies inside the model's own folder"),
        "inside": (base / "out", "lies inside the model's own folder"),
        "deep inside": (base / "a" / "b", "lies inside the model's own folder"),
        "parent": (base.parent, "holds the model's own folder"),
        "by a link": (place.root / "link" / "out", "lies inside the model's own folder"),
        "with dots": (base / ".." / base.name / "out", "lies inside the model's own folder"),
    }[where]
    before = tree(place.root)
    one_message(place.bake(*EDIT, *(["--force"] if force else []), model=base, out=out), word, "Choose another place")
    assert tree(place.root) == before


def test_force_replaces_what_monoglot_wrote(place: Place) -> None:
    assert place.bake().code == 0
    first = tree(place.out)
    place.refused("--force", options=("--deactivate", "zh"))
    assert place.bake("--deactivate", "zh", "--force").code == 0
    assert tree(place.out) != first
    assert [path.name for path in place.out.parent.iterdir()] == ["out"]


def test_force_keeps_the_old_one_when_the_new_one_fails(place: Place) -> None:
    assert place.bake().code == 0
    set_weight(place.model, "model.layers.2.mlp.down_proj.weight", bytes.fromhex("0000c07f"))
    place.refused("NaN", options=(*EDIT, "--force"))


@pytest.mark.parametrize("parent", ["file", "dangling", "under a file"])
def test_parent_of_out_is_no_folder(place: Place, parent: str) -> None:
    (place.root / "file").write_text("x")
    (place.root / "dangling").symlink_to(place.root / "gone")
    place.out = place.root / ("file/a" if parent == "under a file" else parent) / "out"
    place.refused("is not a folder", "Choose another place")


def test_parent_of_out_may_not_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected, because root may write anywhere."""

    def denied(path: Path, *more: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", denied)
        ended = place.bake()
    one_message(ended, f"{place.out} cannot be written: Permission denied", "Choose another place")
    assert not place.out.parent.exists()


def test_name_of_out_is_too_long(place: Place) -> None:
    place.out = place.root / ("n" * 300)
    place.refused("File name too long", "Choose another place")


class Full(io.FileIO):
    """A file on a disk that is full after 10 kB."""

    left = 10_000

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if size > self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= size
        return super().write(data)


@contextmanager
def disk_that_fills() -> Iterator[None]:
    """In mid-write, after the check at the start, whatever way a file below a staging folder is opened."""
    path_open = Path.open

    def opened(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        return Full(path, mode) if ".partial-" in str(path) and "w" in mode else path_open(path, mode, *more, **options)

    with mock.patch.object(Path, "open", opened):
        yield


@pytest.mark.parametrize("how", ["write", "sync"])
@pytest.mark.parametrize("force", [False, True])
def test_disk_full_in_mid_write(place: Place, how: str, force: bool) -> None:
    if force:
        assert place.bake().code == 0
    before = tree(place.root)
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with disk_that_fills() if how == "write" else mock.patch("os.fsync", side_effect=error):
        ended = place.bake(*EDIT, *(["--force"] if force else []))
    one_message(ended, f"{place.out} cannot be written: No space left on device", "Nothing was kept", "Make room")
    assert tree(place.root) == before


def test_disk_full_is_said_at_the_start(place: Place) -> None:
    usage = shutil.disk_usage(place.root)._replace(free=16 * 2**20)
    with mock.patch("shutil.disk_usage", return_value=usage):
        place.refused("has 0.02 GB free", "the checkpoint needs", "Make room", "-o")


def test_disk_full_for_real(place: Place) -> None:
    """A small file system: too small at the start, and filled in mid-write while it said that it had room."""
    disk = place.root / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode().strip()}")
    try:
        place.out = disk / "a" / "out"
        place.refused("GB free", "Make room")
        with mock.patch("shutil.disk_usage", return_value=shutil.disk_usage(place.root)):
            place.refused("No space left on device", "Nothing was kept", "Make room")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_file_size_limit_in_mid_write(place: Place) -> None:
    """Refused by the system itself, without root."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        ended = place.bake()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    one_message(ended, "File too large", "Nothing was kept")
    assert not place.out.parent.exists()


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_base_that_changes_while_it_is_read(place: Place, change: str) -> None:
    def opened(source: Any) -> Any:
        found = open_target(source)
        if change == "gone":
            shard(place).unlink()
        else:
            os.truncate(shard(place), 1000)
        return found

    with mock.patch.object(target, "open_target", opened):
        ended = place.bake()
    one_message(ended, "became shorter" if change == "shorter" else "No such file", str(shard(place)))
    assert not place.out.parent.exists()
