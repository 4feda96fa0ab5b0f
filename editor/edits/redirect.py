"""Redirecting: which tokens move, and by how much.

With μ_k the centre of language k in the embedding table and P(s | t) the share of language s in token t (see `vocabulary`),
and source languages s that are each redirected to a target T_s with strength k_s:

    e_t  →  e_t + Σ_s P(s | t) · k_s · (μ_{T_s} − μ_s)

So text in s is read as text in T_s, and answered in it. A token that only other languages use is not touched, and one that
several share moves by the sources' share. The output table keeps the base's rows.

A vector at the embedding moves every row alike, special ones too: v_T = μ_T − the mean of the other languages' centres, and

    e_t  →  e_t + k · v_T

Where the output has the same table, every logit of a position then moves by the same h·k·v_T, so no probability changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..models.embedding import open_embedding
from ..models.target import Target
from ..statistics.vocabulary import Vocabulary
from .recipe import Edit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

APART = 1e-3  # of the centres' size: nearer to each other, two centres are one
ALIKE = 0.5  # overlap of two languages' tokens above which redirecting one to the other moves little


@dataclass(frozen=True)
class Redirection:
    """The tokens that move.

    Sorted, int64 (n,), the share of each source language in them, float64 (n, S), and how far the languages move, float64
    (S, d).
    """

    ids: Int64
    shares: Float64
    moves: Float64

    def deltas(self, part: slice) -> Float64:
        """Return what is added to the rows of ids[part], float64 (m, d).

        Added up one language after the other, so that every machine gives the same bits.
        """
        shares = self.shares[part]
        total = np.zeros((len(shares), self.moves.shape[1]))
        for source, move in enumerate(self.moves):
            total += shares[:, source, None] * move
        return total


def redirection(edits: Sequence[Edit], vocabulary: Vocabulary, vectors: Sequence[Edit] = ()) -> Redirection:
    """Find out which tokens the redirecting edits of a recipe move, and the vectors that all of them are moved by.

    Raises RecipeError for a language that the vocabulary doesn't have, for two whose centres are the same, and for a
    vocabulary of one language, which has no vector.
    """
    _check_known(edits, vocabulary)
    for edit in edits:
        _check_apart(vocabulary, edit.language, str(edit.to))
    whole = np.arange(vocabulary.rows) if vectors else np.zeros(0, np.int64)
    ids = np.unique(np.concatenate([whole, *(vocabulary.tokens_of(edit.language) for edit in edits)]))
    shares = vocabulary.shares(ids) if edits else {}
    centres = vocabulary.centres
    moves = [float(edit.strength or 0) * (centres[str(edit.to)] - centres[edit.language]) for edit in edits]
    moves += [float(edit.strength or 0) * vector_of(edit.language, vocabulary) for edit in vectors]
    columns = [shares[edit.language] for edit in edits] + [np.ones(len(ids))] * len(vectors)
    return Redirection(ids, np.stack(columns, axis=1), np.stack(moves))


def vector_of(language: str, vocabulary: Vocabulary) -> Float64:
    """Return a language's vector at the embedding, float64 (d,). Raises RecipeError where there is none."""
    _check_known([Edit(language, "vector", to=language)], vocabulary)
    others = [centre for other, centre in vocabulary.centres.items() if other != language]
    if not others:
        raise RecipeError(
            f"the vocabulary has text in {language} alone, so nothing tells {language} from others. Count more languages."
        )
    mean = np.stack(others).mean(axis=0)
    own: Float64 = vocabulary.centres[language]
    if not np.linalg.norm(own - mean) > APART * max(np.linalg.norm(own), np.linalg.norm(mean)):
        raise RecipeError(
            f"the tokens of {language} have the centre that all others have, so it has no vector. Is it the same text twice?"
        )
    found: Float64 = own - mean
    return found


def _check_known(edits: Sequence[Edit], vocabulary: Vocabulary) -> None:
    for language in (language for edit in edits for language in (edit.language, str(edit.to))):
        if language not in vocabulary.ids:
            raise RecipeError(
                f"the vocabulary has no text in {language!r}; it has {', '.join(vocabulary.languages)}. Count it with the "
                "others."
            )


def _check_apart(vocabulary: Vocabulary, source: str, target: str) -> None:
    a, b = vocabulary.centres[source], vocabulary.centres[target]
    if not np.linalg.norm(a - b) > APART * max(np.linalg.norm(a), np.linalg.norm(b)):
        raise RecipeError(
            f"the tokens of {source} and {target} have the same centre, so nothing would move. Is it the same text twice?"
        )


def told(target: Target, edits: Sequence[Edit], vocabulary: Vocabulary, *, untie: bool) -> list[str]:
    """Say what a person should know before anything is written.

    How much larger the model becomes, and which languages are too alike. Raises RecipeError for a language that the
    vocabulary doesn't have.
    """
    edits = [edit for edit in edits if edit.point is None]  # others leave the tokens alone
    if not edits:
        return []
    lines = [
        f"Warning: {share:.0%} of the text in {source} and {to} is of the same tokens, nearly as much as in two texts of one "
        "language. Redirecting the one to the other moves little."
        for source, to, share in alike(edits, vocabulary)
    ]
    table = open_embedding(target)
    if untie and table.tied and not table.has_output:
        added = table.tensor.end - table.tensor.begin
        whole = sum(tensor.end - tensor.begin for _, tensor in target.checkpoint.tensors())
        lines.append(
            f"{target.source.name} reads and writes with one table, {table.tensor.name}. The checkpoint gets a second one to "
            f"write with, {table.output}: {added / 1e6:,.1f} MB more, {(whole + added) / 1e6:,.1f} MB in all."
        )
    return lines


def alike(edits: Sequence[Edit], vocabulary: Vocabulary) -> list[tuple[str, str, float]]:
    """Find the redirected pairs of languages that use nearly the same tokens, and how much: redirecting moves them little.

    Raises RecipeError for a language that the vocabulary doesn't have.
    """
    _check_known(edits, vocabulary)
    pairs = [(edit.language, str(edit.to)) for edit in edits]
    found = [(a, b, vocabulary.overlap(a, b)) for a, b in pairs]
    return [one for one in found if one[2] > ALIKE]
