"""monoglot chat: piped, with --prompt, and in a terminal of its own."""

import fcntl
import io
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monoglot.editor import embedded
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.live.chat import Conversation
from monoglot.editor.live.generate import continuations
from monoglot.editor.live.load import load_model
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

Run = Callable[..., tuple[int, str, str]]
PATIENCE = 60  # seconds for anything; loading torch on a busy machine takes long
SHORT = ("--tokens", "12", "--device", "cpu")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, planted: Any) -> Path:
    """The embedded model without English."""
    folder = tmp_path_factory.mktemp("chat") / "out"
    bake(open_target(resolve("embedded")), planted, Recipe(Base("embedded"), (Edit("en", "deactivate"),)), folder)
    return folder


@pytest.fixture(scope="module")
def expected(out: Path) -> Callable[[str, str], str]:
    """What a model writes after a prompt by `continuations`, which knows nothing of streaming."""
    loaded = {"base": embedded.MODEL, "out": out}
    models = {name: (load_model(folder, device="cpu"), load_tokenizer(folder)) for name, folder in loaded.items()}
    return lambda name, prompt: continuations(*models[name], [prompt], tokens=12)[0]


def test_prompts_on_the_command_line(monoglot: Run, expected: Any) -> None:
    code, answers, err = monoglot("chat", "embedded", *SHORT, "--prompt", "The sea", "--prompt", "La mer")
    assert code == 0, err
    assert answers == expected("base", "The sea") + "\n" + expected("base", "La mer") + "\n"
    assert "Loading" in err


def test_piped_beside_the_base(monoglot: Run, out: Path, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"The sea\n\n/help\n/base\nThe sea \n/nothing\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    code, answers, err = monoglot("chat", out, "--base", *SHORT)
    assert code == 0, err
    steered, base = expected("out", "The sea"), expected("base", "The sea")
    assert steered != base
    assert answers == f"out: {steered}\nbase: {base}\n{steered}\n"
    assert "/reset" in err and "There is no /nothing" in err and "Without the base." in err


def test_another_base_and_bytes_that_are_no_text(
    monoglot: Run, out: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="ascii"))
    code, answers, err = monoglot("chat", out, "--base", out, *SHORT)
    assert code == 0, err
    written = expected("out", "\ufffd")
    assert answers == f"out: {written}\nbase: {written}\n"
    assert "not the model that out was made from" in err


def test_nothing_that_a_model_writes_acts_on_the_terminal(monoglot: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(self: Conversation, prompt: str, piece: Any) -> str:
        piece("a\x1b]0;x\x07b\r\n\u202ec")
        return ""

    monkeypatch.setattr(Conversation, "reply", reply)
    assert monoglot("chat", "embedded", "--device", "cpu", "--prompt", "x")[:2] == (0, "a]0;xb\nc\n")


def test_what_cannot_be(monoglot: Run, tmp_path: Path) -> None:
    assert monoglot("chat", "embedded", "--seed", "1")[0] == 2
    assert monoglot("chat", "embedded", "--system", "x", "--no-template")[0] == 2
    code, _, err = monoglot("chat", "embedded", "--system", "x", "--prompt", "a")
    assert code == 1 and "no chat template" in err
    code, _, err = monoglot("chat", "embedded", "--base", "--prompt", "a")
    assert code == 1 and "not made by monoglot" in err and "Loading" not in err
    code, _, err = monoglot("chat", "embedded", "--device", "cpu", "--prompt", "a " * 600)
    assert code == 1 and "positions" in err


class Terminal:
    """The command in a pseudo-terminal of its own, whose signals it gets; `before` is run first in its process."""

    def __init__(self, *arguments: object, columns: int, before: str, errors: Path) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        code = f"import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{before}\n"
        code += "from monoglot.cli.main import main\nmain()"
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "chat", *map(str, arguments), "--device", "cpu"], stdin=slave, stdout=slave,
                stderr=file, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
            )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def until(self, pattern: str) -> str:
        """Read until it is seen; what was read, which is then used up."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen, re.S)):
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                pytest.fail(f"it ended before {pattern!r} came: {self.seen!r}")
        read, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return read

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: object, columns: int = 80, before: str = "") -> Terminal:
        opened.append(Terminal(*arguments, columns=columns, before=before, errors=tmp_path / "stderr"))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


SLOW = """
import time
from monoglot.editor.live import chat
put = chat._Written.put
chat._Written.put = lambda self, value: (put(self, value), time.sleep(0.5))
"""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.mark.slow
def test_a_conversation_in_a_terminal(terminal: Any, expected: Any, tmp_path: Path) -> None:
    """A prompt; another whose reply, which would take 200 seconds, is stopped; another; the end."""
    chat = terminal("embedded", "--tokens", "400", before=SLOW)
    chat.until("> ")
    chat.type("The sea\n")
    begun = expected("base", "The sea")[:4]
    chat.until(re.escape("The sea\r\n" + begun))
    with within(60):
        chat.type("\x03")
        chat.until("> ")
        assert "(stopped)" in (tmp_path / "stderr").read_text()
        chat.type("\x03")  # at the sign that asks for a prompt
        chat.until("> ")
        chat.type("La mer\n")
        chat.until(re.escape(expected("base", "La mer")[:4]))
        chat.type("\x03")
        chat.until("> ")
    chat.type("\x04")
    assert chat.process.wait(PATIENCE) == 0
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.slow
def test_two_replies_side_by_side(terminal: Any, out: Path, expected: Any) -> None:
    chat = terminal(out, "--base", "--tokens", "12", columns=160)
    chat.until("> ")
    chat.type("The sea\n")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", chat.until("> "))
    first = [expected(name, "The sea").split("\n")[0].strip() for name in ("out", "base")]
    assert re.search(rf"out +base.*{re.escape(first[0])} +{re.escape(first[1])}", shown, re.S), shown
    chat.type("\x04")
    assert chat.process.wait(PATIENCE) == 0
