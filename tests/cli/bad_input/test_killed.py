"""A bake that is killed or interrupted leaves nothing half done."""

import os
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest
from support.bad_input import EDIT, Place, one_message
from support.folders import tree

from monoglot.editor.edits import bake as baking

# Runs monoglot, and stops for good where it is told to, after it has said so.
SLOW = """
import hashlib, shutil, sys, time
from pathlib import Path

where, mark = sys.argv[1], Path(sys.argv[2])
sys.argv[1:3] = []

def stop():
    mark.write_text("here")
    time.sleep(120)

real, rename, rmtree = hashlib.sha256, Path.rename, shutil.rmtree

class Slow:
    def __init__(self, *data):
        self.digest = real(*data)
    def update(self, data):
        self.digest.update(data)
        if where == "write" and any(mark.parent.glob("place/.out.partial-*/model.safetensors")):
            stop()
    def __getattr__(self, name):
        return getattr(self.digest, name)

def slow_rename(path, target):
    moved = rename(path, target)
    if where == "between the renames" and str(target).endswith("-old"):
        stop()
    return moved

def slow_rmtree(path, *more, **options):
    if where == "before the old one is removed" and str(path).endswith("-old"):
        stop()
    return rmtree(path, *more, **options)

hashlib.sha256, Path.rename, shutil.rmtree = Slow, slow_rename, slow_rmtree
from monoglot.cli.main import main
main()
"""


def kill(place: Place, where: str, *options: str) -> None:
    """Run `bake` as a process and SIGKILL it at a place."""
    mark = place.root / "mark"
    mark.unlink(missing_ok=True)
    command = [sys.executable, "-c", SLOW, where, str(mark), "bake", str(place.model), str(place.neurons), *options]
    with subprocess.Popen([*command, "-o", str(place.out)], stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert running.poll() is None and time.monotonic() < deadline, running.stderr
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert running.returncode == -signal.SIGKILL


def beside(place: Place) -> list[str]:
    return sorted(path.name for path in place.out.parent.iterdir())


def test_killed_in_mid_write(place: Place) -> None:
    kill(place, "write", *EDIT)
    lock, left = beside(place)
    assert lock == ".out.lock" and left.startswith(".out.partial-")  # the destination is absent
    assert place.bake().code == 0
    assert beside(place) == ["out"]


@pytest.mark.slow
def test_killed_while_replacing(place: Place) -> None:
    """At each step the old one is at its place, or the place is empty and the next run finds the old one again."""
    assert place.bake().code == 0
    old = tree(place.out)
    kill(place, "write", "--deactivate", "zh", "--force")
    assert tree(place.out) == old
    kill(place, "between the renames", "--deactivate", "zh", "--force")
    assert not os.path.lexists(place.out)
    one_message(place.bake(), "exists", "--force")
    assert tree(place.out) == old and beside(place) == ["out"]
    kill(place, "before the old one is removed", "--deactivate", "zh", "--force")
    new = tree(place.out)
    lock, left, out = beside(place)
    assert new != old and (lock, out) == (".out.lock", "out") and left.endswith("-old")
    assert place.bake("--deactivate", "zh", "--force").code == 0
    assert tree(place.out) == new and beside(place) == ["out"]


def test_interrupted(place: Place) -> None:
    """Control-C: code 130, and nothing left at all."""
    with mock.patch.object(baking.manifest_made, "new", mock.Mock(side_effect=KeyboardInterrupt)):
        ended = place.bake()
    assert ended.code == 130 and "Interrupted" in ended.err
    assert not place.out.parent.exists()
