"""Sets of tokens besides those of a script, which can be made less likely: what a model writes where it means no language.

    signs     tokens without a letter that are more than spaces and the signs of sentences: digits, marks, symbols;
              and those with a tag in them, such as `<strong>`

A model that is steered to a language falls into rows of digits, lists and mark-up where it is not sure; where these are a
little less likely, it stays in the language's words. They can still be written, so a set can't be silenced.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from . import unicode_scripts

Int64 = npt.NDArray[np.int64]

SIGNS = "signs"
SETS = (SIGNS,)
# Spaces, and signs of sentences.
PLAIN = frozenset(" \t\r\n\u00a0\u3000.,;:!?'\"()-–—…¡¿«»‘’“”、。，．：；！？（）「」『』")
TAG = re.compile(r"</?[A-Za-z]")


def known(name: str) -> str:
    """Return a script or a set by its name, whatever its case. Raises RecipeError for an unknown one."""
    if (wanted := name.strip().lower()) in SETS:
        return wanted
    try:
        return unicode_scripts.known(name)
    except RecipeError as error:
        raise RecipeError(f"{error} Besides scripts there is {SIGNS}, which can be quietened.") from None


def find_signs(written: Sequence[bytes | None]) -> Int64:
    """Find the signs, by what each token writes (see `token_bytes`), sorted, int64 (n,)."""
    found = []
    for number, text in enumerate(written):
        said = text.decode(errors="ignore") if text else ""
        letters = any(character.isalpha() for character in said)
        if TAG.search(said) or not (letters or set(said) <= PLAIN):
            found.append(number)
    return np.array(found, np.int64)
