"""Figures that are heat maps: a row and a column for each language."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..words.amounts import NONE, change, count, number, or_dash, share
from ..words.generated import KEPT, RANDOM
from .canvas import MARGIN, SMALL, TEXT, WIDTH, Look, label, new_axes, new_figure, pixels
from .colours import ramp_of, readable

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


def _heat_map(
    look: Look,
    title: str,
    below: str,
    groups: Sequence[Mapping[str, Sequence[float]]],
    columns: Sequence[str],
    written: Callable[[str, str, float], str],
    limits: tuple[float, float],
    scale: str,
    *,
    plain: bool = True,
) -> "Figure":
    """Draw a heat map of rows by name, in `groups` with a gap between them.

    A cell is coloured by its number, from `limits`, and shows what `written` makes of row, column and number. NaN is an empty
    cell. The cells where a language meets itself are framed. `scale` says what the colours mean; it is shown where the cells
    don't say it themselves: unless `plain`, and where there is no room for numbers.
    """
    rows = [(name, values, at) for at, group in enumerate(groups) for name, values in group.items()]
    texts = [
        [written(name, code, value) for code, value in zip(columns, values, strict=True)] for name, values, _ in rows
    ]
    labels, heads = (
        [label(name) if name not in KEPT.values() else name for name, *_ in rows],
        list(map(label, columns)),
    )
    left = MARGIN + max(map(pixels, labels), default=0) + 8
    wide = min(96.0, (WIDTH - MARGIN - left) / max(1, len(columns)))
    high, gap = (34.0, 10.0) if len(rows) <= 16 else (26.0, 10.0)
    upright = max(map(pixels, heads), default=0) > wide - 4
    top = 72 + (max(map(pixels, heads), default=0) if upright else 18)
    widest = max((len(text) for line in texts for text in line), default=1)
    points = next((size for size in (TEXT, 9.0, SMALL, 8.0) if pixels("0" * widest, size) <= wide - 4), None)
    scaled = points is None or not plain
    body = len(rows) * high + gap * (len(groups) - 1)
    figure = new_figure(look, top + body + (64 if scaled else MARGIN), title, below)
    axes = new_axes(figure, look, left, top, wide * len(columns), body)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(body, 0)
    axes.xaxis.tick_top()
    places = [number_of_row * high + at * gap for number_of_row, (_, _, at) in enumerate(rows)]
    axes.set_xticks(np.arange(len(columns)) + 0.5, heads, rotation=90 if upright else 0)
    axes.set_yticks([place + high / 2 for place in places], labels)
    axes.tick_params(labelsize=TEXT, labelcolor=look.ink)
    ramp = ramp_of(look, limits)
    for (name, values, _), line, place in zip(rows, texts, places, strict=True):
        numbers = np.ma.masked_invalid(np.array([values], np.float64))  # (1, columns)
        axes.pcolormesh(
            np.arange(len(columns) + 1), [place, place + high], numbers, cmap=ramp, vmin=limits[0], vmax=limits[1],
            edgecolors=look.paper, linewidth=1.5,
        )  # fmt: skip
        for column, (code, value, text) in enumerate(zip(columns, values, line, strict=True)):
            known = (value - limits[0]) / (limits[1] - limits[0])
            colour = look.muted if math.isnan(value) else readable(ramp(known))
            if points is not None or text == NONE:
                axes.text(
                    column + 0.5, place + high / 2, text, size=points or SMALL, color=colour, ha="center",
                    va="center_baseline", weight="bold" if name == code else "normal",
                )  # fmt: skip
            if name == code and not math.isnan(value):
                axes.add_patch(_frame(column, place, high, look))
    if scaled:
        _colour_bar(figure, look, ramp, limits, left, top + body + 16, scale)
    return figure


def _frame(column: int, place: float, high: float, look: Look) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column + 0.015, place + 1), 0.97, high - 2, fill=False, edgecolor=look.ink, linewidth=1.3, zorder=3
    )


def _colour_bar(
    figure: "Figure", look: Look, ramp: "Colormap", limits: tuple[float, float], left: float, top: float, scale: str
) -> None:
    axes = new_axes(figure, look, left, top, 220, 10)
    steps = np.linspace(*limits, 65)
    axes.pcolormesh(steps, [0, 1], [(steps[1:] + steps[:-1]) / 2], cmap=ramp, vmin=limits[0], vmax=limits[1])
    axes.set_yticks([])
    ticks = [limits[0], (limits[0] + limits[1]) / 2, limits[1]]
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.text(1.04, 0.5, scale, transform=axes.transAxes, size=SMALL, color=look.muted, va="center_baseline")


def perplexity(found: Mapping[str, Any], look: Look) -> "Figure":
    columns = list(found["base"])
    own = {name: [number(row.get(code)) for code in columns] for name, row in found["change"].items()}
    control = {RANDOM: [number(found["random"].get(code)) for code in columns]} if found.get("random") else {}
    reach = max(_largest([*own.values(), *control.values()]), 0.1)
    return _heat_map(
        look,
        "Change of log-loss with one language switched off",
        "in nats; rows: the language switched off, columns: the text's",
        [group for group in (own, control) if group],
        columns,
        lambda row, code, value: or_dash(value, change),
        (-reach, reach),
        "nats",
    )


def deactivate_each(found: Mapping[str, Any], look: Look) -> "Figure":
    columns = list(dict.fromkeys(code for row in found["rows"].values() for code in row))
    values = {
        KEPT.get(name, name): [number((row.get(code) or {}).get("accuracy")) for code in columns]
        for name, row in found["rows"].items()
    }
    controls = {name: row for name, row in values.items() if name in KEPT.values()}
    own = {name: row for name, row in values.items() if name not in controls}
    return _heat_map(
        look,
        "Answers in the prompt's language, with one language switched off",
        "rows: the language switched off, columns: the prompt's",
        [group for group in (controls, own) if group],
        columns,
        lambda row, code, value: share(value),
        (0.0, 1.0),
        "share of the answers",
    )


def overlap(found: Mapping[str, Any], look: Look) -> "Figure":
    columns, shared, jaccard = list(found["neurons"]), found["shared"], found.get("jaccard") or {}
    values = {
        one: [math.nan if one == other else number(jaccard.get(one, {}).get(other)) for other in columns]
        for one in columns
    }

    def written(one: str, other: str, value: float) -> str:
        return count(found["neurons"][one] if one == other else shared.get(one, {}).get(other))

    return _heat_map(
        look,
        "Neurons that two languages share",
        "how many, for each pair",
        [values],
        columns,
        written,
        (0.0, max(_largest(list(values.values())), 0.01)),
        "Jaccard: of the neurons of either language, the share of both",
        plain=False,
    )


def _largest(rows: Sequence[Sequence[float]]) -> float:
    return max((abs(value) for row in rows for value in row if not math.isnan(value)), default=0.0)
