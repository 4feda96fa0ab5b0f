"""Sets of tokens besides those of a script, which can be made less likely: what a model writes where it means no language.

    signs     tokens without a letter that are no plain punctuation: digits, marks, and mark-up such as `<strong>`
    not-XX    tokens that text in other languages uses, and text in the language XX hardly does: P(XX | t) < HARDLY

A model that is steered to a language falls into rows of digits, lists and mark-up where it is not sure; a set that is a
little less likely keeps it in the language's words. A token of a set can still be written, so none can be silenced.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from . import unicode_scripts
from .languages import is_code

Int64 = npt.NDArray[np.int64]

SIGNS, NOT = "signs", "not-"
HARDLY = 0.02  # of a token's occurrences in equally long texts
PLAIN = frozenset(" \t\r\n\u00a0\u3000.,;:!?'\"()-–—…¡¿«»‘’“”、。，．：；！？（）「」『』")  # spaces, and signs of sentences
TAG = re.compile(r"</?[A-Za-z]")


def known(name: str) -> str:
    """Return a script or a set by its name, whatever its case. Raises RecipeError for an unknown one."""
    wanted = name.strip().lower()
    if wanted == SIGNS:
        return SIGNS
    if wanted.startswith(NOT) and is_code(wanted.removeprefix(NOT)):
        return wanted
    try:
        return unicode_scripts.known(name)
    except RecipeError as error:
        raise RecipeError(f"{error} Besides scripts there are {SIGNS}, and {NOT}XX for a language XX.") from None


def language_of(name: str) -> str | None:
    """Return the language XX of `not-XX`, None for anything else."""
    return name.removeprefix(NOT) if name.startswith(NOT) else None


def is_set(name: str) -> bool:
    """Whether it names a set, and no script."""
    return name == SIGNS or name.startswith(NOT)


def find_signs(written: Sequence[bytes | None]) -> Int64:
    """Find the signs, by what each token writes (see `token_bytes`), sorted, int64 (n,)."""
    found = []
    for number, text in enumerate(written):
        said = text.decode(errors="ignore") if text else ""
        letters = any(character.isalpha() for character in said)
        if TAG.search(said) or (said and not letters and not set(said) <= PLAIN):
            found.append(number)
    return np.array(found, np.int64)
