"""Which characters a language's text writes with: what has to stay writable, and what a language needs a script for."""

from collections import Counter
from collections.abc import Iterator, Mapping

from .corpus import Text
from .unicode_scripts import scripts_in

LATIN = "Latin"  # names, units and markup are written in it everywhere
MOST = 1_000_000  # characters of a language that are looked at
NEEDED = 0.01  # of a language's letters: what a script has at least that the language needs
WRITTEN_IN = 0.9  # of a language's letters, Latin ones left out: what the script has at least that it is written in


def count_characters(text: Text) -> Counter[str]:
    """Count the characters of a text, in its first documents."""
    counts: Counter[str] = Counter()
    for document in _first(text.documents()):
        counts.update(document)
    return counts


def _first(documents: Iterator[str]) -> Iterator[str]:
    seen = 0
    for document in documents:
        yield document[: MOST - seen]
        seen += len(document)
        if seen >= MOST:
            return


def share_of(script: str, counts: Mapping[str, int], *, latin: bool = True) -> float:
    """Return the share of a script among the letters that were counted, 0 … 1; without `latin` among those of others."""
    by_script: Counter[str] = Counter()
    for character, count in counts.items():
        for found in scripts_in(character):
            by_script[found] += count
    whole = by_script.total() - (0 if latin or script == LATIN else by_script[LATIN])
    return by_script[script] / max(1, whole)
