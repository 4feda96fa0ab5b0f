"""What every figure is drawn on: the themes' colours, axes by pixel, labels that fit.

Every figure is WIDTH pixels wide as shown, no text in it smaller than 11. Lines have colours that are told apart without
red and green (Okabe and Ito's), and dashes besides.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from ...editor.errors import MonoglotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDTH = 800  # pixels, as shown
MARGIN = 16
DPI = 100  # at which a figure is as many pixels as shown; files have twice as many
LONGEST = 12  # characters of a label
TEXT, SMALL, TITLE = 9.5, 8.5, 11.5  # points: 13, 12 and 16 pixels
CHARACTER = 0.64  # of the font's size: the width of a digit, letters are narrower


@dataclass(frozen=True)
class Look:
    """The colours of a theme.

    A heat map goes from `zero` to `cool`. A heat map of changes goes to `warm` above zero and to `cool` below.
    """

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
    """Whether matplotlib is there and can be imported."""
    try:
        return find_spec("matplotlib.figure") is not None  # imports the package
    except ImportError:
        return False


@contextmanager
def settings() -> Iterator[None]:
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


def new_figure(look: Look, height: float, title: str, below: str) -> "Figure":
    """Make an empty figure of WIDTH × height pixels with a title and a line below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=look.paper)
    FigureCanvasAgg(figure)
    left = MARGIN / WIDTH
    figure.text(left, 1 - 14 / height, title, size=TITLE, weight="bold", color=look.ink, va="top")
    figure.text(left, 1 - 40 / height, below, size=TEXT, color=look.muted, va="top")
    return figure


def new_axes(figure: "Figure", look: Look, left: float, top: float, width: float, height: float) -> "Axes":
    """Axes at a place in pixels from the upper left corner."""
    whole = figure.get_figheight() * DPI
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.set_facecolor(look.paper)
    axes.tick_params(colors=look.muted, labelsize=SMALL, length=0, pad=5)
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def plot_axes(figure: "Figure", look: Look, left: float, top: float, width: float, height: float) -> "Axes":
    """Make axes for lines: with a base line and faint horizontal ones."""
    axes = new_axes(figure, look, left, top, width, height)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(look.muted)
    axes.grid(axis="y", color=look.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=3, color=look.muted)
    return axes


def label(code: str) -> str:
    """Shorten a language's code to the room that there is."""
    text = "".join(character if character.isprintable() else "?" for character in str(code))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def pixels(text: str, points: float = TEXT) -> float:
    return len(text) * CHARACTER * points * DPI / 72


def steps(most: int, *, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most, steps=[1, 2, 5, 10], integer=integer)


def name_lines(
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
