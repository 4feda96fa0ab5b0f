"""All or nothing: whatever happens, the destination is absent, or whole, or what it was."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.folders import tree

from monoglot.editor.errors import OutputError
from monoglot.editor.files import output
from monoglot.editor.files.output import replace_file, staged_folder

MANIFEST = "monoglot.json"


def put(destination: Path, text: str, *, size: int = 10, force: bool = False) -> None:
    with staged_folder(destination, size=size, force=force) as staging:
        assert staging.parent == destination.absolute().parent
        (staging / "weights").write_text(text)
        (staging / MANIFEST).write_text("{}")


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[None]:
    """A real, small or read-only, file system; skips where the user may not mount one."""
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or not mount or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_absent_until_the_end(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    with staged_folder(out, size=10) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "file").write_text("x")
        assert not out.exists()
    assert tree(tmp_path) == {"a": "/", "a/b": "/", "a/b/out": "/", "a/b/out/sub": "/", "a/b/out/sub/file": b"x"}


def test_everything_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def synced(folder: Path) -> None:
        order.append(folder.name.partition(".partial")[0])

    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        order.append(f"rename to {target.name}")
        return rename(path, target)

    monkeypatch.setattr(output, "_sync_folder", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    with staged_folder(tmp_path / "out", size=10) as staging:
        (staging / "sub").mkdir()
    assert order == [".out", "sub", "rename to out", tmp_path.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), staged_folder(tmp_path / "a" / "b" / "out", size=10) as staging:
        (staging / "half").write_text("x")
        raise error
    assert tree(tmp_path) == {}


def test_folders_that_were_there_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError), staged_folder(tmp_path / "a" / "b" / "out", size=10):
        raise ValueError
    assert tree(tmp_path) == {"a": "/"}


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "link", "dangling link", "loop"])
@pytest.mark.parametrize("force", [False, True])
def test_what_exists_is_not_touched(tmp_path: Path, kind: str, force: bool) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    if kind == "file":
        out.write_text("precious")
    elif kind.endswith("folder"):
        out.mkdir()
        if kind == "folder":
            (out / "precious").write_text("x")
    else:
        out.symlink_to({"link": other, "dangling link": tmp_path / "gone", "loop": out}[kind])
    before = tree(tmp_path)
    if kind == "empty folder" and force:
        put(out, "new", force=True)
        assert (out / "weights").read_text() == "new"
        return
    with pytest.raises(OutputError, match="Choose another place"):
        put(out, "new", force=force)
    assert tree(tmp_path) == before


def test_force_replaces_a_checkpoint(tmp_path: Path) -> None:
    put(tmp_path / "out", "old")
    put(tmp_path / "out", "new", force=True)
    assert tree(tmp_path) == {"out": "/", "out/weights": b"new", f"out/{MANIFEST}": b"{}"}


def test_force_keeps_the_old_one_when_the_new_one_fails(tmp_path: Path) -> None:
    put(tmp_path / "out", "old")
    before = tree(tmp_path)
    with pytest.raises(ValueError), staged_folder(tmp_path / "out", size=10, force=True) as staging:
        (staging / "weights").write_text("new")
        raise ValueError
    assert tree(tmp_path) == before


def test_force_puts_the_old_one_back_when_the_new_one_cannot_move_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "out", "old")
    before = tree(tmp_path)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(f".partial-{os.getpid()}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        put(tmp_path / "out", "new", force=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_what_comes_into_the_way_meanwhile_is_not_replaced(tmp_path: Path, force: bool) -> None:
    """Another run, or a person, was faster; with --force it is replaced only if it is monoglot's."""
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"exists|not made by monoglot"), staged_folder(out, size=10, force=force):
        out.mkdir()
        (out / "precious").write_text("x")
    assert tree(tmp_path) == {"out": "/", "out/precious": b"x"}


def test_left_overs_of_killed_runs_are_removed(tmp_path: Path) -> None:
    dead = dead_process()
    for name in (f".out.partial-{dead}", f".out.partial-{os.getpid()}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    (tmp_path / f".neurons.json.partial-{dead}").write_text("half")
    put(tmp_path / "out", "new")
    replace_file(tmp_path / "neurons.json", b"{}")
    assert tree(tmp_path) == {"neurons.json": b"{}", "out": "/", "out/weights": b"new", f"out/{MANIFEST}": b"{}"}


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    """Those that are alive, those for another destination, and what only looks like one."""
    dead = dead_process()
    others = [
        f".out.partial-{os.getppid()}",
        f".o?t.partial-{dead}",
        ".out.partial-",
        ".out.partial-x",
        ".out.partial-1-x",
    ]
    others += [f".out2.partial-{dead}", f".out.partial-{dead}-old-x"]
    for name in others:
        (tmp_path / name).mkdir()
    put(tmp_path / "out", "new")
    put(tmp_path / "o*t", "new")
    assert {path.name for path in tmp_path.iterdir()} == {*others, "out", "o*t"}


def test_a_replaced_checkpoint_goes_back_when_its_place_is_empty(tmp_path: Path) -> None:
    """Killed between the two renames of --force: the next run first puts the old one back, so nothing is ever lost."""
    dead = dead_process()
    put(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / f".out.partial-{dead}-old")
    (tmp_path / f".out.partial-{dead}").mkdir()
    with pytest.raises(OutputError, match="exists"):
        put(tmp_path / "out", "new")
    assert tree(tmp_path) == {"out": "/", "out/weights": b"old", f"out/{MANIFEST}": b"{}"}
    shutil.copytree(tmp_path / "out", tmp_path / f".out.partial-{dead}-old")  # killed after the second rename
    put(tmp_path / "out", "new", force=True)
    assert tree(tmp_path) == {"out": "/", "out/weights": b"new", f"out/{MANIFEST}": b"{}"}


def test_disk_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"GB free, the checkpoint needs 1000000\.02 GB. Make room"):
        put(tmp_path / "a" / "out", "new", size=10**15)
    assert tree(tmp_path) == {}


