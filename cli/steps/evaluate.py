"""Show what was measured."""

from typing import Any

from ..console import print_tables
from ..terminal import say


def show_findings(found: dict[str, Any], samples: int) -> None:
    """Tables of what was measured, then the first answers."""
    from ...cards.words import tables

    print_tables(tables.every(found))
    for measured in found.values():
        for sample in measured.get("samples", [])[: samples * 100]:
            say(f"{sample['language']}     {sample['prompt']} …")
            for name, text in sample.items():
                if name not in ("language", "prompt"):
                    say(f"  {name:<14} … {' '.join(text.split())}")
