"""One writer at a place: another process, a killed one, another thread, and links in the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.folders import tree

from monoglot.editor.errors import OutputError
from monoglot.editor.files import lock
from monoglot.editor.files.lock import holding, lock_of
from monoglot.editor.files.output import replace_file, staged_folder
from monoglot.editor.files.together import updating

HOLDS = """
import sys, time
from pathlib import Path
from monoglot.editor.files.lock import holding
with holding(Path(sys.argv[1])) as certain:
    print(certain, flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def another_process(path: Path, seconds: float = 60) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that holds `path`; killed at the end."""
    command = [sys.executable, "-c", HOLDS, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"True\n"
        try:
            yield running
        finally:
            running.kill()


def test_a_second_process_is_refused_and_leaves_everything_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    staging = tmp_path / ".out.partial-0123456789abcdef"
    staging.mkdir()
    with another_process(out):
        with pytest.raises(OutputError, match=r"another run is writing .*out now. Wait"), staged_folder(out, size=1):
            raise AssertionError("two write to one place")
        assert staging.is_dir()  # it may be the live run's
    with staged_folder(out, size=1) as made:
        (made / "weights").write_text("x")
    assert tree(tmp_path) == {"out": "/", "out/weights": b"x"}


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with another_process(tmp_path / "out") as running:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert tree(tmp_path) == {".out.lock": b""}
    with holding(tmp_path / "out") as certain:
        assert certain
    assert tree(tmp_path) == {}


def test_a_file_waits_for_who_writes_it(tmp_path: Path) -> None:
    with another_process(tmp_path / "file", seconds=0.5):
        began = time.monotonic()
        replace_file(tmp_path / "file", b"x")
        assert time.monotonic() - began > 0.2
    assert tree(tmp_path) == {"file": b"x"}


def test_of_two_that_wait_one_is_first(tmp_path: Path) -> None:
    """Each reads a number and writes it one higher, as `verify` and `evaluate` do with a manifest."""
    path = tmp_path / "monoglot.json"
    path.write_text("0")
    code = """
import sys
from pathlib import Path
from monoglot.editor.files.output import replace_file
from monoglot.editor.files.together import updating
folder = Path(sys.argv[1])
for _ in range(50):
    with updating(folder):
        found = int((folder / "monoglot.json").read_text())
        replace_file(folder / "monoglot.json", str(found + 1).encode())
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert tree(tmp_path) == {"monoglot.json": b"150"}


def test_a_thread_may_hold_a_place_twice_and_another_may_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with holding(tmp_path / "out"):
                pass
        except OutputError as error:
            refused.append(str(error))

    with holding(tmp_path / "out"), holding(tmp_path / "." / "out") as certain:
        assert certain
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with updating(tmp_path):
        replace_file(tmp_path / "monoglot.json", b"{}")
    assert tree(tmp_path) == {"monoglot.json": b"{}"}


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_what_lies_where_the_lock_is_made_is_not_followed(tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    there = lock_of(tmp_path / "file")
    if kind.endswith("link"):
        there.symlink_to(precious if kind == "link" else tmp_path / "gone")
    elif kind == "folder":
        there.mkdir()
    else:
        os.mkfifo(there)
    with pytest.raises(OutputError, match="cannot be written"):
        replace_file(tmp_path / "file", b"y")
    assert precious.read_text() == "x" and not (tmp_path / "gone").exists() and not (tmp_path / "file").exists()


def test_without_locks_left_overs_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none: nobody knows whether the other run lives."""
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / ".file.partial-0123456789abcdef").write_text("another run's")
    replace_file(tmp_path / "file", b"x")
    assert (tmp_path / ".file.partial-0123456789abcdef").read_text() == "another run's"
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_lock_that_was_removed_meanwhile_locks_nobody_out(tmp_path: Path) -> None:
    """Who waits has the old file open; it is the new one that counts."""
    for _ in range(3):
        code = HOLDS.replace("with holding(Path(sys.argv[1]))", "with holding(Path(sys.argv[1]), wait=30)")
        with another_process(tmp_path / "out", seconds=0.2):
            command = [sys.executable, "-c", code, str(tmp_path / "out"), "0.2"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as second:
                assert second.stdout is not None and second.stdout.readline() == b"True\n"
                with pytest.raises(OutputError, match="another run"), holding(tmp_path / "out"):
                    pass
    assert tree(tmp_path) == {}
