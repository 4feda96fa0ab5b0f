"""What the commands share: options, progress on stderr, tables and JSON on stdout."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
    from ..editor.text.tokens import MINIMUM_TOKENS

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


def method_options(function: Function) -> Function:
    """What methods other than LAPE ask for: --threshold, --seed, --tuned."""
    for option in (
        click.option(
            "--tuned",
            multiple=True,
            metavar="LANG=DIR",
            help="pv: a copy of the model that was tuned on one language, for each of at least two.",
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="random: of the draw."),
        click.option(
            "--threshold",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=0.95,
            show_default=True,
            help="lap: the activation probability above which a neuron is a language's.",
        ),
    ):
        function = option(function)
    return function


def edit_options(function: Function) -> Function:
    """What is to be done to which language, and where its constants go."""
    from ..editor.edits.recipe import ABOVE_TOLERANCE, CARRIERS, CONSTANT_OPS, SLOTS, TOLERANCE

    for option in reversed(
        [
            click.option("--deactivate", multiple=True, metavar="LANG[,LANG…]|others", help="Languages to switch off."),
            click.option(
                "--activate", multiple=True, metavar="LANG", help="The language that the model is to answer in."
            ),
            click.option(
                "--hold",
                multiple=True,
                metavar="LANG[,LANG…]|others",
                help="Languages whose neurons are held at what they are on text in the activated language: milder than "
                "--deactivate, and kinder to the text.",
            ),
            click.option("--scale", multiple=True, metavar="LANG=FACTOR", help="Languages to scale, for example fr=2."),
            click.option(
                "--op",
                type=click.Choice([*CONSTANT_OPS, "scale"]),
                default="add",
                show_default=True,
                help="How to activate: add a constant, set to one (the paper's), add one before the activation function, "
                "multiply.",
            ),
            click.option(
                "--value",
                type=click.Choice(["mean", "median", "p90"]),
                default="mean",
                show_default=True,
                help="Of a neuron on text in its language: what strength multiplies.",
            ),
            click.option(
                "--strength",
                metavar="NUMBER|auto",
                callback=_strength,
                help="How strongly; auto searches the smallest that works.",
            ),
            click.option(
                "--layers",
                metavar="FIRST-LAST|all|auto",
                default="auto",
                show_default=True,
                callback=_layers,
                help="Layers in which --activate acts, from 0; auto leaves the last sixth out, where constants make loops, "
                "and with --strength auto tries all as well.",
            ),
            click.option(
                "--slots",
                type=click.Choice(SLOTS),
                default="spare",
                show_default=True,
                help="Where --op add finds room in a gated network: neurons that are hardly ever active, or only those that "
                "the recipe deactivates.",
            ),
            click.option(
                "--target-accuracy",
                type=click.FloatRange(0, 1, min_open=True),
                default=0.9,
                show_default=True,
                help="With auto: the share of answers that have to be in the language.",
            ),
            click.option(
                "--prompts",
                type=click.Path(path_type=Path),
                help="With auto: a .jsonl of prompts per language. Default: the embedded texts' beginnings.",
            ),
            click.option(
                "--shared",
                type=click.Choice(["keep", "edit"]),
                help="What to do with a neuron that an unedited language owns too.  [default: edit with --activate, else "
                "keep]",
            ),
            click.option(
                "--carrier",
                type=click.Choice(CARRIERS),
                default="auto",
                show_default=True,
                help="Where a constant lives: biases of the file, or of a config flag, the model rewritten as a Llama, or "
                "a calibrated direction, which any runtime loads.",
            ),
            click.option(
                "--for",
                "for_runtimes",
                metavar="NAME[,NAME…]",
                callback=_runtimes,
                help="Runtimes that are to show it: --carrier auto is then exact where all of them were seen to honour that, "
                "and one that drops what was chosen is named. See `monoglot runtimes`.",
            ),
            click.option(
                "--tolerance",
                type=click.FloatRange(0, min_open=True),
                default=TOLERANCE,
                show_default=True,
                help="Calibrated: the largest relative error of a layer.",
            ),
            click.option(
                "--above-tolerance",
                type=click.Choice(ABOVE_TOLERANCE),
                default="refuse",
                show_default=True,
                help="Calibrated: what to do about a layer with a larger one.",
            ),
            click.option(
                "--compat-config/--no-compat-config",
                default=None,
                help="Give config.json the keys that runtimes older than transformers 5 read.  [default: where it lacks "
                "them]",
            ),
        ]
    ):
        function = option(function)
    return function


def _strength(ctx: click.Context, option: click.Parameter, value: str | None) -> float | str | None:
    if value is None or value == "auto":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter("a number, or auto") from None


def _runtimes(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    from .runtimes import names

    return tuple(names(value))


def _layers(ctx: click.Context, option: click.Parameter, value: str) -> str | tuple[int, int]:
    if value in ("all", "auto"):
        return value
    first, dash, last = value.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise click.BadParameter("two numbers as in 0-14, all, or auto")
    return int(first), int(last)


@dataclass(frozen=True)
class Edits:
    """What `edit_options` gave; `strength` and `compat_config` are None where it wasn't said."""

    deactivate: tuple[str, ...] = ()
    activate: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    scale: tuple[str, ...] = ()
    op: str = "add"
    value: str = "mean"
    strength: float | str | None = None
    layers: str | tuple[int, int] = "auto"
    slots: str = "spare"
    target_accuracy: float = 0.9
    prompts: Path | None = None
    shared: str | None = None
    carrier: str = "auto"
    for_runtimes: tuple[str, ...] = ()
    tolerance: float = 0.15
    above_tolerance: str = "refuse"
    compat_config: bool | None = None

    @property
    def any(self) -> bool:
        return bool(self.deactivate or self.activate or self.hold or self.scale)

    @property
    def activated(self) -> list[str]:
        return [language for group in self.activate for language in split(group)]

    def require(self) -> None:
        """Raise UsageError for options that say nothing, or that have nothing to go with."""
        if not self.any:
            raise click.UsageError("Say what to edit: --activate fr, --deactivate zh, --scale es=0.5.")
        if self.strength is not None and not self.activate:
            raise click.UsageError("--strength is that of --activate; --scale and the recipe have their own.")
        if self.hold and len(self.activated) != 1:
            raise click.UsageError("--hold holds neurons at what they are on text in the one language of --activate.")
        if not self.activate:
            if any("others" in split(group) for group in self.deactivate):
                raise click.UsageError("--deactivate others means all but the language of --activate. Name that one.")
            if idle := given("op", "value", "layers", "slots", "carrier", "tolerance", "above_tolerance"):
                raise click.UsageError(f"{idle[0]} goes with --activate.")
        if self.strength == "auto" and len(self.activated) != 1:
            raise click.UsageError("--strength auto looks for the strength of one activated language.")
        if self.strength != "auto" and (idle := given("target_accuracy", "prompts")):
            raise click.UsageError(f"{idle[0]} goes with --strength auto.")

    def recipe(
        self, target: Any, languages: Sequence[str], strength: float | str | None, layers: tuple[int, int] | None = None
    ) -> Any:
        """The recipe for a model; `languages` are those that neurons are known of. `layers` are those of the activated
        language where auto leaves them open."""
        from ..editor.edits.recipe import Recipe, check, parse_edits
        from ..editor.models.compat_config import old_keys

        compat = bool(old_keys(target.checkpoint.config)) and self.compat_config is not False
        where = layers or self.candidates(target)[0]
        edits = parse_edits(
            self.deactivate, self.scale, self.activate, self.hold, op=self.op, value=self.value, languages=languages,
            strength=1.0 if strength is None else float(strength),
            layers=None if where == (0, target.feed_forward.layers - 1) else where,
        )  # fmt: skip
        made = Recipe(
            target.base, edits, self.shared or ("edit" if self.activate else "keep"), carrier=self.carrier_for(target),
            slots=self.slots, tolerance=self.tolerance, above_tolerance=self.above_tolerance, compat_config=compat,
        )  # fmt: skip
        check(made)
        return made

    def carrier_for(self, target: Any) -> str:
        """What auto is for the runtimes that are named; else what was asked for."""
        if self.carrier != "auto" or not self.for_runtimes:
            return self.carrier
        from ..editor.edits.carriers import refusals
        from ..editor.runtimes.capabilities import carrier_for

        possible = [name for name, why in refusals(target).items() if not why]
        return carrier_for(self.for_runtimes, target.feed_forward.model_type, possible)

    def candidates(self, target: Any) -> list[tuple[int, int]]:
        """The layers in which a language may be activated, the first choice first."""
        from ..editor.errors import RecipeError

        last = target.feed_forward.layers - 1
        if isinstance(self.layers, tuple):
            if self.layers[1] > last:
                raise RecipeError(f"--layers goes up to {self.layers[1]}; the last one is {last}.")
            return [self.layers]
        trimmed = (0, max(0, last - -(-(last + 1) // 6)))
        return [(0, last)] if self.layers == "all" else [trimmed, (0, last)]


def given_edits() -> list[str]:
    """Those of `edit_options` that stand on the command line."""
    from dataclasses import fields

    return given(*(field.name for field in fields(Edits)))


def given(*names: str) -> list[str]:
    """Those of some options that stand on the command line, as they are written there."""
    ctx = click.get_current_context()
    spelled = {option.name: max(option.opts, key=len) for option in ctx.command.params}
    said = [name for name in names if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    return [spelled[name] for name in said]


def _batch_size(ctx: click.Context, option: click.Parameter, value: str) -> int:
    if value == "auto":
        return 0
    if not value.isdecimal() or not int(value):
        raise click.BadParameter("a whole number, or auto")
    return int(value)


def split(languages: str | None) -> list[str]:
    return [word for word in map(str.strip, (languages or "").split(",")) if word]


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


def print_tables(tables: Iterable[Any]) -> None:
    """`cards.tables.Table`s on stdout, each with its note."""
    for one in tables:
        table(one.title, one.columns, one.rows)
        if one.note:
            click.echo(one.note)


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
            label = f"{title} {what}".strip()
            progress.update(task, description=label, completed=done, total=whole, rate=spelled(rate(done)))

        yield update
