"""Which tokens write a script: all that have to go so that none of its characters can be written.

    whole     the token is characters of the script, spaces and the like beside them
    mixed     characters of another script stand in it too, as in "T恤": it goes as well
    piece     the token ends within a character. It goes where all that it may become is of the script, as after the byte
              E5, with which only Han characters begin; it stays where a character that is wanted needs it

In SentencePiece, bytes spell only what has no token, so a piece is needed by wanted characters without one alone. In a
byte-level tokenizer a piece may begin any character. A piece that stays is a way that is left to write the script, and is
listed. Bytes that continue a character are shared by all scripts: they stay, and write nothing without a first byte.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..files.schema import Count
from .unicode_scripts import WRITING_NOTHING, characters, emoji, script_of
from .unicode_scripts import written as every_letter

Int64 = npt.NDArray[np.int64]

LENGTHS = ((0xF0, 4), (0xE0, 3), (0xC2, 2))  # the first byte of a character from which on it has so many bytes
LAST = 0xF4  # the highest first byte


@dataclass(frozen=True)
class Staying:
    """A token that could begin a character of the script, and stays.

    Its bytes in hexadecimal, how many characters of the script begin so, and the script or the character that needs it.
    """

    token: Count
    piece: str
    characters: Count
    needed_by: str


@dataclass(frozen=True)
class Found:
    """The tokens that write a script, sorted, int64 (n,), how many of which kind, and what stays."""

    ids: Int64
    whole: int
    mixed: int
    pieces: int
    staying: tuple[Staying, ...] = ()
    examples: tuple[str, ...] = field(default=(), compare=False)  # of mixed ones


EXAMPLES = 5  # of mixed tokens


def find_tokens(
    written: Sequence[bytes | None],
    scripts: Sequence[str],
    wanted: Collection[str] | None,
    spared: Collection[str] = (),
) -> dict[str, Found]:
    """Find the tokens of each script, by what each token writes (see `token_bytes`).

    `wanted` are the characters that have to stay writable, None for those of all other scripts; `spared` are characters of
    the scripts themselves that are wanted too. Emoji are always wanted. A token that writes two of the scripts is of the
    first.
    """
    gone = {script: characters(script) - set(spared) for script in scripts}
    others = every_letter() if wanted is None else wanted
    needed = _needed(written, {*others, *spared, *emoji()} - frozenset().union(*gone.values()))
    split = [None if text is None else cut(text) for text in written]
    seen: set[int] = set()
    found = {}
    for script, own in gone.items():
        found[script] = _of_script(script, own, split, needed, seen)
        seen.update(found[script].ids.tolist())
    return found


def _of_script(
    script: str,
    own: Collection[str],
    split: Sequence[tuple[str, bytes] | None],
    needed: Mapping[bytes, str],
    seen: Collection[int],
) -> Found:
    begun = _prefixes(own)
    ids: dict[str, list[int]] = {"whole": [], "mixed": [], "piece": []}
    staying: list[Staying] = []
    examples: list[str] = []
    for number, parts in enumerate(split):
        if parts is None or number in seen:
            continue
        text, piece = parts
        if any(character in own for character in text):
            others = any(
                character not in own and script_of(character) not in ("Common", "Inherited") for character in text
            )
            ids["mixed" if others else "whole"].append(number)
            if others and len(examples) < EXAMPLES:
                examples.append(text)
        elif piece and begun.get(piece):
            if piece not in needed:
                ids["piece"].append(number)
            else:
                staying.append(Staying(number, piece.hex(), begun[piece], needed[piece]))
    everything = np.array(sorted(number for each in ids.values() for number in each), np.int64)
    return Found(
        everything, len(ids["whole"]), len(ids["mixed"]), len(ids["piece"]), tuple(staying), tuple(examples)
    )  # fmt: skip


def cut(written: bytes) -> tuple[str, bytes]:
    """Return the whole characters among a token's bytes, and the beginning of one that it ends with."""
    start = next((at for at, byte in enumerate(written) if byte & 0xC0 != 0x80), len(written))
    end = len(written)
    for back in range(1, min(3, end - start) + 1):
        byte = written[end - back]
        if byte & 0xC0 != 0x80:  # a first byte, or a letter of ASCII
            length = next((n for first, n in LENGTHS if first <= byte <= LAST), 0)
            end -= back if length > back else 0
            break
    return written[start:end].decode(errors="ignore"), written[end:]


def _prefixes(own: Collection[str]) -> dict[bytes, int]:
    """Count the characters that begin with each sequence of bytes."""
    counts: dict[bytes, int] = {}
    for character in own:
        spelled = character.encode()
        for length in range(1, len(spelled)):
            counts[spelled[:length]] = counts.get(spelled[:length], 0) + 1
    return counts


def _needed(written: Sequence[bytes | None], wanted: Collection[str]) -> dict[bytes, str]:
    """Map each beginning of a wanted character that bytes have to spell to the script or the character that needs it."""
    if not byte_level(written):
        wanted = {*wanted} - {text.decode(errors="ignore") for text in written if text}
    needed: dict[bytes, str] = {}
    for character in sorted(wanted):
        spelled = character.encode()
        for length in range(1, len(spelled)):
            if spelled[:length] not in needed:
                script = script_of(character)
                needed[spelled[:length]] = character if script in WRITING_NOTHING else script
    return needed


def byte_level(written: Sequence[bytes | None]) -> bool:
    """Tell whether tokens may end anywhere in a character: whether any is a piece that is longer than a byte."""
    return any(text is not None and len(text) > 1 and cut(text)[1] for text in written)
