"""Text that was decoded in the wrong way, though its bytes are valid UTF-8.

    UTF-16 or UTF-32 without a mark       holds control characters between the letters
    ISO-2022-JP, -KR and -CN, HZ          ASCII with escape sequences
    double-encoded                        UTF-8 that was read in another encoding and saved as UTF-8 again

A single document may look so by chance, or quote such text. A file is refused when a fifth of its documents that can tell
anything do, counted as they are read.
"""

import codecs
import re
import unicodedata
from dataclasses import dataclass

ESCAPES = re.compile(r"\x1b(\$[@AB]|\$\([A-Z]|\([BJI]|\$\)[ACG])|\x0e[!-~]+\x0f|~\{[!-~]{2,}~\}")
CONTROL = frozenset(map(chr, [*range(0x09), *range(0x0E, 0x20), 0x7F])) - {
    "\x1b",
    "\x0e",
    "\x0f",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x1f",
}
READ_AS = (
    "cp1252",
    "latin-1",
    "cp1250",
    "cp1251",
    "cp437",
    "cp850",
    "koi8-r",
    "mac-roman",
    "gb18030",
    "cp932",
    "cp949",
    "big5",
)
SHARE_OF_CONTROL = 0.02  # of a document's characters
REPLACEMENT = "\ufffd"
SHARE_OF_LOST = 0.02  # of a document's characters
FEWEST = 4  # characters beyond ASCII, in which a pattern can be seen
LOST = 0.2  # of those: what may be lost where text was decoded with replacement characters
SHARE = 0.2  # of the documents
PIECE = 2_000  # characters of a document that are looked at


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
    if sum(character in CONTROL for character in text) > SHARE_OF_CONTROL * len(text):
        return "it holds control characters between the letters, as UTF-16 without a byte order mark does"
    if ESCAPES.search(text):
        return "it holds escape sequences, as ISO-2022-JP, ISO-2022-KR or HZ do"
    if text.isascii():
        return None
    if text.count(REPLACEMENT) >= max(FEWEST, SHARE_OF_LOST * len(text)):
        return "characters of it were lost (U+FFFD stands for them), as it was read in another encoding than its own"
    for name in READ_AS:
        if _again(text, name):
            return f"it is UTF-8 that was read as {name} and saved as UTF-8 again"
    return None


def _again(text: str, name: str) -> bool:
    """Tell whether a text in encoding `name` is UTF-8 of assigned characters, but for a few that were lost on the way."""
    data = bytearray()
    for word in re.findall(r"[^\x00-\x7f\ufffd]+", text):
        try:
            data += b" " + word.encode(name)
        except UnicodeEncodeError:
            if name != "cp1252":
                return False
            try:  # what cp1252 leaves open, browsers and editors take from latin-1
                data += b" " + b"".join(map(_byte, word))
            except UnicodeEncodeError:
                return False
    decoded = data.decode(errors="replace")
    lost = decoded.count("\ufffd")
    beyond = [character for character in decoded if not character.isascii() and character != "\ufffd"]
    assigned = all(unicodedata.category(character) not in ("Cn", "Co", "Cs") for character in beyond)
    return assigned and len(beyond) >= max(FEWEST, lost / LOST)


def _byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")


@dataclass
class Suspicion:
    """The documents of a file that look wrongly decoded, among those that can tell."""

    telling: int = 0
    wrong: int = 0

    def of(self, document: str) -> str | None:
        """Look at one more document; say what is wrong with the file once enough of it is."""
        piece = document[:PIECE]
        why = wrongly_decoded(piece)
        self.telling += bool(why) or sum(not character.isascii() for character in piece) >= FEWEST
        self.wrong += bool(why)
        return why if why and self.wrong >= SHARE * self.telling else None
