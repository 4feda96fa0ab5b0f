"""Leaks: characters of a script that the wanted language is not written in, as Chinese ones in an English answer.

    share           of the answers that have such a character
    per_thousand    such characters in a thousand of all

One of them is what a reader notices first, and a language identifier last. Latin letters never count: where English words
stand among others is measured by the words (see `confusion`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..text.scripts import foreign


@dataclass(frozen=True)
class Leaks:
    """Of some answers; 0 where there are none."""

    share: float
    per_thousand: float


CLEAN = Leaks(0.0, 0.0)


def leaks(answers: Sequence[str], *languages: str) -> Leaks:
    """Count the leaks in answers that are to be in one of some languages."""
    strange = [min(len(foreign(answer, language)) for language in languages) for answer in answers]
    characters = sum(map(len, answers))
    return Leaks(sum(count > 0 for count in strange) / max(1, len(answers)), 1000 * sum(strange) / max(1, characters))
