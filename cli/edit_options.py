"""The options that say what is to be edited."""

from pathlib import Path

import click

from ..editor.edits.recipe import ABOVE_TOLERANCE, CARRIERS, CONSTANT_OPS, EMBEDDING, REDIRECT, SLOTS, VECTOR
from ..editor.edits.request import FORMS, RANK_LIMIT, Request
from .numbers import FloatRange
from .options import several


def _strength(ctx: click.Context, option: click.Parameter, value: str | None) -> float | str | None:
    if value is None or value == "auto":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter("a number, or auto") from None


def _point(ctx: click.Context, option: click.Parameter, value: str | None) -> str | int | None:
    if value is None:
        return None
    if value != EMBEDDING and not value.isdecimal():
        raise click.BadParameter(f"{EMBEDDING}, or the number of a layer")
    return value if value == EMBEDDING else int(value)


def _runtimes(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    from .options import names

    return tuple(names(value))


def _layers(ctx: click.Context, option: click.Parameter, value: str) -> str | tuple[int, int]:
    if value in ("all", "auto"):
        return value
    first, dash, last = value.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise click.BadParameter("two numbers as in 0-14, all, or auto")
    return int(first), int(last)


# The options that say what is to be done to which language, and where its constants go.
edit_options = several(
    click.option("--deactivate", multiple=True, metavar="LANG[,LANG…]|others", help="Languages to switch off."),
    click.option("--activate", multiple=True, metavar="LANG", help="The language that the model is to answer in."),
    click.option(
        "--hold",
        multiple=True,
        metavar="LANG[,LANG…]|others",
        help="Languages whose neurons are held at what they are on text in the activated language: milder than "
        "--deactivate, and kinder to the text.",
    ),
    click.option(
        "--redirect",
        multiple=True,
        metavar="LANG=LANG[,…]|others=LANG",
        help="Languages to read, and answer, as if they were another: zh=en. It moves rows of the embedding table, "
        "and no neurons.",
    ),
    click.option("--scale", multiple=True, metavar="LANG=FACTOR", help="Languages to scale, for example fr=2."),
    click.option(
        "--experts",
        multiple=True,
        metavar="LANG|LAYER.EXPERT[,…]",
        help="Mixtures whose routers have a bias: experts that no token is to be sent to, a language's or by number.",
    ),
    click.option(
        "--silence",
        multiple=True,
        metavar="SCRIPT[,SCRIPT…]",
        help="Scripts that can't be written any more, by Unicode's names: Han, Cyrillic, Arabic.",
    ),
    click.option(
        "--quieten",
        multiple=True,
        metavar="SCRIPT=NATS",
        help="Scripts to write less: Han=4 makes each of its tokens e^4 times less likely against the others. The "
        "sets signs=2 (digits, signs and mark-up) and spaces=2 (spaces and line breaks alone) go here too.",
    ),
    click.option(
        "--except-chars",
        default="",
        metavar="CHARS",
        help="Characters of these scripts that may still be written.",
    ),
    click.option(
        "--lose",
        multiple=True,
        metavar="LANG[,LANG…]",
        help="Languages of the text that need a silenced script, and may lose it.",
    ),
    click.option(
        "--op",
        type=click.Choice([*CONSTANT_OPS, "scale", REDIRECT, VECTOR]),
        default=Request.op,
        show_default=True,
        help="How to activate: add a constant, set to one (the paper's), add one before the activation function, "
        "multiply; redirect all other languages to it; or add its vector to whatever is read.",
    ),
    click.option(
        "--point",
        metavar="embedding|LAYER",
        callback=_point,
        help="Where --op vector is added, or --redirect done: at the embedding, or after a layer, counted from 0.  "
        "[default: embedding, of --vector all layers that it has]",
    ),
    click.option(
        "--value",
        type=click.Choice(["mean", "median", "p90"]),
        default=Request.value,
        show_default=True,
        help="Of a neuron on text in its language: what strength multiplies.",
    ),
    click.option(
        "--strength",
        metavar="NUMBER|auto",
        callback=_strength,
        help="How strongly to activate, or without --activate to redirect; auto searches the smallest that works.  "
        "[default: 1, of --redirect and --op vector 1.5, of --redirect with one table 1]",
    ),
    click.option(
        "--layers",
        metavar="FIRST-LAST|all|auto",
        default=Request.layers,
        show_default=True,
        callback=_layers,
        help="Layers in which --activate acts, from 0; auto leaves the last sixth out, where constants make loops, "
        "and with --strength auto tries all as well.",
    ),
    click.option(
        "--slots",
        type=click.Choice(SLOTS),
        default=Request.slots,
        show_default=True,
        help="Where --op add finds room in a gated network: neurons that are hardly ever active, or only those that "
        "the recipe deactivates.",
    ),
    click.option(
        "--target-accuracy",
        type=FloatRange(0, 1, min_open=True),
        default=Request.target_accuracy,
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
        help="What to do with a neuron that an unedited language owns too.  [default: edit with --activate, else keep]",
    ),
    click.option(
        "--carrier",
        type=click.Choice(CARRIERS),
        default=Request.carrier,
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
        "--untie/--no-untie",
        " /--tied",
        default=None,
        help="With --redirect or --silence, of a model that reads and writes with one table: add a second one, or "
        "keep the one. --redirect then moves its rows so that what is written hardly changes, and needs `monoglot "
        "tokens --outputs`; with --silence the script is read as something else too.  [default: add, unless a "
        "runtime of --for was not seen to load what --redirect adds]",
    ),
    click.option(
        "--tolerance",
        type=FloatRange(0, min_open=True),
        default=Request.tolerance,
        show_default=True,
        help="Calibrated: the largest relative error of a layer. --no-untie: by how many nats the log-loss of a "
        "language that is not redirected may rise.",
    ),
    click.option(
        "--above-tolerance",
        type=click.Choice(ABOVE_TOLERANCE),
        default=Request.above_tolerance,
        show_default=True,
        help="Calibrated: what to do about a layer with a larger one.",
    ),
    click.option(
        "--compat-config/--no-compat-config",
        default=None,
        help="Give config.json the keys that runtimes older than transformers 5 read.  [default: where it lacks them]",
    ),
)


# The options of a search that chooses how a language is switched off, or on.
search_options = several(
    click.option(
        "--target-damage",
        type=FloatRange(0, min_open=True),
        default=Request.target_damage,
        show_default=True,
        help="With --deactivate and no other edit option: by how many nats a token the log-loss of a language has to "
        "rise to be off. The mildest set of neurons that does it is searched for.",
    ),
    click.option(
        "--budget",
        type=FloatRange(0, min_open=True),
        default=Request.budget,
        show_default=True,
        metavar="SECONDS",
        help="With --activate and no other edit option: how long to try what makes the model answer in the language, "
        "tokens redirected, neurons, or both, at several strengths.",
    ),
    click.option(
        "--spare",
        type=FloatRange(0),
        default=Request.spare,
        show_default=True,
        help="The most that another language may lose for it, in nats a token.",
    ),
)


# The options that say what is written: --as and --max-rank.
form_options = several(
    click.option(
        "--as",
        "form",
        type=click.Choice(FORMS),
        default=Request.form,
        show_default=True,
        help="What to write: the whole model, or an adapter (PEFT LoRA) of the same edits, which servers add to the "
        "base while they run.",
    ),
    click.option(
        "--max-rank",
        type=click.IntRange(1),
        help="With --as adapter: its highest rank. Where more is needed, the neurons that matter least are left out. "
        f" [default: refuse more than the {RANK_LIMIT} that servers take]",
    ),
)
