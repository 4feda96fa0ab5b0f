"""The functions with which the library writes model cards.

`cards` is built on top of the library, which may not import it, so the caller passes them in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import manifest_files
from .manifest import Manifest

Describe = Callable[[Manifest, Path], str]  # manifest, folder of the base -> README.md
Files = Mapping[str, bytes]  # by their names in the checkpoint


def _only_manifest(
    folder: Path, manifest: Manifest, method: dict[str, Any], base_folder: Path, more: Files
) -> tuple[str, ...]:
    manifest_files.write_with(folder, manifest, more)
    return ()


def _no_figures(evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None) -> Files:
    return {}


@dataclass(frozen=True)
class CardMaker:
    """Functions that make a checkpoint's card and figures.

    `writer` gives, for a method of finding neurons, what writes the card of a new checkpoint; None makes none. `renew` writes
    a changed manifest and more files that it is to list, renews the card with them, and gives what a person should read.
    `draw` draws the figures of what was measured, and gives their files.
    """

    writer: Callable[[dict[str, Any]], Describe] | None = None
    renew: Callable[[Path, Manifest, dict[str, Any], Path, Files], tuple[str, ...]] = _only_manifest
    draw: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Files] = _no_figures

    def describe(self, method: dict[str, Any]) -> Describe | None:
        """Give what `bake` writes the card with."""
        return self.writer(method) if self.writer else None


NO_CARD = CardMaker()
