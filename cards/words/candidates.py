"""A search among several ways, as a table: what each way gains and what it costs; the one that was taken is marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...editor.text import languages
from .amounts import change, count, number, or_dash

GAINED = {"off": "rise of its own log-loss"}
PAID = {"off": "most that another language loses"}


def title(found: Mapping[str, Any]) -> str:
    """Say what was searched for."""
    named = languages.listed(list(found["languages"]))
    return {"off": f"ways to switch {named} off"}[found["kind"]]


def columns(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the columns; after the first three comes the change of log-loss in each language."""
    return ("way", "neurons", GAINED[found["kind"]], PAID[found["kind"]], *_languages(found))


def rows(found: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Write a row for each way."""
    return tuple(
        (
            str(row["name"]),
            count(row.get("neurons")),
            or_dash(number(row["gain"]), change),
            or_dash(number(row["damage"]), change),
            *(or_dash(number((row.get("change") or {}).get(code)), change) for code in _languages(found)),
        )
        for row in found["rows"]
    )


def note(found: Mapping[str, Any]) -> str:
    """Say what was asked for, whether it was reached, and what text was read."""
    read = [f"{code} {count(tokens)}" for code, tokens in (found.get("tokens") or {}).items()]
    asked = (
        f"Asked for: {found.get('target_damage', 0):+g} nats, and no other language more than {found.get('spare', 0):+g}. "
        f"{'Reached' if found['reached'] else 'NOT reached: the way that was taken is the best of these'}."
    )
    text = f"Measured under hooks on text that is not that of the proof (tokens: {', '.join(read)})." if read else ""
    seen = list(found.get("seen") or ())
    also = f"In {languages.listed(seen)} there was no other text than that which neurons were found on." if seen else ""
    return " ".join(filter(None, (asked, text, also)))


def _languages(found: Mapping[str, Any]) -> Sequence[str]:
    return list(dict.fromkeys(code for row in found["rows"] for code in row.get("change") or {}))
