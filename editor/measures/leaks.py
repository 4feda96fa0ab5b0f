"""Leaks: characters of a script that the wanted language is not written in, as Chinese ones in an English answer.

    share           of the answers that have such a character
    per_thousand    such characters in a thousand of all

One of them is what a reader notices first, and a language identifier last. Latin letters never count: where English words
stand among others is measured by the words (see `confusion`).

Or characters of a script that isn't to be written at all, in what comes before `</think>` and in the answer apart.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..text.scripts import foreign
from ..text.unicode_scripts import characters

THINK, END = "<think>", "</think>"


@dataclass(frozen=True)
class Leaks:
    """Of some answers; 0 where there are none."""

    share: float
    per_thousand: float


CLEAN = Leaks(0.0, 0.0)


def leaks(answers: Sequence[str], *languages: str) -> Leaks:
    """Count the leaks in answers that are to be in one of some languages."""
    strange = [min(len(foreign(answer, language)) for language in languages) for answer in answers]
    return _counted(answers, strange)


def leaks_of_scripts(answers: Sequence[str], scripts: Sequence[str], spared: Collection[str] = ()) -> Leaks:
    """Count the characters of scripts, but for those that are `spared`."""
    strange = frozenset().union(*map(characters, scripts)) - set(spared)
    return _counted(answers, [sum(character in strange for character in answer) for answer in answers])


def thought_and_answer(text: str) -> tuple[str | None, str]:
    """Cut what a model thought from its answer; None where it didn't think. A thought without an end is all that there is."""
    thought, end, answer = text.partition(END)
    if end:
        return thought.replace(THINK, ""), answer
    return (text.partition(THINK)[2], "") if THINK in text else (None, text)


def _counted(answers: Sequence[str], strange: Sequence[int]) -> Leaks:
    length = sum(map(len, answers))
    return Leaks(sum(count > 0 for count in strange) / max(1, len(answers)), 1000 * sum(strange) / max(1, length))
