"""Figures of what was measured, for the card and the page; they need matplotlib, which is an extra.

A figure is drawn for light and for dark pages, each on a background of its own. The card has the light one: on a dark page
too it can be read. The same data and the same matplotlib give the same bytes: nothing of the user's settings and no date
goes in.
"""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...editor.files.together import replace_together
from . import candidates, curves, heat_maps
from .canvas import DPI, LOOKS, THEMES, Look, Theme, available, settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DRAWN", "THEMES", "Theme", "available", "draw", "file", "png", "svg", "write"]

FOLDER = "figures"
COLOURS = 128  # of a file

DRAWN: dict[str, Callable[[Mapping[str, Any], Look], "Figure | None"]] = {
    "candidates": candidates.candidates,
    "perplexity": heat_maps.perplexity,
    "deactivate_each": heat_maps.deactivate_each,
    "strength": curves.strength,
    "profile": curves.profile,
    "overlap": heat_maps.overlap,
    "similarity": curves.similarity,
}


def draw(
    evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None, theme: Theme = "light"
) -> dict[str, "Figure"]:
    """Draw a figure for each part of the evaluation that has one, by the part's name.

    `strength` is the manifest's curve. Raises MonoglotError without matplotlib.
    """
    with settings():
        found = {**evaluation, "strength": strength}
        drawn = {name: make(found[name], LOOKS[theme]) for name, make in DRAWN.items() if found.get(name)}
    for name, figure in drawn.items():
        if figure is not None:
            figure.set_label(f"{name}-{theme}")
    return {name: figure for name, figure in drawn.items() if figure is not None}


def file(name: str) -> str:
    """Where a checkpoint keeps a figure."""
    return f"{FOLDER}/{name}.png"


def write(folder: Path, evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None) -> list[Path]:
    """Save every figure, for light pages, in `folder`, all or none, and return their paths.

    Raises MonoglotError without matplotlib, OutputError when a file cannot be written.
    """
    made = images(evaluation, strength)
    replace_together(folder, made)
    return sorted(folder / name for name in made)


def images(evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """Draw every figure, for light pages, by the name of its file in a checkpoint.

    Raises MonoglotError without matplotlib.
    """
    return {file(name): png(figure) for name, figure in draw(evaluation, strength).items()}


def png(figure: "Figure") -> bytes:
    """1600 pixels wide, in a palette of COLOURS: figures have few, and files stay small."""
    from PIL import Image

    buffer = BytesIO()
    with settings():
        figure.savefig(buffer, format="png", dpi=2 * DPI)
    whole = Image.open(buffer).convert("RGB")
    buffer = BytesIO()
    whole.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def svg(figure: "Figure") -> str:
    """Return an <svg> element that can stand in a page: text as text, ids of its own, no links to the outside."""
    buffer = BytesIO()
    name = re.sub(r"\W", "-", str(figure.get_label()))
    with settings():
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
