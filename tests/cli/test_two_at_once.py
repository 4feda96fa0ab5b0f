"""Two runs at one place: one wins and the other says so, and what is there is what one of them was asked for.

In PID namespaces of their own, where that is allowed, both are process 1 or 2, as in two containers that share a volume."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from support import tiny

from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import statistics
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import read_texts

Run = Callable[..., tuple[int, str, str]]
READ = {"tokens": 900, "context": 64}
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


@pytest.mark.parametrize("apart", [True, False], ids=["in containers", "as processes"])
def test_one_detects(tmp_path: Path, model: Path, apart: bool) -> None:
    """The statistics are of one run's text, and the one that lost says so before it has read anything."""
    inside = containers() if apart else []
    if apart and not inside:
        pytest.skip("PID namespaces are not allowed here")
    corpora = [tiny.save_corpus(tmp_path / f"texts-{repeats}", repeats=repeats) for repeats in (60, 70)]
    small = ("--tokens", "900", "--context", "64", "--minimum", "100", "--device", "cpu", "--languages", "en,fr")
    base = [sys.executable, "-m", "monoglot.cli", "detect", str(model), *small, "--corpus"]
    for number in range(ROUNDS):
        out = tmp_path / str(number) / "stats"
        running = [
            subprocess.Popen(
                [*inside, *base, str(corpus), "-o", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for corpus in corpora
        ]
        said = [one.communicate()[1].decode() for one in running]
        assert sorted(one.returncode for one in running) in ([0, 0], [0, 1]), said
        for one, text in zip(running, said, strict=True):
            if one.returncode:
                assert "another run is writing" in text or "exists" in text
                assert "Traceback" not in text
        made = statistics.load(out)
        target = open_target(resolve(str(model)))
        of = [
            {k: (one.sha256,) for k, one in read_texts(target, open_corpus([str(c)], ["en", "fr"]), **READ).items()}
            for c in corpora
        ]
        assert made.texts in [own for own, one in zip(of, running, strict=True) if one.returncode == 0]
        assert [path.name for path in out.parent.iterdir()] == ["stats"]


@pytest.mark.parametrize(
    "command",
    [
        ("detect", "{model}", "--corpus", "{corpus}", "--tokens", "900", "--context", "64", "--minimum", "100"),
        ("tokens", "{model}", "--corpus", "{corpus}", "--minimum", "100"),
        ("find", "{stats}", "--rate", "0.3", "--quantile", "0.5"),
        ("compare", "{stats}", "--methods", "lape,lave", "--rate", "0.3", "--quantile", "0.5"),
        ("evaluate", "{model}", "{neurons}", "--profile"),
    ],
    ids=lambda command: command[0],
)
def test_a_place_is_held_from_the_first_to_the_last(
    tmp_path: Path, model: Path, corpus: Path, neurons_file: Path, monoglot: Run, command: tuple[str, ...]
) -> None:
    """Whoever comes while another one works says so at once, and has done nothing; afterwards it works."""
    stats = tmp_path / "stats"
    small = ("--tokens", "900", "--context", "64", "--minimum", "100", "--device", "cpu")
    assert monoglot("detect", model, "--corpus", corpus, *small, "-o", stats)[0] == 0
    places = {"{model}": model, "{corpus}": corpus, "{stats}": stats, "{neurons}": neurons_file}
    out = tmp_path / "place" / "out"
    out.parent.mkdir()
    held = out / "evaluation.json" if command[0] == "evaluate" else out
    code = f"from monoglot.editor.files.output import claimed_file as c, Path\nwith c(Path({str(held)!r}), force=True):"
    code += "\n print(flush=True)\n input()"
    arguments = [str(places.get(part, part)) for part in command]
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == b"\n"
        began = None if command[0] == "evaluate" else AssertionError("it began to work")  # that opens its model first
        opened, loaded = "monoglot.editor.models.target.open_target", "monoglot.editor.statistics.statistics.load"
        with ExitStack() as stack:
            for name in (opened, loaded) if began else ():
                stack.enter_context(mock.patch(name, side_effect=began))
            ended, _, err = monoglot(*arguments, "-o", out)
        assert ended == 1 and f"another run is writing {held} now" in err and not held.exists(), err
        other.communicate(b"\n")
    ended, _, err = monoglot(*arguments, "-o", out)
    assert ended == 0 and held.is_file(), err


def test_what_was_measured_of_another_checkpoint_is_not_kept(tmp_path: Path, model: Path, neurons_file: Path) -> None:
    """Its place was taken while it was verified."""
    from monoglot.editor.edits import manifest, manifest_files
    from monoglot.editor.errors import VerificationError

    command = [sys.executable, "-m", "monoglot.cli", "bake", str(model), str(neurons_file), "-o", str(tmp_path / "out")]
    subprocess.run([*command, "--deactivate", "zh"], check=True, capture_output=True)
    before = manifest.read(tmp_path / "out")
    assert manifest_files.unchanged(tmp_path / "out", before) == before
    subprocess.run([*command, "--deactivate", "fr", "--force"], check=True, capture_output=True)
    with pytest.raises(VerificationError, match="was replaced by another checkpoint"):
        manifest_files.unchanged(tmp_path / "out", before)
