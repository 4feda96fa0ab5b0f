"""A table of text, and how it is written in Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .foreign import cell


@dataclass(frozen=True)
class Table:
    """A table of text.

    The first column names the row, the others hold figures. `marked` are the cells (row, column) to be set apart, such as
    those where a language meets itself.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marked: frozenset[tuple[int, int]] = frozenset()


def with_title(table: Table) -> str:
    """Write a table in Markdown, with its title and its note."""
    return "\n\n".join(filter(None, (f"**{cell(table.title)}**", grid(table), cell(table.note))))


def grid(table: Table) -> str:
    """Write a table in Markdown, without its title and note."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def written(text: str, marked: bool) -> str:
        return f"**{cell(text)}**" if marked and text.strip() else cell(text)

    body = (
        [written(text, (number, column) in table.marked) for column, text in enumerate(row)]
        for number, row in enumerate(table.rows)
    )
    return "\n".join((line(map(cell, table.columns)), "|" + "---|" * len(table.columns), *map(line, body)))


def matrix(
    rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str], written: Callable[[Mapping[str, Any], str], str]
) -> tuple[tuple[str, ...], ...]:
    """Write every figure of a matrix; rows begin with their names."""
    return tuple((name, *(written(row, code) for code in columns)) for name, row in rows.items())


def diagonal(rows: Iterable[str], columns: Sequence[str], right: int = 1) -> frozenset[tuple[int, int]]:
    """Return the cells where a language meets itself; `right` columns stand before the languages'."""
    return frozenset((row, columns.index(name) + right) for row, name in enumerate(rows) if name in columns)


def present(keys: Iterable[str], figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return those of the keys that any of the figures has."""
    known = list(figures)
    return [key for key in keys if any(row.get(key) is not None for row in known)]
