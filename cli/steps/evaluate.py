"""Show what was measured."""

from collections.abc import Mapping
from typing import Any

from ..console import print_tables
from ..terminal import say


def show_findings(found: Mapping[str, Any], samples: int) -> None:
    """Tables of what was measured, then the first answers."""
    from ...cards.words import tables

    print_tables(tables.every(found))
    for measured in found.values():
        for sample in measured.get("samples", [])[: samples * 100]:
            say(f"{sample['language']}     {sample['prompt']} …")
            for name, text in sample.items():
                if name not in ("language", "prompt"):
                    say(f"  {name:<14} … {' '.join(text.split())}")


def show_answers(found: Mapping[str, Any], search: Mapping[str, Any] | None) -> None:
    """Show what a checkpoint said when it was asked again, and how that agrees with what the search saw."""
    from ...cards.words import candidates

    show_findings(found, 1)
    if said := candidates.beside(search, found.get("activated")):
        say(said)
