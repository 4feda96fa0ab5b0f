"""Options that several commands share."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .numbers import FloatRange

Function = TypeVar("Function", bound=Callable[..., Any])


def several(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Make one decorator of several options, which the help lists in this order."""
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


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


def rehash_option(function: Function) -> Function:
    """--rehash."""

    def forget(ctx: click.Context, option: click.Parameter, value: bool) -> None:
        if value:
            from ..editor.files.hashes import forget_hashes

            forget_hashes()

    return click.option(
        "--rehash",
        is_flag=True,
        expose_value=False,
        callback=forget,
        help="Read every file for its sha256, also where that is known and the file's times say that it did not change.",
    )(function)


def detect_options(function: Function) -> Function:
    """Add the options of `detect` and `export` about statistics."""
    from ..editor.statistics.detection import Detection

    options = several(
        click.option(
            "--tokens",
            type=click.IntRange(1),
            default=Detection.tokens,
            show_default=True,
            help="Tokens a language.",
        ),
        click.option(
            "--context",
            type=click.IntRange(2),
            default=Detection.context,
            show_default=True,
            help="Tokens a context.",
        ),
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
            default=Detection.minimum,
            show_default=True,
            help="Tokens without which a language is refused.",
        ),
    )
    return device_options(options(function))


def stream_options(function: Function) -> Function:
    """--stream, --memory and --scratch; the command gets one `streaming`."""

    @functools.wraps(function)
    def streamed(*inputs: Any, stream: str, memory: int | None, scratch: Path | None, **named: Any) -> Any:
        from ..editor.live.streaming import Streaming

        return function(*inputs, streaming=Streaming(stream, memory, scratch), **named)

    for option in (
        click.option(
            "--scratch",
            type=click.Path(path_type=Path),
            help="Folder for hidden states that memory has no room for. Default: beside the result.",
        ),
        click.option(
            "--memory",
            metavar="SIZE",
            callback=_size,
            help="What the process may take, as 8GB or 500MB. Default: what is available.",
        ),
        click.option(
            "--stream",
            type=click.Choice(["auto", "layers", "off"]),
            default="auto",
            show_default=True,
            help="Run the model layer by layer, so that it is never whole in memory; auto: if it would not fit.",
        ),
    ):
        streamed = option(streamed)
    return streamed  # type: ignore[return-value]


def spread_options(function: Function) -> Function:
    """--device-map and --tensor-parallel; the command gets one `spread`."""

    @functools.wraps(function)
    def spread(*inputs: Any, device_map: str | None, tensor_parallel: bool, **named: Any) -> Any:
        from ..editor.live.spread import Spread

        return function(*inputs, spread=Spread(device_map, tensor_parallel), **named)

    spread = click.option(
        "--tensor-parallel",
        is_flag=True,
        help="Under torchrun: divide the model among the processes, by transformers' plan, not the texts.",
    )(spread)
    return click.option(  # type: ignore[return-value]
        "--device-map",
        type=click.Choice(["auto"]),
        help="auto: lay the layers over all GPUs, then the CPU. Needs monoglot[devices].",
    )(spread)


def _size(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Read an amount of memory."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", value.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise click.BadParameter("a size, as 8GB or 500MB")
    power = "KMGT".find(found[2].upper()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def find_options(function: Function) -> Function:
    """--rate and --quantile."""
    from ..editor.neurons.neurons import QUANTILE, RATE

    share = FloatRange(0, 1, min_open=True, max_open=True)
    function = click.option(
        "--quantile",
        type=share,
        default=QUANTILE,
        show_default=True,
        help="Only neurons more often active than this share of all (neuron, language) pairs are looked at.",
    )(function)
    return click.option("--rate", type=share, default=RATE, show_default=True, help="Share of all neurons to take.")(
        function
    )


def method_options(function: Function) -> Function:
    """Add the options of methods other than LAPE: --threshold, --seed, --tuned."""
    from ..editor.neurons.neurons import SEED, THRESHOLD

    for option in (
        click.option(
            "--tuned",
            multiple=True,
            metavar="LANG=DIR",
            help="pv: a copy of the model that was tuned on one language, for each of at least two.",
        ),
        click.option("--seed", type=click.IntRange(0), default=SEED, show_default=True, help="random: of the draw."),
        click.option(
            "--threshold",
            type=FloatRange(0, 1, min_open=True, max_open=True),
            default=THRESHOLD,
            show_default=True,
            help="lap: the activation probability above which a neuron is a language's.",
        ),
    ):
        function = option(function)
    return function


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


PAGE = "report.html"

PYTHON_HELP = (
    "The interpreter of an environment in which the runtimes are installed, for one runtime alone as NAME=PATH; may be "
    "given several times. Default: the one that runs monoglot."
)


def names(given: str) -> list[str]:
    """Read a comma-separated list of runtimes, or `all`. Raises RunError for an unknown name, UsageError for none."""
    from ..editor.runtimes import process
    from ..editor.runtimes.adapters import NAMES

    found = list(NAMES) if given == "all" else list(dict.fromkeys(process.known(name) for name in split(given)))
    if not found:
        raise click.UsageError(f"name a runtime, or several with commas: {', '.join(NAMES)}.")
    return found
