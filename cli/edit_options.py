"""The options that say what is to be edited, and the recipe that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..editor.edits.recipe import CONSTANT_OPS, Edit
from ..editor.errors import RecipeError
from .options import Function, given, split


def parse_edits(
    deactivate: Sequence[str] = (),
    scale: Sequence[str] = (),
    activate: Sequence[str] = (),
    hold: Sequence[str] = (),
    *,
    op: str = "pin",
    strength: float = 1.0,
    value: str = "mean",
    layers: tuple[int, int] | None = None,
    languages: Sequence[str] = (),
) -> tuple[Edit, ...]:
    """Edits from `zh,ja` and `fr=2` as they stand on a command line. Of `languages`, those that neurons are known of,
    `others` are all that are not activated; `layers` are those of the activated ones. Raises RecipeError for what is
    neither, and for `hold` without a language to hold at."""
    active = _items(activate)
    others = [language for language in languages if language not in active]
    if hold and len(active) != 1:
        raise RecipeError("--hold holds neurons at their values on text in the one language of --activate. Name one.")
    edits = [Edit(language, "deactivate") for language in _items(deactivate, others)]
    edits += [Edit(language, "pin", 1.0, f"mean@{active[0]}") for language in _items(hold, others)]
    edits += [Edit(language, op, strength, value if op in CONSTANT_OPS else None, layers) for language in active]
    for edit in edits:
        if "=" in edit.language:
            raise RecipeError(f"{edit.language}: write the language alone; only --scale takes a number with it.")
    for item in _items(scale):
        language, equals, factor = (part.strip() for part in item.partition("="))
        try:
            edits.append(Edit(language, "scale", float(factor if equals else "")))
        except ValueError:
            raise RecipeError(f"--scale {item}: write the language and a number, for example --scale fr=2.") from None
    return tuple(edits)


def _items(groups: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    items = [item.strip() for group in groups for item in group.split(",") if item.strip()]
    return [one for item in items for one in (others if item == "others" and others else [item])]


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
    from .options import names

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
        from ..editor.edits.recipe import Recipe, check
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
