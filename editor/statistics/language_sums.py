"""What text in a language gives besides activations: all that a later step needs, so that none runs the model again.

Recorded in the same pass, unless it is to be lean. Per language k, over the positions of its contexts but the first of each:

    token_ids     int64 (n,)             the tokens that a text uses, in order, one text after another
    token_counts  int64 (n,)             how often: of more text than the model runs over, as counting costs little
    residual      float64 (layers+1, d)  the residual stream, summed: at the embedding, and after every layer
    output_size   float64 (layers,)      the root mean square of what each feed-forward network puts out, summed
    read          float64 (networks, d)  what each feed-forward network reads, summed; over all counted tokens

Two runs over parts of a text may so count the same text. Each text's counts are therefore kept apart, and one that is in
several files is counted once. All sums are additive, each batch rounded to a multiple of 2⁻²⁰ as the sums of activations
are (see `statistics`). There are no output sizes of a mixture of experts, and `read` is there where the inputs are recorded
(see `inputs`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files.schema import Count
from ..text.tokens import Packed

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

COUNTS = ("token_ids", "token_counts")
SUMS = ("residual", "output_size", "read")


@dataclass(frozen=True)
class TokenCounts:
    """How often a text uses each token: sorted ids and their counts, int64 (n,).

    `sha256` is that of all its token ids; of several texts, one of theirs.
    """

    ids: Int64
    counts: Int64
    sha256: str


@dataclass(frozen=True)
class LanguageSums:
    """The sums of one language, over `positions` positions; `counted` are the counts of its texts, by their sha256."""

    counted: Mapping[str, TokenCounts]
    positions: int
    residual: Float64
    output_size: Float64 | None = None
    read: Float64 | None = None

    @property
    def counts(self) -> TokenCounts:
        """The counts of all texts together."""
        return together([self.counted[text] for text in sorted(self.counted)])

    @property
    def means(self) -> Float64:
        """Mean residual stream, float64 (layers+1, d): at the embedding, and after every layer."""
        found: Float64 = self.residual / max(self.positions, 1)
        return found


def count_tokens(packed: Packed) -> TokenCounts:
    """Count the tokens of a text, without those that only begin its contexts."""
    rows = [context[packed.skip :] for context in packed.contexts]
    ids, counts = np.unique(np.concatenate([*rows, np.zeros(0, np.int64)]), return_counts=True)
    return TokenCounts(ids, counts.astype(np.int64), packed.sha256)


def positions_of(packed: Packed) -> int:
    """How many positions of a text the residual is summed over: all but the first of each context."""
    return sum(len(context) - max(packed.skip, 1) for context in packed.contexts)


def together(parts: Sequence[TokenCounts]) -> TokenCounts:
    """Add up the counts of texts."""
    if len(parts) == 1:
        return parts[0]
    ids = np.unique(np.concatenate([part.ids for part in parts]))
    counts = np.zeros(len(ids), np.int64)
    for part in parts:
        counts[np.searchsorted(ids, part.ids)] += part.counts
    return TokenCounts(ids, counts, sha256("".join(part.sha256 for part in parts).encode()).hexdigest())


def add(parts: Sequence[LanguageSums]) -> LanguageSums:
    """Add up the sums of texts in one language, in any order the same."""
    return LanguageSums(
        {text: counts for part in parts for text, counts in part.counted.items()},
        sum(part.positions for part in parts),
        np.sum([part.residual for part in parts], axis=0),
        _sum([part.output_size for part in parts]),
        _sum([part.read for part in parts]),
    )


def _sum(parts: Sequence[Float64 | None]) -> Float64 | None:
    """Add up, where all have it."""
    there = [part for part in parts if part is not None]
    return np.sum(there, axis=0) if len(there) == len(parts) else None


# In a statistics file


@dataclass(frozen=True)
class Head:
    """What the metadata of a statistics file says of the sums of a language."""

    texts: tuple["CountedText", ...]
    positions: Count
    layers: Count
    sizes: bool
    read: bool


@dataclass(frozen=True)
class CountedText:
    """What it says of a text: its sha256, and how many different tokens it uses."""

    sha256: str
    tokens: Count


def to_arrays(language: str, sums: LanguageSums) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the tensors of a statistics file, and what its metadata says of them."""
    counted = [sums.counted[text] for text in sorted(sums.counted)]
    arrays: dict[str, npt.NDArray[Any]] = {
        "token_ids": np.concatenate([one.ids for one in counted]),
        "token_counts": np.concatenate([one.counts for one in counted]),
    }
    arrays |= {kind: own for kind in SUMS if (own := getattr(sums, kind)) is not None}
    head = {
        "texts": [{"sha256": one.sha256, "tokens": len(one.ids)} for one in counted],
        "positions": sums.positions, "layers": len(sums.residual) - 1,
        "sizes": sums.output_size is not None, "read": sums.read is not None,
    }  # fmt: skip
    return {f"{language}.{kind}": array for kind, array in arrays.items()}, head


def from_file(file: Any, heads: Mapping[str, Head], networks: int) -> dict[str, LanguageSums]:
    """Read the sums of every language from an open statistics file.

    Raises ValueError when it doesn't hold what `heads` say.
    """
    found = {}
    for language, head in heads.items():
        kinds = [*COUNTS, "residual", *(["output_size"] if head.sizes else []), *(["read"] if head.read else [])]
        own = {kind: file.get_tensor(f"{language}.{kind}") for kind in kinds}
        d = own["residual"].shape[-1]
        shapes = {"residual": (head.layers + 1, d), "output_size": (head.layers,), "read": (networks, d)}
        for kind in kinds[2:]:
            if own[kind].dtype != np.float64 or own[kind].shape != shapes[kind] or not np.isfinite(own[kind]).all():
                raise ValueError(f"{language}.{kind} is {own[kind].dtype} of shape {own[kind].shape}, or not finite")
        counted = _counted(language, head.texts, own["token_ids"], own["token_counts"])
        if not head.positions:
            raise ValueError(f"the sums of {language} are of no text")
        found[language] = LanguageSums(
            counted, head.positions, own["residual"], own.get("output_size"), own.get("read")
        )
    return found


def _counted(language: str, texts: Sequence[CountedText], ids: Any, counts: Any) -> dict[str, TokenCounts]:
    """Cut the counts of the texts apart. Raises ValueError where they are none."""
    if ids.dtype != np.int64 or counts.dtype != np.int64 or ids.ndim != 1 or ids.shape != counts.shape:
        raise ValueError(f"the tokens of {language} are not ids, each with its count")
    if (
        sum(text.tokens for text in texts) != len(ids)
        or len({text.sha256 for text in texts}) != len(texts)
        or not texts
    ):
        raise ValueError(f"the tokens of {language} are not those of its texts")
    if (ids < 0).any() or (counts < 1).any():
        raise ValueError(f"the tokens of {language} have no counts")
    found, at = {}, 0
    for text in texts:
        part = slice(at, at + text.tokens)
        found[text.sha256] = TokenCounts(ids[part], counts[part], text.sha256)
        if (np.diff(ids[part]) <= 0).any():
            raise ValueError(f"the tokens of {language} are not in order")
        at += text.tokens
    return found
