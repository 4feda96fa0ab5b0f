"""What the commands share: options, progress on stderr, tables and JSON on stdout."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..editor.text.foreign import printable
from .terminal import say, say_json

if TYPE_CHECKING:
    from ..cards.words.table import Table
    from ..editor.progress import Listener, Progress


ARGUMENT = re.compile(r"`([a-z_]+(?:=False)?)`")
ARGUMENTS = """
above_tolerance activate aligned base base_engine base_here base_served batch_size budget calibrate calibration
carrier chat context corpus create_pr deactivate device device_map dtype engine except_chars fast force hold judge
judge_model languages layers lean lose max_rank memory model neurons_of op outputs point private prompts public python
quantile quantizer quieten rate readers redirect revision scale scratch served shared silence silence_file spare stream
strength system tag tensor_parallel threshold timeout tokens tolerance tuned untie unverified value vector work
"""
OPTIONS = {  # what the library's messages call by the names of its arguments -> the options
    **{name: f"--{name.replace('_', '-')}" for name in ARGUMENTS.split()},
    "template=False": "--no-template",
    "form": "--as",
}


def as_options(message: str) -> str:
    """Put the options of the command line in place of the arguments that a message of the library names."""
    return ARGUMENT.sub(lambda found: OPTIONS.get(found[1], found[0]), message)


def note(text: str) -> None:
    """Print a line on stderr."""
    say(as_options(text), err=True)


def answer(data: object) -> None:
    """Print the answer as JSON on stdout."""
    say_json(data)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; the first column is text, the others are figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(value: object) -> Text:  # not a string, in which brackets would be markup
        return Text(printable(str(value)))

    made = Table(title=cell(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(cell(column), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(cell, row))
    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(made)


def print_tables(tables: "Iterable[Table]") -> None:
    """`cards.tables.Table`s on stdout, each with its note."""
    for one in tables:
        table(one.title, one.columns, one.rows)
        if one.note:
            say(one.note)


_open: list[str] = []  # the bar that is shown


@contextmanager
def bar(title: str, unit: str) -> "Iterator[Progress]":
    """Show progress on stderr with rate and time left: update(what, done, in_all).

    When stderr is not a terminal there are plain lines, one every ten seconds. Inside another bar nothing is shown.
    """
    if _open:
        yield lambda what, done, whole: None
        return
    _open.append(title)
    try:
        with _bar(title, unit) as update:
            yield update
    finally:
        _open.clear()


@contextmanager
def _bar(title: str, unit: str) -> "Iterator[Progress]":
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    beginning: tuple[int, float] | None = None  # what was done at the first update: a resumed run starts there
    spoken = time.monotonic()

    def rate(done: int) -> float:
        """Per second, since the first update, or since the count began anew."""
        nonlocal beginning
        now = time.monotonic()
        if beginning is None or done < beginning[0]:
            beginning = (done, now)
        return (done - beginning[0]) / max(now - beginning[1], 1e-9)

    def spelled(speed: float) -> str:
        return f"{speed:,.{1 if speed < 10 else 0}f} {unit}/s"

    if not console.is_terminal:

        def line(what: str, done: int, whole: int) -> None:
            nonlocal spoken
            speed, now = rate(done), time.monotonic()
            if now - spoken >= 10 and speed:
                spoken = now
                left = (whole - done) / speed
                note(f"{title} {what}: {done:,} of {whole:,} {unit}, {spelled(speed)}, {left:.0f} s left")

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, rate="")

        def update(what: str, done: int, whole: int) -> None:
            label = escape(printable(f"{title} {what}".strip()))
            progress.update(task, description=label, completed=done, total=whole, rate=spelled(rate(done)))

        yield update


def listener() -> "Listener":
    """Bars for the stages of a long call, notes for what it tells."""
    from ..editor.progress import Listener

    return Listener(bar, note)
