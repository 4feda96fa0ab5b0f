"""The request that the options of an edit make, and which of them go together."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import click

from ..editor.edits.recipe import REDIRECT, VECTOR
from ..editor.edits.request import ADAPTER, AUTO, OTHERS, Request
from ..editor.errors import RecipeError
from .options import given, split


def request_of(
    deactivate: Sequence[str] = (),
    activate: Sequence[str] = (),
    hold: Sequence[str] = (),
    scale: Sequence[str] = (),
    redirect: Sequence[str] = (),
    experts: Sequence[str] = (),
    silence: Sequence[str] = (),
    quieten: Sequence[str] = (),
    lose: Sequence[str] = (),
    **settings: Any,
) -> Request:
    """Make a request of `zh,ja`, `fr=2`, `zh=en` and `Han` as they stand on a command line.

    Raises RecipeError for what is none of them.
    """
    off, active, held = (
        tuple(one for group in groups for one in split(group)) for groups in (deactivate, activate, hold)
    )
    for item in (*off, *active, *held):
        if "=" in item:
            raise RecipeError(f"{item}: write the language alone; only --scale takes a number with it.")
    factors = _numbers(scale, "--scale", "the language and a number, for example --scale fr=2")
    pairs = []
    for item in (one for group in redirect for one in split(group)):
        source, _, target = (part.strip() for part in item.partition("="))
        if not source or not target or "=" in target:
            raise RecipeError(f"--redirect {item}: write two languages, for example --redirect zh=en, or others=fr.")
        pairs.append((source, target))
    closed = tuple(dict.fromkeys(one for group in experts for one in split(group)))
    quiet = _numbers(quieten, "--quieten", "the script and nats, for example --quieten Han=4")
    gone, losing = (tuple(one for group in groups for one in split(group)) for groups in (silence, lose))
    if silence and not gone:
        raise RecipeError("--silence names no script. Name one, for example --silence Han, or leave it out.")
    for item in gone:
        if "=" in item:
            raise RecipeError(f"--silence {item}: write the script alone; --quieten takes a number with it.")
    request = Request(
        off,
        active,
        held,
        factors,
        tuple(pairs),
        experts=closed,
        silence=gone,
        quieten=quiet,
        lose=losing,
        **settings,
    )
    request.scripts()  # raises for what can't be
    return request.without_shorthand()


def _numbers(groups: Sequence[str], option: str, form: str) -> tuple[tuple[str, float], ...]:
    """Read `fr=2,es=0.5`, names with a number each. Raises RecipeError, which says what `form` an option has."""
    found = []
    for item in (one for group in groups for one in split(group)):
        name, equals, number = (part.strip() for part in item.partition("="))
        try:
            found.append((name, float(number if equals else "")))
        except ValueError:
            raise RecipeError(f"{option} {item}: write {form}.") from None
    return tuple(found)


def require(request: Request) -> None:
    """Raise UsageError for options that say nothing, or that have nothing to go with."""
    if not request.any:
        raise click.UsageError(
            "Say what to edit: --activate fr, --deactivate zh, --redirect zh=en, --scale es=0.5, --silence Han."
        )
    if not request.of_scripts and (idle := given("except_chars", "lose")):
        raise click.UsageError(f"{idle[0]} goes with --silence or --quieten.")
    if request.strength is not None and not request.activate and not request.redirect:
        raise click.UsageError("--strength is that of --activate or --redirect; --scale and the recipe have their own.")
    if request.op != VECTOR and not request.redirect and (idle := given("point")):
        raise click.UsageError(f"{idle[0]} goes with --op vector or --redirect.")
    if request.op == VECTOR and request.strength == AUTO:
        raise click.UsageError("--strength auto does not go with --op vector. Give a number, or leave it out.")
    if request.op == VECTOR and (idle := given("value", "layers", "slots")):
        raise click.UsageError(f"{idle[0]} does not go with --op vector.")
    if request.strength == AUTO and request.redirect:
        raise click.UsageError("--strength auto does not go with redirecting. Give a number, or leave it out.")
    if request.hold and len(request.activate) != 1:
        raise click.UsageError("--hold holds neurons at what they are on text in the one language of --activate.")
    if not request.activate:
        if OTHERS in request.deactivate:
            raise click.UsageError("--deactivate others means all but the language of --activate. Name that one.")
        op = () if click.get_current_context().params.get("op") == REDIRECT and request.redirect else ("op",)
        tolerance = () if request.redirect else ("tolerance",)
        if idle := given(*op, "value", "layers", "slots", "carrier", *tolerance, "above_tolerance"):
            raise click.UsageError(f"{idle[0]} goes with --activate.")
    if request.untie is not None and not request.redirect and not request.of_scripts:
        raise click.UsageError("--untie goes with --redirect or --silence.")
    if request.strength == AUTO and len(request.activate) != 1:
        raise click.UsageError("--strength auto looks for the strength of one activated language.")
    if not request.searches_off and (idle := given("target_damage", "spare")):
        raise click.UsageError(f"{idle[0]} goes with --deactivate alone, where the neurons are searched for.")
    if not request.searches_on and (idle := given("budget")):
        raise click.UsageError(f"{idle[0]} goes with --activate alone, where everything else is searched for.")
    if request.strength != AUTO and not request.searches_on and (idle := given("target_accuracy", "prompts")):
        raise click.UsageError(f"{idle[0]} goes with --strength auto.")


def given_edits() -> list[str]:
    """Those of `edit_options` that stand on the command line."""
    return given(*(field.name for field in fields(Request) if field.name not in ("form", "max_rank")))


def check_form(form: str) -> None:
    """Raise UsageError for options that go with the other form of what is written."""
    if form != ADAPTER and (idle := given("max_rank")):
        raise click.UsageError(f"{idle[0]} goes with --as adapter.")
    if form == ADAPTER and (idle := given("compat_config", "for_runtimes", "dry_run")):
        raise click.UsageError(f"{idle[0]} is about a checkpoint, and --as adapter writes none.")
