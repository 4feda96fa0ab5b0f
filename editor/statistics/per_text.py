"""Per text, the mean activation of every neuron: what average precision is computed from (see `neurons.methods.ap`).

A text is a piece of 128 counted tokens of a packed context; a context's last piece counts with 32 tokens or more, and is
left out with fewer. Of a language's pieces at most 128 are recorded, evenly spread over all of them, so what they take
doesn't grow with the corpus: 512 bytes a neuron and language (ours, all three).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from ..text.tokens import Packed

PIECE = 128  # tokens
SHORTEST = 32
MOST = 128  # texts a language

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """Counted positions `begin` to `end` of a context: text `number` of its language."""

    number: int
    context: int
    begin: int
    end: int


def pieces(packed: Packed) -> list[Piece]:
    """Return the texts of one language, in order."""
    lengths = [len(context) - packed.skip for context in packed.contexts]
    every = [
        (context, begin, min(begin + PIECE, length))
        for context, length in enumerate(lengths)
        for begin in range(0, length - SHORTEST + 1, PIECE)
    ]
    count = min(len(every), MOST)
    return [Piece(number, *every[number * len(every) // count]) for number in range(count)]


def join(parts: Sequence[Float32]) -> Float32:
    """Join the texts of all parts, (texts, layers, width), in an order that does not depend on that of the parts."""
    rows = np.concatenate(parts)
    return rows[sorted(range(len(rows)), key=lambda text: sha256(rows[text].tobytes()).digest())]
