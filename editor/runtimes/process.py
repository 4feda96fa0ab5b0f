"""The host's side of a runtime: the runtime runs in a process and a Python environment of its own.

Its pinned versions do not conflict with monoglot's. It is given a folder without code and an environment without secrets
(see `apart`). When it crashes, hangs or runs out of memory, that is an outcome like
any other.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LateError, RunError
from . import apart
from .adapters import ALIASES, NAMES, Prompt, module

WORKER = Path(__file__).with_name("adapters") / "worker.py"
PROBE = 60  # seconds
TIMEOUT = 900  # seconds for loading, converting and answering
LOOK = 0.5  # seconds between looks at how far it is
LOG = 64 * 1024  # bytes of its output that are looked through for a reason


@dataclass(frozen=True)
class Installed:
    """A runtime in the environment of the interpreter `python`.

    `version` is None where the runtime is not there; what else it needs and what is missing stand beside it.
    """

    name: str
    version: str | None
    missing: tuple[str, ...]
    python: str

    @property
    def ready(self) -> bool:
        return self.version is not None and not self.missing

    @property
    def lacking(self) -> tuple[str, ...]:
        return self.missing if self.version else (self.name, *self.missing)

    @property
    def install(self) -> str:
        return str(module(self.name).INSTALL)

    @property
    def advice(self) -> str:
        """Say what is missing, and how to install it."""
        return (
            f"{', '.join(self.lacking)} is not installed for {self.python}. {self.install}, in any environment, and name its "
            f"interpreter: `python` {self.name}=PATH."
        )


@dataclass(frozen=True)
class Answered:
    """The answers to the prompts, in order: token ids and their log-probabilities.

    A log-probability is None where the runtime does not tell it."""

    version: str
    answers: tuple[tuple[list[int], list[float | None]], ...]


def known(name: str) -> str:
    """Return a runtime's name as it is written here. Raises RunError for an unknown name."""
    found = ALIASES.get(name.lower(), name.lower())
    if found not in NAMES:
        raise RunError(f"there is no runtime {name!r}. Known: {', '.join(NAMES)}.")
    return found


def interpreters(given: Sequence[str]) -> dict[str | None, str]:
    """Read which Python runs which runtime, from `PATH` or `NAME=PATH`.

    The key None stands for all runtimes without a Python of their own.

    Raises RunError for a name that is not known and for a path that is no program.
    """
    found: dict[str | None, str] = {None: sys.executable}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals:
            name, path = "", one
        program = Path(path).expanduser()
        if not program.is_file() or not os.access(program, os.X_OK):
            raise RunError(f"there is no Python at {path}. Give the interpreter itself, for example env/bin/python.")
        # not resolved: a virtual environment's interpreter is a link, and known by where the link lies
        found[known(name) if name else None] = str(program.absolute())
    return found


def python_for(name: str, pythons: Mapping[str | None, str]) -> str:
    return pythons.get(name, pythons[None])


def probe(name: str, python: str) -> Installed:
    """Find out what of a runtime is installed where `python` looks. Raises RunError when that interpreter doesn't run."""
    try:
        with tempfile.TemporaryDirectory(prefix="monoglot-") as scratch:
            done = subprocess.run(
                [python, "-I", str(WORKER), "probe", name],
                capture_output=True,
                text=True,
                timeout=PROBE,
                stdin=subprocess.DEVNULL,
                env=apart.environment(Path(scratch)),
            )
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise RunError(f"{python} does not run as a Python interpreter: {str(error).splitlines()[0]}.") from None
    return Installed(name, found["version"], tuple(found["missing"]), python)


def answer(
    name: str, folder: Path, prompts: Sequence[Prompt], tokens: int, *, python: str, timeout: float = TIMEOUT
) -> Answered:
    """Return at most `tokens` new tokens after each prompt, greedily, in float32. Raises RunError with the reason."""
    request = {"folder": str(folder.absolute()), "prompts": list(prompts), "tokens": tokens}
    made = _work("answer", name, request, python, timeout)
    return Answered(str(made["version"]), tuple((list(ids), logprobs) for ids, logprobs in made["answers"]))


def call(
    name: str,
    function: str,
    request: Mapping[str, Any],
    *,
    python: str,
    timeout: float = TIMEOUT,
    told: Callable[[int], None] | None = None,
    growing: Path | None = None,
) -> Any:
    """Call a function of a runtime's module with a request that JSON can hold, and return its answer.

    `told` hears how many prompts are done, or, where a file is `growing`, how many bytes it has. Raises RunError with the
    reason.
    """
    return _work("call", name, {**request, "function": function}, python, timeout, told, growing)


def _work(
    what: str,
    name: str,
    request: Mapping[str, Any],
    python: str,
    timeout: float,
    told: Callable[[int], None] | None = None,
    growing: Path | None = None,
) -> Any:
    installed = probe(name, python)
    if not installed.ready:
        raise RunError(installed.advice)
    with tempfile.TemporaryDirectory(prefix="monoglot-") as scratch:
        answers, log, asked, done = (Path(scratch) / name for name in ("answers.json", "log", "request.json", "done"))
        places = {"scratch": scratch, "answers": str(answers), "done": str(done)}
        if "folder" in request:
            folder = Path(request["folder"])
            places["folder"] = str(apart.view(folder, Path(scratch, "model", folder.resolve().name or "model")))
        asked.write_text(json.dumps({**request, "runtime": name, **places}))
        with log.open("wb") as output, lifeline() as fd:
            worker = subprocess.Popen(
                [python, "-I", str(WORKER), what, str(asked), str(fd)], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd=scratch, start_new_session=True, pass_fds=(fd,),
                env=apart.environment(Path(scratch)),
            )  # fmt: skip
            try:
                code = _wait(worker, timeout, growing or done, told)
            except subprocess.TimeoutExpired:
                raise LateError(f"{name} was not done after {timeout:.0f} s. Allow more with `timeout`.") from None
            finally:
                end(worker)
        if code or not answers.is_file():
            raise RunError(f"{name} {installed.version} failed: {reason(code, log)}")
        return json.loads(answers.read_text())


def _wait(worker: "subprocess.Popen[bytes]", timeout: float, done: Path, told: Callable[[int], None] | None) -> int:
    """Wait for the worker and return its exit code. The file `done` has a byte for each prompt, or byte, that is done."""
    until, code = time.monotonic() + timeout, None
    while code is None:
        try:
            code = worker.wait(min(LOOK, max(0.0, until - time.monotonic())) if told else timeout)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= until:
                raise
        if told and done.is_file():
            told(done.stat().st_size)
    return code


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """Yield the reading end of a pipe that closes however this process ends, as it alone holds the other end."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


def end(worker: "subprocess.Popen[bytes]") -> None:
    """End the worker and whatever it started: runtimes leave servers and engines behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def reason(code: int, log: Path) -> str:
    """Return the last line of the log that speaks of an error, or else the last line."""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}."
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line.split(":")[0] or "xception" in line.split(":")[0]]
    said = (telling or lines or [f"it exited with {code} and said nothing"])[-1]
    if telling and re.fullmatch(r"[\w.]+", said):  # an error without a word: where it was says more
        before = lines[: len(lines) - lines[::-1].index(said) - 1]
        place = [line for line in before if line.startswith('File "')]
        if place:
            said = f"{said} at {before[-1]} ({place[-1].rpartition('/')[2].replace(chr(34), '')})"
    return "".join(one for one in said if one.isprintable())[:300]
