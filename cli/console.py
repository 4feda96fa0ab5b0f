"""What the commands share: options, progress on stderr, tables and JSON on stdout."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def corpus_options(function: Function) -> Function:
    """--corpus and --languages."""
    function = click.option(
        "--languages",
        help="Which languages to read, comma-separated. Default: all that the corpus has. Read every language that is to be "
        "kept: a neuron is only known to be shared with those.",
    )(function)
    return click.option(
        "--corpus",
        multiple=True,
        metavar="DIR|LANG=FILE|DATASET",
        help="Text: a folder of {lang}.txt, .jsonl, .jsonl.gz or .parquet; one file as LANG=FILE; a Hub dataset; or "
        "`embedded`. May be given several times.",
    )(function)


def device_options(function: Function) -> Function:
    """--device and --dtype."""
    function = click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
        help="Arithmetic; auto is float32 on a CPU, the checkpoint's own dtype elsewhere.",
    )(function)
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        help="Where the model runs.",
    )(function)


def detect_options(function: Function) -> Function:
    """What `detect` and `export` ask about statistics."""
    from ..editor.corpus import MINIMUM_TOKENS

    for option in reversed(
        [
            click.option(
                "--tokens",
                type=click.IntRange(1),
                default=16_384,
                show_default=True,
                help="Tokens a language.",
            ),
            click.option("--context", type=click.IntRange(2), default=512, show_default=True, help="Tokens a context."),
            click.option(
                "--batch-size",
                default="auto",
                show_default=True,
                callback=_batch_size,
                help="Contexts at once.",
            ),
            click.option(
                "--minimum",
                type=click.IntRange(1),
                default=MINIMUM_TOKENS,
                show_default=True,
                help="Tokens without which a language is refused.",
            ),
        ]
    ):
        function = option(function)
    return device_options(function)


def find_options(function: Function) -> Function:
    """--rate and --quantile."""
    share = click.FloatRange(0, 1, min_open=True, max_open=True)
    function = click.option(
        "--quantile",
        type=share,
        default=0.95,
        show_default=True,
        help="Only neurons more often active than this share of all (neuron, language) pairs are looked at.",
    )(function)
    return click.option("--rate", type=share, default=0.01, show_default=True, help="Share of all neurons to take.")(
        function
    )


def edit_options(function: Function) -> Function:
    """What is to be done to which language."""
    for option in reversed(
        [
            click.option("--deactivate", multiple=True, metavar="LANG[,LANG…]", help="Languages to switch off."),
            click.option("--scale", multiple=True, metavar="LANG=FACTOR", help="Languages to scale, for example fr=2."),
            click.option(
                "--shared",
                type=click.Choice(["keep", "edit"]),
                default="keep",
                show_default=True,
                help="What to do with a neuron that an unedited language owns too.",
            ),
        ]
    ):
        function = option(function)
    return function


def _batch_size(ctx: click.Context, option: click.Parameter, value: str) -> int:
    if value == "auto":
        return 0
    if not value.isdecimal() or not int(value):
        raise click.BadParameter("a whole number, or auto")
    return int(value)


def split(languages: str | None) -> list[str]:
    return [language for language in (languages or "").split(",") if language]


def note(text: str) -> None:
    """A line on stderr."""
    click.echo(text, err=True)


def answer(data: Any) -> None:
    """The answer as JSON on stdout."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; the first column is text, the others are figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(str, row))
    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(made)


@contextmanager
def bar(title: str, unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """Progress on stderr with rate and time left: update(what, done, in_all). Plain lines, one every ten seconds, when
    stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    beginning: tuple[int, float] | None = None  # what was done at the first update: a resumed run starts there
    spoken = time.monotonic()

    def rate(done: int) -> float:
        """Per second, since the first update."""
        nonlocal beginning
        now = time.monotonic()
        beginning = beginning or (done, now)
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
            label = f"{title} {what}".strip()
            progress.update(task, description=label, completed=done, total=whole, rate=spelled(rate(done)))

        yield update
