"""Runtimes in their processes: a stand-in for an environment, in which what goes wrong goes wrong."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.stand_in import READY, environment

from monoglot.editor.errors import RunError
from monoglot.editor.live.load import load_model
from monoglot.editor.runtimes import conformance, process

PROMPT = {"ids": [0, 7, 9], "text": "x"}


@pytest.mark.slow
def test_transformers_in_a_process_of_its_own_is_the_reference(model: Path) -> None:
    found = process.answer("transformers", model, [PROMPT], 6, python=sys.executable)
    reference = conformance.reference(load_model(model, device="cpu"), [0, 7, 9], 6)
    ((ids, logprobs),) = found.answers
    assert conformance.match(ids, logprobs, reference, 1e-4).agrees and len(ids) == len(reference)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            "print('ValueError: no such layer', file=sys.stderr); sys.exit(3)",
            "vllm 1.0 failed: ValueError: no such layer",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("sys.exit(3)", "it exited with 3 and said nothing"),
        ("print('all is well')", "all is well"),  # but it left no answers
        ("time.sleep(60)", "not done after 1 s. Allow more with `timeout`"),
    ],
)
def test_what_goes_wrong_there_is_told_here(model: Path, tmp_path: Path, answer: str, said: str) -> None:
    with pytest.raises(RunError, match=said):
        process.answer("vllm", model, [PROMPT], 4, python=environment(tmp_path, answer), timeout=1)


def test_nothing_of_a_runtime_that_hangs_is_left_running(model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    child = f"child = subprocess.Popen(['sleep', '60']); open({str(mark)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    with pytest.raises(RunError):
        process.answer("vllm", model, [PROMPT], 4, python=environment(tmp_path, child), timeout=2)
    assert gone(int(mark.read_text())), "it runs on"


def test_how_far_it_is_is_told(tmp_path: Path) -> None:
    answer = """
for _ in range(2):
    open(request["done"], "ab").write(b".")
    time.sleep(1.2)
json.dump("all", open(request["answers"], "w"))
"""
    heard: list[int] = []
    given = {"python": environment(tmp_path, answer), "told": heard.append}
    assert process.call("llama.cpp", "measure", {}, timeout=60, **given) == "all"
    assert set(heard) >= {1, 2} and heard == sorted(heard)
    with pytest.raises(RunError, match="not done after 1 s"):
        process.call("llama.cpp", "measure", {}, timeout=1, **given)


def test_nothing_runs_on_when_the_host_is_killed(tmp_path: Path) -> None:
    shutil.copytree(process.WORKER.parent, tmp_path / "runtimes")
    mark = tmp_path / "child"
    (tmp_path / "runtimes" / "transformers.py").write_text(
        "import pathlib, subprocess, time\n"
        "def hang(request):\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        f"    pathlib.Path({str(mark) + '.half'!r}).write_text(str(child.pid))\n"
        f"    pathlib.Path({str(mark) + '.half'!r}).rename({str(mark)!r})\n"
        "    time.sleep(60)\n"
    )
    host = f"""
from pathlib import Path
from monoglot.editor.runtimes import process
process.WORKER = Path({str(tmp_path / "runtimes" / "worker.py")!r})
process.probe = lambda *arguments: process.Installed("transformers", "1", (), "3")
process.call("transformers", "hang", {{}}, python={sys.executable!r})
"""
    running = subprocess.Popen([sys.executable, "-c", host])
    until = time.monotonic() + 60
    while not mark.exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    child = int(mark.read_text())
    assert not gone(child, 0.5)
    running.kill()  # nothing can be put away
    running.wait()
    assert gone(child), "it runs on"


def gone(pid: int, within: float = 10) -> bool:
    left = time.monotonic() + within
    while time.monotonic() < left:
        try:
            os.kill(pid, 0)
            with Path(f"/proc/{pid}/stat").open() as file:
                if file.read().split()[2] == "Z":  # ended, and nobody has asked for its code yet
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("probe", "lacking"),
    [({**READY, "version": None}, "mlx is not"), ({**READY, "missing": ["mlx-lm"]}, "mlx-lm is not")],
)
def test_a_runtime_that_is_not_there_is_missing_with_the_line_that_installs_it(
    tmp_path: Path, probe: object, lacking: str
) -> None:
    outcome = conformance.conform(
        process.probe("mlx", environment(tmp_path, "", probe)), tmp_path, tmp_path, (), noise=1e-3, ends=[]
    )
    assert outcome.verdict == "missing" and outcome.reason.startswith(lacking) and "pip install" in outcome.reason


@pytest.mark.slow
def test_a_crash_is_a_verdict_and_whether_the_base_runs_is_said(model: Path, tmp_path: Path) -> None:
    asked = conformance.Asked("xx", PROMPT, (conformance.Step(5, -1.0, {5: -1.0}),), (conformance.Step(6, -1.0, {}),))
    program = environment(
        tmp_path, "if request['folder'].endswith('out'): sys.exit('Error: lost')\nwrite([[[6], [-1.0]]])"
    )
    out, base = (shutil.copytree(model, tmp_path / name) for name in ("out", "base"))
    outcome = conformance.conform(process.probe("mlx", program), out, base, [asked], noise=1e-3, ends=[])
    assert (outcome.verdict, outcome.base_alike) == ("failed", True) and "Error: lost" in outcome.reason
    program = environment(tmp_path, "write([[[9], [-1.0]]])")
    outcome = conformance.conform(process.probe("mlx", program), out, base, [asked], noise=1e-3, ends=[])
    assert (outcome.verdict, outcome.base_alike) == ("different", False)
    program = environment(tmp_path, "write([[[6], [-1.0]]])")
    outcome = conformance.conform(process.probe("mlx", program), out, base, [asked], noise=1e-3, ends=[])
    assert (outcome.verdict, outcome.base_alike) == ("dropped", None)


def test_interpreters_are_for_all_or_for_one(tmp_path: Path) -> None:
    program = environment(tmp_path, "")
    found = process.interpreters([f"llamacpp={program}"])
    assert process.python_for("llama.cpp", found) == program and process.python_for("mlx", found) == sys.executable
    assert process.python_for("mlx", process.interpreters([program])) == program
    for wrong, said in (
        (tmp_path / "none", "no Python at"),
        (f"word2vec={program}", "no runtime 'word2vec'. Known: tr"),
    ):
        with pytest.raises(RunError, match=said):
            process.interpreters([str(wrong)])
    with pytest.raises(RunError, match="does not run as a Python"):
        process.probe("mlx", environment(tmp_path, "", "x").replace("python", "absent"))


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("loading\nValueError: no such layer\nbye\n", "ValueError: no such layer"),
        ("loading\nit is over\n", "it is over"),
        ("", "it exited with 3 and said nothing"),
        (
            'Traceback (most recent call last):\n  File "/x/conversion/qwen.py", line 7, in set_vocab\n    assert known\n'
            "AssertionError\n",
            "AssertionError at assert known (qwen.py, line 7, in set_vocab)",
        ),
        ("KeyError\n", "KeyError"),
    ],
)
def test_what_a_log_says_of_an_end(tmp_path: Path, log: str, said: str) -> None:
    (tmp_path / "log").write_text(log)
    assert process.reason(3, tmp_path / "log") == said
    assert process.reason(-9, tmp_path / "log") == "it was ended by SIGKILL."