def test_disk_too_small_on_a_real_file_system(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "size=4m"):
        with pytest.raises(OutputError, match=r"0\.00 GB free, the checkpoint needs 0\.02 GB"):
            put(tmp_path / "disk" / "a" / "out", "new")
        assert tree(tmp_path / "disk") == {}


def test_disk_full_in_mid_write_on_a_real_file_system(tmp_path: Path) -> None:
    """Another program took the room that was free at the start."""
    with file_system(tmp_path / "disk", "size=20m"):
        with (
            pytest.raises(OutputError, match=r"No space left on device. Nothing was kept. Make room"),
            staged_folder(tmp_path / "disk" / "out", size=10) as staging,
        ):
            (staging / "weights").write_bytes(bytes(21 * 2**20))
        assert tree(tmp_path / "disk") == {}


def test_read_only_file_system(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "ro,size=40m"):
        for place in ("out", "a/b/out"):
            with pytest.raises(OutputError, match=r"Read-only file system. Nothing was kept. Choose another place"):
                put(tmp_path / "disk" / place, "new", size=0)
        with pytest.raises(OutputError, match="Read-only file system"):
            replace_file(tmp_path / "disk" / "file", b"x")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_of_the_file_system_in_mid_write(tmp_path: Path, code: int) -> None:
    with pytest.raises(OutputError, match=os.strerror(code)), staged_folder(tmp_path / "out", size=10) as staging:
        (staging / "half").write_text("x")
        raise OSError(code, os.strerror(code))
    assert tree(tmp_path) == {}


def test_a_real_limit_in_mid_write(tmp_path: Path) -> None:
    """The system refuses to write more than 1000 bytes to a file: needs neither root nor a small disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError, match="File too large"), staged_folder(tmp_path / "out", size=10) as staging:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            (staging / "weights").write_bytes(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tree(tmp_path) == {}


def test_an_error_about_another_file_names_it(tmp_path: Path) -> None:
    gone = tmp_path / "base" / "model.safetensors"
    with pytest.raises(OutputError, match=f"{gone}: No such file"), staged_folder(tmp_path / "x" / "out", size=10):
        gone.read_bytes()


def test_parent_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected, because root may write anywhere."""

    def denied(path: Path, *more: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    for place in ("out", "a/out"):
        with pytest.raises(OutputError, match=r"Permission denied. Nothing was kept. Choose another place"):
            put(tmp_path / place, "new")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_parent_that_may_not_be_written_for_real(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        put(tmp_path / "closed" / "out", "new")


@pytest.mark.parametrize("place", ["file/out", "file/a/out", "dangling/out"])
def test_parent_that_is_no_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match=r"(file|dangling) is not a folder, so .* can't be made"):
        put(tmp_path / place, "new")
    assert tree(tmp_path) == {"file": b"x", "dangling": f"-> {tmp_path / 'gone'}"}


def test_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        put(tmp_path / ("n" * 300), "new")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("place", [".", "..", "", "x/..", "/"])
def test_places_without_a_name_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "in" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in")
    before = tree(tmp_path)
    for force in (False, True):
        with pytest.raises(OutputError, match=r"exists|was not made by monoglot"):
            put(Path(place), "new", force=force)
    with pytest.raises(OutputError, match="is a folder"):
        replace_file(Path(place), b"x")
    assert tree(tmp_path) == before


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sub" / "file"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert tree(tmp_path) == {"sub": "/", "sub/file": b"new"}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"No space left on device. Nothing was kept. Make room"):
            replace_file(path, b"newer")
    assert tree(tmp_path) == {"sub": "/", "sub/file": b"new"}
    with pytest.raises(OutputError, match="is a folder"):
        replace_file(tmp_path / "sub", b"x")
    with pytest.raises(OutputError, match=r"(Not a directory|File exists)"):
        replace_file(path / "below", b"x")
