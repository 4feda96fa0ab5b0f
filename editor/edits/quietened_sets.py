"""Which tokens a recipe's sets have (see `token_sets`): signs by what they write, `not-XX` by what text uses."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..statistics.vocabulary import Vocabulary
from ..text.languages import listed
from ..text.silenced import Found
from ..text.token_sets import HARDLY, find_signs, language_of

Int64 = npt.NDArray[np.int64]


def tokens_of_sets(
    names: Sequence[str],
    written: Sequence[bytes | None],
    vocabulary: Vocabulary | None,
    rows: int,
    taken: Collection[int] = (),
) -> dict[str, Found]:
    """Return the tokens of each set, those that are `taken` left out; a token of two sets is of the first.

    `written` is what each token writes, `rows` the length of the output table. Raises RecipeError where there is no
    `vocabulary` with text in a language that a set names.
    """
    gone, found = np.array(sorted(taken), np.int64), {}
    for name in names:
        language = language_of(name)
        ids = find_signs(written) if language is None else hardly_used(vocabulary, language)
        ids = np.setdiff1d(ids[ids < rows], gone)
        found[name] = Found(ids, len(ids), 0, 0)
        gone = np.union1d(gone, ids)
    return found


def hardly_used(vocabulary: Vocabulary | None, language: str) -> Int64:
    """Return the tokens that text in other languages uses and text in `language` hardly does: P(language | t) < HARDLY."""
    counted = vocabulary.languages if vocabulary else ()
    if vocabulary is None or language not in counted:
        there = f" The text is in {listed(counted)}." if counted else ""
        raise RecipeError(
            f"which tokens {language} hardly uses is counted in text, and there is none in {language}.{there} Name some with "
            "`corpus`."
        )
    if len(counted) < 2:
        raise RecipeError(f"the text is in {language} alone, so no token is another language's. Add text in others.")
    ids = np.union1d(np.concatenate(list(vocabulary.ids.values())), vocabulary.unused)
    shares = vocabulary.shares(ids)
    some = np.sum(list(shares.values()), axis=0) > 0
    foreign: Int64 = ids[some & (shares[language] < HARDLY)]
    return foreign
