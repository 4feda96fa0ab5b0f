"""Figures over layers and over strengths: small charts, and lines with their names at their ends."""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from ...editor.text import languages
from ..words.amounts import count, number, share
from .canvas import MARGIN, SMALL, TEXT, WIDTH, Look, label, name_lines, new_figure, plot_axes, steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 45  # pairs of languages that have a line each: those of ten languages


def profile(found: Mapping[str, Any], look: Look) -> "Figure | None":
    """Draw a small chart for each language, all with the same axes."""
    counts = {code: np.array([number(count) for count in row]) for code, row in found["layers"].items() if len(row)}
    if not counts:
        return None
    shares = {code: np.nan_to_num(row) / max(1.0, np.nansum(row)) for code, row in counts.items()}
    columns = min(len(counts), 4 if len(counts) <= 12 else 5)
    rows = -(-len(counts) // columns)
    left, between, high, below = MARGIN + 36, 18, (150 if rows <= 2 else 110), 58
    wide = (WIDTH - left - MARGIN - between * (columns - 1)) / columns
    figure = new_figure(
        look,
        68 + rows * (high + below) + 12,
        "A language's neurons by layer",
        "share of them in each layer, and how many in all",
    )
    depth, tallest = max(map(len, shares.values())), max(float(row.max()) for row in shares.values()) or 1.0
    for at, (code, row) in enumerate(shares.items()):
        down, across = divmod(at, columns)
        axes = plot_axes(figure, look, left + across * (wide + between), 68 + down * (high + below) + 24, wide, high)
        axes.stairs(row, np.arange(len(row) + 1) - 0.5, fill=True, color=look.lines[0], linewidth=0)
        axes.set_xlim(-0.5, depth - 0.5)
        axes.set_ylim(0, tallest * 1.05)
        axes.set_xticks(sorted({0, depth // 2, depth - 1}))
        axes.yaxis.set_major_locator(steps(3))
        axes.yaxis.set_major_formatter(lambda value, _: share(value) if tallest > 0.04 else f"{value:.1%}")
        if across:
            axes.tick_params(axis="y", labelleft=False)
        total = np.nansum(counts[code])
        axes.text(0, 1 + 8 / high, label(code), transform=axes.transAxes, size=TEXT, weight="bold", color=look.ink)
        axes.text(
            1, 1 + 8 / high, f"{count(total)}", transform=axes.transAxes, size=SMALL, color=look.muted, ha="right"
        )
        if at == len(shares) - 1 or down == rows - 1:
            axes.set_xlabel("layer", size=SMALL, color=look.muted, labelpad=2)
    return figure


def similarity(found: Mapping[str, Any], look: Look) -> "Figure | None":
    """Draw the pairs as thin lines, or as a band where they are many; their mean and its control as thick lines."""
    pairs = [[number(value) for value in row] for row in (found.get("pairs") or {}).values()]
    curves = {key: [number(value) for value in found.get(key) or []] for key in CURVES}
    curves = {key: row for key, row in curves.items() if not all(map(math.isnan, row))}
    if "mean" not in curves:
        return None
    depth = max(map(len, (*curves.values(), *pairs)))
    figure = new_figure(
        look,
        420,
        "Similarity of texts in two languages by layer",
        "SES: mean cosine of the hidden states, pooled over a text",
    )
    axes = plot_axes(figure, look, MARGIN + 40, 76, WIDTH - MARGIN - 40 - 190, 290)
    if len(pairs) <= MOST_LINES:
        for row in pairs:
            axes.plot(row, color=look.lines[0], linewidth=0.8, alpha=0.35)
    else:
        every = np.ma.masked_invalid(
            np.array([row + [math.nan] * (depth - len(row)) for row in pairs])
        )  # (pairs, depth)
        low, high = (np.ma.filled(end(axis=0), math.nan) for end in (every.min, every.max))
        axes.fill_between(np.arange(depth), low, high, color=look.lines[0], alpha=0.2, linewidth=0)
    for key, row in curves.items():
        _, line, width, dashes, mark = CURVES[key]
        axes.plot(
            row, color=look.lines[line], linewidth=width, linestyle=dashes, marker=mark, markersize=4.5,
            markevery=max(1, len(row) // 12),
        )  # fmt: skip
    axes.set_xlim(-0.02 * depth, depth - 1 + 0.02 * depth)
    axes.xaxis.set_major_locator(steps(10, integer=True))
    axes.yaxis.set_major_locator(steps(6))
    axes.set_xlabel("layer (0: the embeddings)", size=SMALL, color=look.muted)
    name_lines(axes, look, [(row, CURVES[key][0]) for key, row in curves.items()])
    return figure


# The label, which of the theme's colours, the width, dashes and marks of each curve.
CURVES: dict[str, tuple[str, int, float, Any, str]] = {
    "mean": ("translations", 0, 2.4, "solid", "o"),
    "unrelated": ("unrelated texts", 1, 2.0, (0, (5, 3)), "s"),
    "centred": ("translations, centred", 2, 2.0, (0, (8, 2, 2, 2)), "^"),
    "centred_unrelated": ("unrelated, centred", 2, 1.4, (0, (1.5, 2)), ""),
}


def strength(found: Mapping[str, Any], look: Look) -> "Figure | None":
    """Shares above, perplexity below, over the same strengths; what the checkpoint itself does as a diamond."""
    tried = [
        (number(point["strength"]), point) for point in (found["base"], *found["points"], *found["checkpoint"][-1:])
    ]
    curve = sorted(((at, point) for at, point in tried[: 1 + len(found["points"])] if at >= 0), key=itemgetter(0))
    if not curve:
        return None
    at, points = [strength for strength, _ in curve], [point for _, point in curve]
    final = found["checkpoint"][-1] if found["checkpoint"] and tried[-1][0] >= 0 else None
    perplexity = [number(point.get("perplexity")) for point in points]
    known = [value for value in (*perplexity, number((final or {}).get("perplexity"))) if value > 0]
    title = f"Answers in {languages.name(label(found['language']))} by strength"
    below = "the base under hooks" + ("; diamonds: the checkpoint itself" if final else "")
    figure = new_figure(look, 560 if known else 370, title, below)
    width = WIDTH - MARGIN - 44 - 190
    shares = plot_axes(figure, look, MARGIN + 44, 76, width, 230)
    ends = []
    for key, name, colour, dash, mark in (
        ("accuracy", "in the language", look.lines[0], "solid", "o"),
        ("whole", "and whole", look.lines[1], (0, (5, 2)), "s"),
    ):
        row = [number(point.get(key)) for point in points]
        shares.plot(at, row, color=colour, linestyle=dash, linewidth=2.2, marker=mark, markersize=6)
        ends.append((row, name))
        if final:
            _diamond(shares, look, final, key, colour)
    shares.set_ylim(-0.03, 1.03)
    shares.set_yticks(np.linspace(0, 1, 5), [share(value) for value in np.linspace(0, 1, 5)])
    panels = [shares]
    name_lines(shares, look, ends, at)
    if known:
        panels.append(plot_axes(figure, look, MARGIN + 44, 352, width, 140))
        panels[1].plot(at, perplexity, color=look.lines[2], linewidth=2.2, marker="^", markersize=6)
        named = [(perplexity, "perplexity of\nthe answers")]
        real = number((found.get("real") or {}).get("perplexity"))
        if real > 0:
            panels[1].axhline(real, color=look.muted, linewidth=1.4, linestyle=(0, (2, 2)))
            named.append(([real], "real text"))
        if final:
            _diamond(panels[1], look, final, "perplexity", look.lines[2])
        _perplexity_axis(panels[1], [*known, real] if real > 0 else known)
        name_lines(panels[1], look, named, at)
        shares.tick_params(axis="x", labelbottom=False)
    last = max(at[-1], tried[-1][0] if final else 0) or 1.0
    for axes in panels:
        axes.set_xlim(-0.03 * last, 1.03 * last)
        axes.set_xticks(*_strengths(sorted({*at, last}), last))
    panels[-1].set_xlabel("strength (0: the base)", size=SMALL, color=look.muted)
    return figure


def _diamond(axes: "Axes", look: Look, point: Mapping[str, Any], key: str, colour: str) -> None:
    axes.plot(
        [number(point["strength"])], [number(point.get(key))], marker="D", markersize=9, color=colour,
        markeredgecolor=look.ink, markeredgewidth=1.4, linestyle="none", zorder=5, clip_on=False,
    )  # fmt: skip


def _strengths(at: Sequence[float], last: float) -> tuple[list[float], list[str]]:
    """Those that were tried, as far as there is room to name them."""
    ticks: list[float] = []
    for value in at:
        if not ticks or value - ticks[-1] >= 0.06 * last:
            ticks.append(value)
    return ticks, [f"{tick:g}" for tick in ticks]


def _perplexity_axis(axes: "Axes", known: Sequence[float]) -> None:
    low, high = min(known), max(known)
    if high / low < 8:
        axes.set_ylim(0, 1.1 * high)
        axes.yaxis.set_major_locator(steps(4))
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 1.6)
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    ticks = [tick for tick in powers if low / 1.6 <= tick <= high * 1.6]
    if len(ticks) < 2:
        ticks = [tick * step for tick in powers for step in (1, 2, 5) if low / 1.6 <= tick * step <= high * 1.6]
    axes.set_yticks(ticks[:: -(-len(ticks) // 6)], [f"{tick:,g}" for tick in ticks[:: -(-len(ticks) // 6)]])
    axes.set_yticks([], minor=True)
