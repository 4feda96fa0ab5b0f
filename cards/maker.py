"""The card functions, collected in one object that is passed to the library. Slow imports happen only when one is called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..editor.edits.card_maker import CardMaker, Describe
from ..editor.edits.manifest import Manifest


def _writer(method: dict[str, Any]) -> Describe:
    from .render import card_writer

    return card_writer(method)


def _renew(
    folder: Path, manifest: Manifest, method: dict[str, Any], base_folder: Path, more: Mapping[str, bytes]
) -> tuple[str, ...]:
    from .refresh import renew

    return renew(folder, manifest, method, base_folder, more=more)


def _draw(evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None) -> dict[str, bytes]:
    """Draw where matplotlib is installed."""
    from .figures import draw
    from .figures.canvas import available

    return draw.images(evaluation, strength) if available() else {}


CARD = CardMaker(_writer, _renew, _draw)
