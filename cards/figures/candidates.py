"""A search among several ways as a figure: what each gains against what it costs, a point a way."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..words.amounts import number
from ..words.candidates import GAINED, PAID, UNIT, title
from .canvas import MARGIN, SMALL, WIDTH, Look, new_figure, plot_axes, steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIGH = 300  # pixels


def candidates(found: Mapping[str, Any], look: Look) -> "Figure | None":
    """Draw the ways by their numbers in the table; the one that was taken as a diamond."""
    known = [(at, number(row["damage"]), number(row["gain"])) for at, row in enumerate(found["rows"])]
    points = [point for point in known if point[1] == point[1] and point[2] == point[2]]
    if not points:
        return None
    figure = new_figure(
        look,
        76 + HIGH + 60,
        _capital(title(found)),
        "upper left is best; the numbers are the table's rows; the diamond is what was taken",
    )
    axes = plot_axes(figure, look, MARGIN + 52, 76, WIDTH - 2 * MARGIN - 62, HIGH)
    for at, damage, gain in points:
        taken = at == found["chosen"]
        axes.plot(
            [damage], [gain], marker="D" if taken else "o", markersize=10 if taken else 7, linestyle="none",
            color=look.lines[1] if taken else look.lines[0], clip_on=False, zorder=3,
        )  # fmt: skip
        axes.annotate(
            str(at + 1), (damage, gain), xytext=(7, 5), textcoords="offset points", size=SMALL, color=look.ink
        )
    if (spare := number(found.get("spare"))) == spare and found["kind"] == "off":
        axes.axvline(spare, color=look.muted, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.xaxis.set_major_locator(steps(8))
    axes.yaxis.set_major_locator(steps(6))
    axes.margins(0.08)
    axes.set_xlabel(f"{PAID[found['kind']]}, nats a token", size=SMALL, color=look.muted)
    axes.set_ylabel(f"{GAINED[found['kind']]}, {UNIT[found['kind']]}", size=SMALL, color=look.muted)
    return figure


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
