"""What text in a language gives besides activations: all that a later step needs, so that none runs the model again.

Recorded in the same pass, unless it is to be lean. Per language k, over the positions of its contexts but the first of each:

    token_ids     int64 (n,)            the tokens that its text uses, in order
    token_counts  int64 (n,)            how often: of more text than the model runs over, as counting costs little
    residual      float64 (layers+1, d) the residual stream, summed: at the embedding, and after every layer
    output_size   float64 (layers,)     the root mean square of what each feed-forward network puts out, summed
    read          float64 (networks, d) what each feed-forward network reads, summed; over all counted tokens

All are additive, each batch rounded to a multiple of 2⁻²⁰ as the sums of activations are (see `statistics`). There are no
output sizes of a mixture of experts, and `read` is there where the inputs are recorded (see `inputs`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..files.schema import Count
from ..text.tokens import Packed

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

COUNTS = ("token_ids", "token_counts")
SUMS = ("residual", "output_size", "read")


@dataclass(frozen=True)
class TokenCounts:
    """How often a text uses each token: sorted ids, int64 (n,), their counts, int64 (n,), and the sha256 of its token ids."""

    ids: Int64
    counts: Int64
    texts: tuple[str, ...]


@dataclass(frozen=True)
class LanguageSums:
    """The sums of one language, over `positions` positions; `counts` are of its own texts."""

    counts: TokenCounts
    positions: int
    residual: Float64
    output_size: Float64 | None = None
    read: Float64 | None = None

    @property
    def means(self) -> Float64:
        """Mean residual stream, float64 (layers+1, d): at the embedding, and after every layer."""
        found: Float64 = self.residual / max(self.positions, 1)
        return found


def count_tokens(packed: Packed) -> TokenCounts:
    """Count the tokens of a text, without those that only begin its contexts."""
    rows = [context[packed.skip :] for context in packed.contexts]
    ids, counts = np.unique(np.concatenate([*rows, np.zeros(0, np.int64)]), return_counts=True)
    return TokenCounts(ids, counts.astype(np.int64), (packed.sha256,))


def positions_of(packed: Packed) -> int:
    """How many positions of a text the residual is summed over: all but the first of each context."""
    return sum(len(context) - max(packed.skip, 1) for context in packed.contexts)


def add(language: str, parts: Sequence[LanguageSums]) -> LanguageSums:
    """Add up the sums of texts in one language, in any order the same. Raises StatisticsError for a text that is there twice."""
    texts = sorted(text for part in parts for text in part.counts.texts)
    if len(set(texts)) < len(texts):
        raise StatisticsError(
            f"the same {language} text is in two of the files, and would count twice. Leave one of them out."
        )
    ids = np.unique(np.concatenate([part.counts.ids for part in parts]))
    counts = np.zeros(len(ids), np.int64)
    for part in parts:
        counts[np.searchsorted(ids, part.counts.ids)] += part.counts.counts
    return LanguageSums(
        TokenCounts(ids, counts, tuple(texts)),
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

    texts: tuple[str, ...]
    positions: Count
    layers: Count
    sizes: bool
    read: bool


def to_arrays(language: str, sums: LanguageSums) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the tensors of a statistics file, and what its metadata says of them."""
    arrays: dict[str, npt.NDArray[Any]] = {"token_ids": sums.counts.ids, "token_counts": sums.counts.counts}
    arrays |= {kind: own for kind in SUMS if (own := getattr(sums, kind)) is not None}
    head = {
        "texts": sums.counts.texts, "positions": sums.positions, "layers": len(sums.residual) - 1,
        "sizes": sums.output_size is not None, "read": sums.read is not None,
    }  # fmt: skip
    return {f"{language}.{kind}": array for kind, array in arrays.items()}, head


def from_file(file: Any, heads: Mapping[str, Head], networks: int) -> dict[str, LanguageSums]:
    """Read the sums of every language from an open statistics file. Raises ValueError when it doesn't hold what `heads` say."""
    found = {}
    for language, head in heads.items():
        kinds = [*COUNTS, "residual", *(["output_size"] if head.sizes else []), *(["read"] if head.read else [])]
        own = {kind: file.get_tensor(f"{language}.{kind}") for kind in kinds}
        d = own["residual"].shape[-1]
        shapes = {"residual": (head.layers + 1, d), "output_size": (head.layers,), "read": (networks, d)}
        for kind in kinds[2:]:
            if own[kind].dtype != np.float64 or own[kind].shape != shapes[kind] or not np.isfinite(own[kind]).all():
                raise ValueError(f"{language}.{kind} is {own[kind].dtype} of shape {own[kind].shape}, or not finite")
        ids, counts = own["token_ids"], own["token_counts"]
        if ids.dtype != np.int64 or counts.dtype != np.int64 or ids.ndim != 1 or ids.shape != counts.shape:
            raise ValueError(f"the tokens of {language} are not ids, each with its count")
        if (np.diff(ids) <= 0).any() or (ids < 0).any() or (counts < 1).any() or not head.positions:
            raise ValueError(f"the tokens of {language} are not in order, or have no counts")
        found[language] = LanguageSums(
            TokenCounts(ids, counts, head.texts), head.positions, own["residual"], own.get("output_size"), own.get("read")
        )
    return found
