"""Text that was decoded in the wrong way, though its bytes are valid UTF-8.

    UTF-16 or UTF-32 without a mark       holds control characters between the letters
    ISO-2022-JP, -KR and -CN, HZ, UTF-7   ASCII with escape sequences
    double-encoded                        UTF-8 that was read in another encoding and saved as UTF-8 again
    read in another encoding              words of symbols, of two scripts, or with small and capital letters changed

Every document is looked at as a whole, in windows of 2,000 characters; short ones are looked at together. One with many signs
(see `signs`) in a window is left out, and a warning says so. A file is refused when a fifth of its documents that can tell
anything are wrong, also those that show a few signs only: a document may quote such text.
"""

import codecs
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import CorpusError, MonoglotWarning
from .foreign import printable
from .signs import CONTROL, ESCAPES, FEWEST, REPLACEMENT, double_encoded_as, signs

SHARE_OF_CONTROL = 0.02  # of a document's characters
SHARE_OF_LOST = 0.02  # of a document's characters
SHARE_OF_WORDS = 0.125  # of a document's words: those with signs
MANY = 16  # signs in a window: more than real text shows
WINDOW = 2_000  # characters
SHARE = 0.2  # of the documents that can tell
ENOUGH = 10  # documents that can tell, before a file is refused in the middle


def encoding_of(data: bytes) -> str | None:
    """Guess the encoding of bytes that are not UTF-8, by charset-normalizer; None where it has no guess."""
    from charset_normalizer import from_bytes

    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
    ):  # fmt: skip
        if data.startswith(mark):
            return name
    best = from_bytes(data).best()
    return best.encoding.replace("_", "-").upper() if best and best.encoding not in ("utf_8", "ascii") else None


def wrongly_decoded(text: str) -> str | None:
    """Say how a text was decoded wrongly, None where it does not look so."""
    if not text.isascii() and (name := double_encoded_as(text)):
        return f"it is UTF-8 that was read as {name} and saved as UTF-8 again"
    if len(CONTROL.findall(text)) > SHARE_OF_CONTROL * len(text):
        return "it holds control characters between the letters, as UTF-16 without a byte order mark does"
    if ESCAPES.search(text):
        return "it holds escape sequences, as ISO-2022-JP, ISO-2022-KR or HZ do"
    if text.count(REPLACEMENT) >= max(FEWEST, SHARE_OF_LOST * len(text)):
        return "characters of it were lost (U+FFFD stands for them), as it was read in another encoding than its own"
    count, why = signs(text)
    return why if count >= max(FEWEST, SHARE_OF_WORDS * len(set(text.split()))) else None


def rightly_decoded(documents: Iterable[str], origin: str, warned: set[str]) -> Iterator[str]:
    """Yield the documents of a file but for those that were decoded wrongly; warn of these, once for each `origin`.

    Raises CorpusError when a fifth are wrong. What was warned of is added to `warned`: a file is read more than once.
    """
    suspicion = _Suspicion(origin)
    try:
        for batch in _batches(documents):
            yield from suspicion.judged(batch)
        suspicion.refuse(suspicion.telling)
    except CorpusError:
        suspicion.left_out = 0  # the error says it
        raise
    finally:  # whoever has enough text stops in between
        if suspicion.left_out and origin not in warned:
            warned.add(origin)
            warnings.warn(suspicion.warning(), MonoglotWarning, stacklevel=2)


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Group short documents until they fill a window; a long one stands alone. What came before an error comes first."""
    batch: list[str] = []
    size = 0
    try:
        for document in documents:
            if batch and (size >= WINDOW or len(document) >= WINDOW):
                yield batch
                batch, size = [], 0
            batch.append(document)
            size += len(document)
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


@dataclass
class _Suspicion:
    """The documents of a file that look wrongly decoded, among those that can tell."""

    origin: str
    read: int = 0
    telling: int = 0
    wrong: int = 0
    left_out: int = 0
    first: str = ""
    why: str = ""

    def judged(self, batch: list[str]) -> Iterator[str]:
        """Yield the documents of a batch that have few signs. Raises CorpusError once enough of the file is wrong."""
        together = "\n".join(batch)
        windows = (together[at : at + WINDOW] for at in range(0, len(together), WINDOW))
        place, (count, why) = max(((window, signs(window)) for window in windows), key=lambda one: one[1][0])
        why = wrongly_decoded(place) or why
        for document in batch:
            self.read += 1
            strong = count >= MANY and (len(batch) == 1 or signs(document)[0] > 0)
            weak = None if strong else wrongly_decoded(document[:WINDOW])
            beyond = sum(not character.isascii() for character in document[:WINDOW])
            self.telling += bool(strong or weak or beyond >= FEWEST)
            if strong or weak:
                self.wrong += 1
                self.why = why if strong else str(weak)
                self.refuse(ENOUGH)
            if not strong:
                yield document
                continue
            if not self.left_out:
                start = " ".join(printable(place if len(batch) == 1 else document)[:60].split())
                self.first = f"document {self.read:,} ({start}…): {why}"
            self.left_out += 1

    def refuse(self, enough: int) -> None:
        """Raise CorpusError when so many documents can tell, and a fifth of them are wrong."""
        if self.wrong and self.telling >= enough and self.wrong >= SHARE * self.telling:
            raise CorpusError(
                f"{self.origin} was not written as UTF-8: {self.why}. Save it again, from its source, as UTF-8."
            )

    def warning(self) -> str:
        """Say what was left out."""
        return (
            f"{self.origin}: {self.left_out:,} of {self.read:,} documents seem to have been read in another encoding than "
            f"their own, and are left out. The first is {self.first}."
        )
