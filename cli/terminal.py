"""The only place that writes to the terminal. It makes text from any source safe to print.

Models, prompts, file names and language codes are foreign text: see `text.foreign`. What a terminal or file cannot show in
its encoding is replaced.
"""

import contextlib
import json
import os
import re
import shlex
import sys
import warnings
from typing import Any

import click

from ..editor.text.foreign import printable

UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def quoted(path: object) -> str:
    """Write a path or a name as a shell takes it, for a command that is suggested."""
    return shlex.quote(str(path))


def say(text: object = "", *, err: bool = False, nl: bool = True, color: str | None = None) -> None:
    """Print text, made safe; on stdout, or with `err` on stderr."""
    plain = printable(str(text))
    click.echo(click.style(plain, fg=color) if color else plain, err=err, nl=nl)


def say_json(data: Any) -> None:
    """Print data as JSON on stdout: characters that could act on a terminal, or that it cannot show, are escaped."""
    ascii_only = "utf" not in (getattr(sys.stdout, "encoding", None) or "utf").lower()
    text = json.dumps(data, indent=1, ensure_ascii=ascii_only)
    click.echo(UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def prepare() -> None:
    """Make the streams fit for any text, and take no other program's strictness: called once, before a command runs.

    A stream that is closed is replaced by one that swallows all. Warnings that the environment turns into errors
    (PYTHONWARNINGS=error) would end a command half way for the sake of a library's habits.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for as long as we run
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if sys.warnoptions:
        warnings.resetwarnings()
        warnings.simplefilter("ignore")


def swallow_output() -> None:
    """Send what is still to be written nowhere: its reader has gone."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without a file has nothing to be flushed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
