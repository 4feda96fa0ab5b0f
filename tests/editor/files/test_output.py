"""All or nothing: whatever happens, the destination is absent, or whole, or what it was."""

import errno
import hashlib
import json
import os
import re
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
from monoglot.editor.files import staging as on_its_way
from monoglot.editor.files.output import replace_file, staged_folder
from monoglot.editor.files.together import finish_pending, replace_together

MANIFEST = "monoglot.json"
ONE, TWO = "0123456789abcdef", "fedcba9876543210"  # random parts of names


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

    for module in (output, on_its_way):
        monkeypatch.setattr(module, "sync_folder", synced)
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
        if re.search(r"\.partial-[0-9a-f]{16}$", path.name):
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
    for name in (f".out.partial-{ONE}", f".out.partial-{TWO}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    (tmp_path / f".neurons.json.partial-{ONE}").write_text("half")
    for name in (".out.lock", ".neurons.json.lock"):
        (tmp_path / name).touch()
    put(tmp_path / "out", "new")
    replace_file(tmp_path / "neurons.json", b"{}")
    assert tree(tmp_path) == {"neurons.json": b"{}", "out": "/", "out/weights": b"new", f"out/{MANIFEST}": b"{}"}


def test_other_runs_are_left_alone(tmp_path: Path) -> None:
    """Those that are alive, those for another destination, and what only looks like one."""
    dead = dead_process()
    others = [
        f".out.partial-{os.getppid()}",
        f".o?t.partial-{ONE}",
        ".out.partial-",
        ".out.partial-x",
        ".out.partial-1-x",
        f".out.partial-{dead}",
        f".out.partial-{ONE}0",
        ".out.partial-99999999999999999999",
    ]
    others += [f".out2.partial-{ONE}", f".out.partial-{ONE}-old-x"]
    for name in others:
        (tmp_path / name).mkdir()
    put(tmp_path / "out", "new")
    put(tmp_path / "o*t", "new")
    assert {path.name for path in tmp_path.iterdir()} == {*others, "out", "o*t"}


@pytest.mark.parametrize("old", [ONE, "1", pytest.param(str(os.getpid()), id="ours")])  # once named by process number
def test_a_replaced_checkpoint_goes_back_when_its_place_is_empty(tmp_path: Path, old: str) -> None:
    """Killed between the two renames of --force: the next run first puts the old one back, so nothing is ever lost."""
    put(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / f".out.partial-{old}-old")
    (tmp_path / f".out.partial-{TWO}").mkdir()
    with pytest.raises(OutputError, match=r"exists.*it is back at its place"):
        put(tmp_path / "out", "new")
    assert tree(tmp_path) == {"out": "/", "out/weights": b"old", f"out/{MANIFEST}": b"{}"}
    shutil.copytree(tmp_path / "out", tmp_path / f".out.partial-{ONE}-old")  # killed after the second rename
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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_what_is_replaced_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    replace_file(path, b"new")
    put(tmp_path / "out", "old")
    (tmp_path / "out").chmod(0o750)
    put(tmp_path / "out", "new", force=True)
    assert path.stat().st_mode & 0o777 == mode and (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_links_under_every_name_that_could_be_guessed_are_not_followed(tmp_path: Path) -> None:
    """A checkpoint from anywhere may hold any file, also one with the name that this process would have used once."""
    precious = tmp_path / "precious"
    precious.write_text("x")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for number in (os.getpid(), ONE, TWO):
        (folder / f".{MANIFEST}.partial-{number}").symlink_to(precious)
    (folder / MANIFEST).symlink_to(precious)
    replace_file(folder / MANIFEST, b"{}")
    assert precious.read_text() == "x" and not (folder / MANIFEST).is_symlink()


# Files that change together


def staged_by_a_killed_run(folder: Path, files: dict[str, bytes], moved: int) -> None:
    """As `replace_together` leaves a folder when it is killed after so many renames, by what its docstring says."""
    journal = {}
    for number, (name, data) in enumerate(files.items()):
        path = folder / name
        staged = path.with_name(f".{path.name}.partial-{number:016x}")
        (path if number < moved else staged).write_bytes(data)
        journal[name] = {"staged": staged.name, "sha256": hashlib.sha256(data).hexdigest()}
    (folder / f".{MANIFEST}.pending").write_text(json.dumps({"format": 1, "files": journal}))


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
@pytest.mark.parametrize("by", ["reading", "writing"])
def test_what_must_change_together_is_finished_by_the_next_run(tmp_path: Path, moved: int, by: str) -> None:
    new = {"README.md": b"new card", "figures/one.png": b"new figure", MANIFEST: b"new manifest"}
    (tmp_path / "figures").mkdir()
    for name in new:
        (tmp_path / name).write_bytes(b"old")
    staged_by_a_killed_run(tmp_path, new, moved)
    if by == "reading":
        finish_pending(tmp_path)
    else:
        replace_together(tmp_path, {"README.md": b"newer"})
        new["README.md"] = b"newer"
    assert tree(tmp_path) == {"figures": "/", **new}


@pytest.mark.slow
def test_killed_at_every_rename_all_or_none_have_changed(tmp_path: Path) -> None:
    """Really killed, by SIGKILL, at each call that changes a name."""
    code = """
import os, signal, sys
from pathlib import Path
from monoglot.editor.files.together import replace_together
at, calls = int(sys.argv[2]), 0
def counted(real):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
Path.replace, Path.unlink, os.fsync = counted(Path.replace), counted(Path.unlink), counted(os.fsync)
replace_together(Path(sys.argv[1]), {"README.md": b"new", "monoglot.json": b"new"})
"""
    seen = set()
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        for name in ("README.md", MANIFEST):
            (folder / name).write_bytes(b"old")
        ended = subprocess.run([sys.executable, "-c", code, str(folder), str(at)]).returncode
        finish_pending(folder)
        after = {(folder / name).read_bytes() for name in ("README.md", MANIFEST)}
        assert len(after) == 1, f"killed at call {at}"
        seen |= after
        replace_together(folder, {"README.md": b"newer", MANIFEST: b"newer"})
        assert tree(folder) == {"README.md": b"newer", MANIFEST: b"newer"}, f"killed at call {at}"
        if ended == 0:
            break
    assert ended == 0 and at > 8 and seen == {b"old", b"new"}


@pytest.mark.parametrize(
    "journal",
    [
        "", "[]", "{}", '{"files": 3}', '{"files": {"../x": {"staged": ".x.partial-0123456789abcdef", "sha256": ""}}}',
        '{"files": {"x": {"staged": "precious", "sha256": ""}}}', '{"files": {"x": {}}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_journal_that_is_none_changes_nothing(tmp_path: Path, journal: str) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("precious", ".x.partial-0123456789abcdef"):
        (tmp_path / name).write_text("x")
        (folder / name).write_text("x")
    (folder / f".{MANIFEST}.pending").write_text(journal)
    try:
        finish_pending(folder)
    except OutputError as error:
        assert "damaged or hostile" in str(error)
    assert not (folder / "x").exists() and not (tmp_path / "x").exists()
    assert (folder / "precious").read_text() == (tmp_path / ".x.partial-0123456789abcdef").read_text() == "x"


def test_what_is_written_stays_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="figures is a link"):
        replace_together(tmp_path / "out", {"figures/one.png": b"x"})
    assert tree(tmp_path / "elsewhere") == {}
