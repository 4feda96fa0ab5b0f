"""Facts beside their names, wrapped to the terminal."""

import textwrap
from collections.abc import Iterable

from ..terminal import say

MARGIN = 17  # columns
WIDEST = 110
Lines = Iterable[tuple[str, str]]


def show_lines(lines: Lines) -> None:
    """Print each fact beside its name, wrapped to the terminal."""
    import shutil

    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    for name, text in lines:
        head = f"{name:<{MARGIN - 1}} "
        text = "".join(one if one.isprintable() else "�" for one in text)  # a config may hold anything
        wrapped = textwrap.wrap(text, max(20, width - MARGIN), break_long_words=False, break_on_hyphens=False) or [""]
        say("\n".join((head if not at else " " * MARGIN) + line for at, line in enumerate(wrapped)))
