"""Show which languages a vocabulary knows."""

from typing import Any

import click

from ..console import answer, table


def show_vocabulary(found: Any, as_json: bool) -> None:
    """Each language's tokens, and which language shares most with it."""
    nearest = {}
    for code in found.languages:
        others = [other for other in found.languages if other != code]
        nearest[code] = max(((found.overlap(code, other), other) for other in others), default=None)
    if as_json:
        answer(
            {
                "model": vars(found.model),
                "rows": found.rows,
                "languages": {
                    code: {"tokens": found.tokens(code), "different": len(found.ids[code]), "nearest": nearest[code]}
                    for code in found.languages
                },
                "scripts": list(found.scripts),
                "by_script": len(found.unused),
            }
        )
        return
    table(
        f"{found.model.name}: {found.rows:,} tokens in its vocabulary",
        ("language", "tokens counted", "different ones", "most alike", "text of the same tokens"),
        [
            (
                code,
                f"{found.tokens(code):,}",
                f"{len(found.ids[code]):,}",
                *((near[1], f"{near[0]:.0%}") if (near := nearest[code]) else ("–", "–")),
            )
            for code in found.languages
        ],
    )
    if len(found.unused):
        click.echo(
            f"{len(found.unused):,} more tokens belong to languages by their script: {', '.join(found.scripts)}."
        )
