"""Two runs at one place: one wins and the other says so, and what is there is what one of them was asked for.

In PID namespaces of their own, where that is allowed, both are process 1 or 2, as in two containers that share a volume."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc"]


def containers() -> list[str]:
    """How to start a process in a PID namespace of its own, or nothing where that is not allowed."""
    try:
        allowed = subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0
    except OSError:
        allowed = False
    return CONTAINER if allowed else []


@pytest.mark.parametrize("apart", [True, False], ids=["in containers", "as processes"])
@pytest.mark.parametrize("force", [True, False])
def test_one_wins(tmp_path: Path, model: Path, neurons_file: Path, apart: bool, force: bool) -> None:
    inside = containers() if apart else []
    if apart and not inside:
        pytest.skip("PID namespaces are not allowed here")
    base = [sys.executable, "-m", "monoglot.cli", "bake", str(model), str(neurons_file), "--deactivate"]
    for number in range(ROUNDS):
        out = tmp_path / str(number) / "out"
        more = ["-o", str(out), *["--force"] * force]
        running = [
            subprocess.Popen([*inside, *base, language, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for language in ("zh", "fr")
        ]
        said = [one.communicate()[1].decode() for one in running]
        assert 0 in [one.returncode for one in running], said
        for one, text in zip(running, said, strict=True):
            if one.returncode:
                assert "another run is writing" in text or "exists" in text
                assert "Traceback" not in text
            else:
                assert "Wrote" in text
        record = json.loads((out / "monoglot.json").read_text())
        for name, entry in record["files"].items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"], name
        winners = [language for language, one in zip(("zh", "fr"), running, strict=True) if one.returncode == 0]
        assert record["recipe"]["edits"][0]["language"] in winners
        assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_what_was_measured_of_another_checkpoint_is_not_kept(tmp_path: Path, model: Path, neurons_file: Path) -> None:
    """Its place was taken while it was verified."""
    from monoglot.editor.edits import manifest
    from monoglot.editor.errors import VerificationError

    command = [sys.executable, "-m", "monoglot.cli", "bake", str(model), str(neurons_file), "-o", str(tmp_path / "out")]
    subprocess.run([*command, "--deactivate", "zh"], check=True, capture_output=True)
    before = manifest.read(tmp_path / "out")
    assert manifest.unchanged(tmp_path / "out", before) == before
    subprocess.run([*command, "--deactivate", "fr", "--force"], check=True, capture_output=True)
    with pytest.raises(VerificationError, match="was replaced by another checkpoint"):
        manifest.unchanged(tmp_path / "out", before)
