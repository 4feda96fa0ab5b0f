"""What was measured, as figures, for the card and the page; with matplotlib, which is an extra.

Every figure is 800 pixels wide as shown, no text in it smaller than 11, and drawn twice, for light and for dark pages, each
on a background of its own. Lines have colours that are told apart without red and green (Okabe and Ito's), and dashes
besides; heat maps are ramps of even steps in OKLab, a perceptual colour space. The same data and the same matplotlib give
the same bytes: nothing of the user's settings and no date goes in.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..editor.errors import MonoglotError
from ..editor.output import replace_file
from . import languages
from .amounts import NONE, change, count, number, or_dash, share
from .tables import KEPT, RANDOM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Float64 = npt.NDArray[np.float64]
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
FOLDER = "figures"
WIDTH = 800  # pixels, as shown
MARGIN = 16
DPI = 100  # at which a figure is as many pixels as shown; files have twice as many
MOST_LINES = 45  # pairs of languages that have a line each: those of ten languages
COLOURS = 128  # of a file
LONGEST = 12  # characters of a label
TEXT, SMALL, TITLE = 9.5, 8.5, 11.5  # points: 13, 12 and 16 pixels
CHARACTER = 0.64  # of the font's size: the width of a digit, letters are narrower


@dataclass(frozen=True)
class Look:
    """The colours of a theme. A heat map goes from `zero` to `cool`; one of changes to `warm` above zero
    and to `cool` below."""

    paper: str
    ink: str
    muted: str
    rule: str
    zero: str
    warm: str
    cool: str
    lines: tuple[str, str, str]


LOOKS: dict[Theme, Look] = {
    "light": Look(
        "#ffffff", "#1f2328", "#59636e", "#d1d9e0", "#eef1f4", "#b04600", "#005a8d", ("#0072b2", "#d55e00", "#009e73")
    ),
    "dark": Look(
        "#0d1117", "#e6edf3", "#9da7b1", "#30363d", "#1f262e", "#ffab40", "#7cc8f7", ("#56b4e9", "#e69f00", "#009e73")
    ),
}


def available() -> bool:
    return find_spec("matplotlib") is not None


def draw(
    evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None, theme: Theme = "light"
) -> dict[str, "Figure"]:
    """A figure for each part of the evaluation that has one, by the part's name; `strength` is the manifest's curve.
    Raises MonoglotError without matplotlib."""
    with _settings():
        found = {**evaluation, "strength": strength}
        drawn = {name: make(found[name], LOOKS[theme]) for name, make in DRAWN.items() if found.get(name)}
    for name, figure in drawn.items():
        if figure is not None:
            figure.set_label(f"{name}-{theme}")
    return {name: figure for name, figure in drawn.items() if figure is not None}


def write(folder: Path, evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None) -> list[Path]:
    """Save every figure as figures/{name}-{light,dark}.png in `folder`, each whole or not at all; their paths.
    Raises MonoglotError without matplotlib, OutputError."""
    made = {
        folder / FOLDER / f"{name}-{theme}.png": png(figure)
        for theme in THEMES
        for name, figure in draw(evaluation, strength, theme).items()
    }
    for path, data in made.items():
        replace_file(path, data)
    return sorted(made)


def png(figure: "Figure") -> bytes:
    """1600 pixels wide, in a palette of COLOURS: figures have few, and files stay small."""
    from PIL import Image

    buffer = BytesIO()
    with _settings():
        figure.savefig(buffer, format="png", dpi=2 * DPI)
    whole = Image.open(buffer).convert("RGB")
    buffer = BytesIO()
    whole.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def svg(figure: "Figure") -> str:
    """An <svg> element to stand in a page: text as text, ids that no other figure has, nothing that refers outside."""
    buffer = BytesIO()
    name = re.sub(r"\W", "-", str(figure.get_label()))
    with _settings():
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL
    )  # of the whole page
    text = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(\sid="|\shref="#|url\(#)', rf"\g<1>{name}-", text)
    return text.strip()


@contextmanager
def _settings() -> Iterator[None]:
    """matplotlib's own defaults with these, whatever the user has set."""
    if not available():
        raise MonoglotError("figures need matplotlib, which is not installed: pip install 'monoglot[plots]'")
    from matplotlib import style

    own = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # the first comes with matplotlib
        "font.size": TEXT,
        "svg.fonttype": "none",
        "svg.hashsalt": "monoglot",
        "text.parse_math": False,  # a language's code is no formula
    }
    with style.context(["default", own]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # an odd code is shown as boxes
        yield


# --- canvas ----------------------------------------------------------------------------------------------------------


def _figure(look: Look, height: float, title: str, below: str) -> "Figure":
    """An empty figure of WIDTH × height pixels with a title and a line below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=look.paper)
    FigureCanvasAgg(figure)
    left = MARGIN / WIDTH
    figure.text(left, 1 - 14 / height, title, size=TITLE, weight="bold", color=look.ink, va="top")
    figure.text(left, 1 - 40 / height, below, size=TEXT, color=look.muted, va="top")
    return figure


def _axes(figure: "Figure", look: Look, left: float, top: float, width: float, height: float) -> "Axes":
    """Axes at a place in pixels from the upper left corner."""
    whole = figure.get_figheight() * DPI
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.set_facecolor(look.paper)
    axes.tick_params(colors=look.muted, labelsize=SMALL, length=0, pad=5)
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def _plot_axes(figure: "Figure", look: Look, left: float, top: float, width: float, height: float) -> "Axes":
    """The same for lines: with a base line and faint horizontal ones."""
    axes = _axes(figure, look, left, top, width, height)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(look.muted)
    axes.grid(axis="y", color=look.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=3, color=look.muted)
    return axes


def _label(code: str) -> str:
    """A language's code, as there is room for."""
    text = "".join(character if character.isprintable() else "?" for character in str(code))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _pixels(text: str, points: float = TEXT) -> float:
    return len(text) * CHARACTER * points * DPI / 72


# --- heat maps -------------------------------------------------------------------------------------------------------


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
    """`groups` of rows, a gap between them, by name; a cell is coloured by its number, from `limits`, and says what
    `written` makes of row, column and number. NaN is an empty cell. The cells where a language meets itself are framed.
    `scale` is what the colours mean; it is shown where the cells don't say it themselves: unless `plain`, and where there is
    no room for numbers."""
    rows = [(name, values, at) for at, group in enumerate(groups) for name, values in group.items()]
    texts = [
        [written(name, code, value) for code, value in zip(columns, values, strict=True)] for name, values, _ in rows
    ]
    labels, heads = (
        [_label(name) if name not in KEPT.values() else name for name, *_ in rows],
        list(map(_label, columns)),
    )
    left = MARGIN + max(map(_pixels, labels), default=0) + 8
    wide = min(96.0, (WIDTH - MARGIN - left) / max(1, len(columns)))
    high, gap = (34.0, 10.0) if len(rows) <= 16 else (26.0, 10.0)
    upright = max(map(_pixels, heads), default=0) > wide - 4
    top = 72 + (max(map(_pixels, heads), default=0) if upright else 18)
    widest = max((len(text) for line in texts for text in line), default=1)
    points = next((size for size in (TEXT, 9.0, SMALL, 8.0) if _pixels("0" * widest, size) <= wide - 4), None)
    scaled = points is None or not plain
    body = len(rows) * high + gap * (len(groups) - 1)
    figure = _figure(look, top + body + (64 if scaled else MARGIN), title, below)
    axes = _axes(figure, look, left, top, wide * len(columns), body)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(body, 0)
    axes.xaxis.tick_top()
    places = [number_of_row * high + at * gap for number_of_row, (_, _, at) in enumerate(rows)]
    axes.set_xticks(np.arange(len(columns)) + 0.5, heads, rotation=90 if upright else 0)
    axes.set_yticks([place + high / 2 for place in places], labels)
    axes.tick_params(labelsize=TEXT, labelcolor=look.ink)
    ramp = _ramp(look, limits)
    for (name, values, _), line, place in zip(rows, texts, places, strict=True):
        numbers = np.ma.masked_invalid(np.array([values], np.float64))  # (1, columns)
        axes.pcolormesh(
            np.arange(len(columns) + 1), [place, place + high], numbers, cmap=ramp, vmin=limits[0], vmax=limits[1],
            edgecolors=look.paper, linewidth=1.5,
        )  # fmt: skip
        for column, (code, value, text) in enumerate(zip(columns, values, line, strict=True)):
            known = (value - limits[0]) / (limits[1] - limits[0])
            colour = look.muted if math.isnan(value) else _readable(ramp(known))
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
    axes = _axes(figure, look, left, top, 220, 10)
    steps = np.linspace(*limits, 65)
    axes.pcolormesh(steps, [0, 1], [(steps[1:] + steps[:-1]) / 2], cmap=ramp, vmin=limits[0], vmax=limits[1])
    axes.set_yticks([])
    ticks = [limits[0], (limits[0] + limits[1]) / 2, limits[1]]
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.text(1.04, 0.5, scale, transform=axes.transAxes, size=SMALL, color=look.muted, va="center_baseline")


def _ramp(look: Look, limits: tuple[float, float]) -> "Colormap":
    """From `zero` to `cool`, or from `cool` over `zero` to `warm` where there are two sides, in even steps of OKLab."""
    from matplotlib.colors import ListedColormap

    ends = [look.cool, look.zero, look.warm] if limits[0] < 0 else [look.zero, look.cool]
    corners = np.array([_oklab(end) for end in ends])  # (2 or 3, 3)
    at = np.linspace(0, len(ends) - 1, 257)
    lab = np.stack([np.interp(at, np.arange(len(ends)), corner) for corner in corners.T], axis=1)  # (257, 3)
    return ListedColormap(np.array([_rgb(colour) for colour in lab]))


# Ottosson's OKLab: linear sRGB → cone responses, cube root → lightness and two opponent colours
CONES = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                  [0.2119034982, 0.6806995451, 0.1073969566],
                  [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
OPPONENT = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                     [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def _linear(colour: Any) -> Float64:
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _oklab(colour: Any) -> Float64:
    return np.asarray(OPPONENT @ np.cbrt(CONES @ _linear(colour)), np.float64)


def _rgb(lab: Float64) -> Float64:
    linear = np.clip(np.linalg.solve(CONES, np.linalg.solve(OPPONENT, lab) ** 3), 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _readable(colour: Any) -> str:
    """Black or white, whichever stands out more from a colour (the contrast of WCAG 2)."""
    luminance = float(np.array([0.2126, 0.7152, 0.0722]) @ _linear(colour[:3]))
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def _perplexity(found: Mapping[str, Any], look: Look) -> "Figure":
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


def _deactivate_each(found: Mapping[str, Any], look: Look) -> "Figure":
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


def _overlap(found: Mapping[str, Any], look: Look) -> "Figure":
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


# --- layers ----------------------------------------------------------------------------------------------------------


def _profile(found: Mapping[str, Any], look: Look) -> "Figure | None":
    """A small chart for each language, all with the same axes."""
    counts = {code: np.array([number(count) for count in row]) for code, row in found["layers"].items() if len(row)}
    if not counts:
        return None
    shares = {code: np.nan_to_num(row) / max(1.0, np.nansum(row)) for code, row in counts.items()}
    columns = min(len(counts), 4 if len(counts) <= 12 else 5)
    rows = -(-len(counts) // columns)
    left, between, high, below = MARGIN + 36, 18, (150 if rows <= 2 else 110), 58
    wide = (WIDTH - left - MARGIN - between * (columns - 1)) / columns
    figure = _figure(
        look,
        68 + rows * (high + below) + 12,
        "A language's neurons by layer",
        "share of them in each layer, and how many in all",
    )
    depth, tallest = max(map(len, shares.values())), max(float(row.max()) for row in shares.values()) or 1.0
    for at, (code, row) in enumerate(shares.items()):
        down, across = divmod(at, columns)
        axes = _plot_axes(figure, look, left + across * (wide + between), 68 + down * (high + below) + 24, wide, high)
        axes.stairs(row, np.arange(len(row) + 1) - 0.5, fill=True, color=look.lines[0], linewidth=0)
        axes.set_xlim(-0.5, depth - 0.5)
        axes.set_ylim(0, tallest * 1.05)
        axes.set_xticks(sorted({0, depth // 2, depth - 1}))
        axes.yaxis.set_major_locator(_steps(3))
        axes.yaxis.set_major_formatter(lambda value, _: share(value) if tallest > 0.04 else f"{value:.1%}")
        if across:
            axes.tick_params(axis="y", labelleft=False)
        total = np.nansum(counts[code])
        axes.text(0, 1 + 8 / high, _label(code), transform=axes.transAxes, size=TEXT, weight="bold", color=look.ink)
        axes.text(
            1, 1 + 8 / high, f"{count(total)}", transform=axes.transAxes, size=SMALL, color=look.muted, ha="right"
        )
        if at == len(shares) - 1 or down == rows - 1:
            axes.set_xlabel("layer", size=SMALL, color=look.muted, labelpad=2)
    return figure


def _steps(most: int, *, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most, steps=[1, 2, 5, 10], integer=integer)


# --- lines -----------------------------------------------------------------------------------------------------------


def _similarity(found: Mapping[str, Any], look: Look) -> "Figure | None":
    """The pairs as thin lines, or where they are many as a band; their mean, and what it is held against, as thick ones."""
    pairs = [[number(value) for value in row] for row in (found.get("pairs") or {}).values()]
    curves = {key: [number(value) for value in found.get(key) or []] for key in CURVES}
    curves = {key: row for key, row in curves.items() if not all(map(math.isnan, row))}
    if "mean" not in curves:
        return None
    depth = max(map(len, (*curves.values(), *pairs)))
    figure = _figure(
        look,
        420,
        "Similarity of texts in two languages by layer",
        "SES: mean cosine of the hidden states, pooled over a text",
    )
    axes = _plot_axes(figure, look, MARGIN + 40, 76, WIDTH - MARGIN - 40 - 190, 290)
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
    axes.xaxis.set_major_locator(_steps(10, integer=True))
    axes.yaxis.set_major_locator(_steps(6))
    axes.set_xlabel("layer (0: the embeddings)", size=SMALL, color=look.muted)
    _name_lines(axes, look, [(row, CURVES[key][0]) for key, row in curves.items()])
    return figure


# The label, which of the theme's colours, the width, dashes and marks of each curve.
CURVES: dict[str, tuple[str, int, float, Any, str]] = {
    "mean": ("translations", 0, 2.4, "solid", "o"),
    "unrelated": ("unrelated texts", 1, 2.0, (0, (5, 3)), "s"),
    "centred": ("translations, centred", 2, 2.0, (0, (8, 2, 2, 2)), "^"),
    "centred_unrelated": ("unrelated, centred", 2, 1.4, (0, (1.5, 2)), ""),
}


def _strength(found: Mapping[str, Any], look: Look) -> "Figure | None":
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
    title = f"Answers in {languages.name(_label(found['language']))} by strength"
    below = "the base under hooks" + ("; diamonds: the checkpoint itself" if final else "")
    figure = _figure(look, 560 if known else 370, title, below)
    width = WIDTH - MARGIN - 44 - 190
    shares = _plot_axes(figure, look, MARGIN + 44, 76, width, 230)
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
    _name_lines(shares, look, ends, at)
    if known:
        panels.append(_plot_axes(figure, look, MARGIN + 44, 352, width, 140))
        panels[1].plot(at, perplexity, color=look.lines[2], linewidth=2.2, marker="^", markersize=6)
        named = [(perplexity, "perplexity of\nthe answers")]
        real = number((found.get("real") or {}).get("perplexity"))
        if real > 0:
            panels[1].axhline(real, color=look.muted, linewidth=1.4, linestyle=(0, (2, 2)))
            named.append(([real], "real text"))
        if final:
            _diamond(panels[1], look, final, "perplexity", look.lines[2])
        _perplexity_axis(panels[1], [*known, real] if real > 0 else known)
        _name_lines(panels[1], look, named, at)
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
        axes.yaxis.set_major_locator(_steps(4))
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 1.6)
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    ticks = [tick for tick in powers if low / 1.6 <= tick <= high * 1.6]
    if len(ticks) < 2:
        ticks = [tick * step for tick in powers for step in (1, 2, 5) if low / 1.6 <= tick * step <= high * 1.6]
    axes.set_yticks(ticks[:: -(-len(ticks) // 6)], [f"{tick:,g}" for tick in ticks[:: -(-len(ticks) // 6)]])
    axes.set_yticks([], minor=True)


def _name_lines(
    axes: "Axes", look: Look, ends: Sequence[tuple[Sequence[float], str]], at: Sequence[float] | None = None
) -> None:
    """Write each line's name to the right of its end; names that would lie on each other move apart."""
    height = axes.get_window_extent().height  # pixels
    low, high = axes.get_ylim()
    known = [([value for value in row if not math.isnan(value)], name) for row, name in ends]
    bottom, top = axes.transData.transform([(0, low), (0, high)])[:, 1]
    places = sorted(
        (min(max(axes.transData.transform((0, row[-1]))[1] - bottom, 0), top - bottom), name)
        for row, name in known
        if row
    )
    below = -math.inf
    for place, name in places:
        room = 17 * (1 + name.count("\n"))
        centre = max(place, below + room / 2)
        below = centre + room / 2
        axes.text(
            1.02,
            centre / height,
            name,
            transform=axes.transAxes,
            size=TEXT,
            color=look.ink,
            va="center",
            linespacing=1.25,
        )


DRAWN: dict[str, Callable[[Mapping[str, Any], Look], "Figure | None"]] = {
    "perplexity": _perplexity,
    "deactivate_each": _deactivate_each,
    "strength": _strength,
    "profile": _profile,
    "overlap": _overlap,
    "similarity": _similarity,
}
