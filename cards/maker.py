"""The card as the library takes it: the functions of this room in one value, which import what is heavy when called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..editor.edits.card_maker import CardMaker, Describe


def _writer(method: dict[str, Any]) -> Describe:
    from .render import card_writer

    return card_writer(method)


def _renew(folder: Path, record: dict[str, Any], method: dict[str, Any], base_folder: Path) -> tuple[str, ...]:
    from .refresh import renew

    return renew(folder, record, method, base_folder)


def _draw(folder: Path, evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None) -> list[Path]:
    """Draw where matplotlib is installed."""
    from .figures import draw
    from .figures.canvas import available

    return draw.write(folder, evaluation, strength) if available() else []


CARD = CardMaker(_writer, _renew, _draw)
