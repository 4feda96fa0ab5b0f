"""Sets of tokens besides those of a script, which can be made less likely: what a model writes where it means no language.

    signs     tokens without a letter that are more than spaces and the signs of sentences: digits, marks, symbols;
              and those with a tag in them, such as `<strong>`
    spaces    tokens that are spaces and line breaks alone, of any kind

No token is in both.

A model that is steered to a language falls into rows of digits, lists, mark-up and empty lines where it is not sure; where
these are a little less likely, it stays in the language's words. They can still be written, so a set can't be silenced.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from . import unicode_scripts

Int64 = npt.NDArray[np.int64]

SIGNS = "signs"
SPACES = "spaces"
SETS = (SIGNS, SPACES)
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
        raise RecipeError(f"{error} Besides scripts there are {SIGNS} and {SPACES}, which can be quietened.") from None


def find_set(name: str, written: Sequence[bytes | None]) -> Int64:
    """Find the tokens of a set, by what each token writes (see `token_bytes`), sorted, int64 (n,)."""
    belongs = BELONGS[name]
    texts = (text.decode(errors="ignore") if text else "" for text in written)
    return np.array([number for number, text in enumerate(texts) if text and belongs(text)], np.int64)


def _is_sign(text: str) -> bool:
    letters = any(character.isalpha() for character in text)
    return bool(TAG.search(text)) or not (letters or text.isspace() or set(text) <= PLAIN)


BELONGS: dict[str, Callable[[str], bool]] = {SIGNS: _is_sign, SPACES: str.isspace}
