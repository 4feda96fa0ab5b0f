"""Signs in a piece of text that it was decoded in another encoding than its own, each kind counted by itself.

Real text shows one now and then: a brand with a capital inside, a unit, a quotation. 2,000 characters that were decoded
wrongly show dozens. What is counted are *different words*, so that a unit which stands in every line is one.
"""

import base64
import re
import unicodedata
from collections.abc import Iterable

SINGLE_BYTE = ("cp1252", "latin-1", "cp1250", "cp1251", "cp437", "cp850", "koi8-r", "mac-roman")
READ_AS = (*SINGLE_BYTE, "gb18030", "cp932", "cp949", "big5")
REPLACEMENT = "\ufffd"
FEWEST = 4  # characters beyond ASCII, in which a pattern can be seen
LOST = 0.2  # of those: what may be lost where text was decoded with replacement characters

CONTROL = re.compile(r"[\x00-\x08\x10-\x1a\x7f-\x84\x86-\x9f]")
ESCAPES = re.compile(r"\x1b(?:\$[@AB]|\$\([A-Z]|\([BJI]|\$\)[ACG])|\x0e[!-~]+\x0f|~\{[!-~]{2,}~\}")

HIGH = "À-ÖØ-öø-ÿŒœŠšŽžŸ"  # letters in the upper half of Latin-1 and cp1252
SYMBOLS = "¡-§©¬®-³µ¶¹¼-¿×÷‚ƒ„†‡ˆ‰™"  # the same of symbols, without those that people write between letters
UNALIKE = "bdfglnqrtuvwzDFGLNQRUVWZ"  # Latin letters that nobody types for a Cyrillic one
SMALL, CAPITAL = "а-яёђ-џґ", "А-ЯЁЂ-ЏҐ"

BEYOND = {  # what a word looks like: why
    rf"(?<![^\W\d_])[{HIGH}]{{3}}|[{HIGH}][{SYMBOLS}]+[{HIGH}]|[a-z][{SYMBOLS}][a-z]":
        "words are of accented letters and symbols, as Cyrillic, Greek or Chinese text is that was read as Latin-1",
    rf"[Ѐ-ӿ][a-zA-Z]*[{UNALIKE}]|[{UNALIKE}][a-zA-Z]*[Ѐ-ӿ]":
        "words mix Latin and Cyrillic letters, as accented text does that was read as cp1251 or koi8-r",
    "[a-z](?:[α-ωά-ώΑ-Ω]{1,2}|[א-ת]{1,2}|[ء-ي]{1,2}|[㐀-鿿]|[ก-๛])[a-z]":
        "words mix Latin letters with those of another script, as accented text does that was read in that script's encoding",
    r"(?<!\b[hnt])(?<=[a-zà-öø-ÿ])[À-ÖØ-ÞŠŽŸ]":  # Irish has na hÉireann
        "capitals with accents stand within words, as in text that was read in an encoding of MS-DOS or of old Macs",
    rf"[{SMALL}][{CAPITAL}]":
        "small and capital letters have changed places, as in Russian text that was read in another Cyrillic encoding",
}  # fmt: skip
STRANGERS = (  # letters that no language has together: they are other letters of cp1250 or cp1254
    ("ðþýÞÝ", "çü"), ("ø", "ìè"), ("õ", "û"), ("þº", "ã"), ("ŕůęč", "ç"), ("ń", "áíú"), ("ăő", "ç"),
)  # fmt: skip
MESS = 1.0  # charset-normalizer's measure of disorder: 0.05 in real text, where words are odd 0.7, 2 to 4 in mistakes
LONG = 500  # characters: what the measure needs
FEW = 0.125  # of the words with one of two strangers: what those with the other are at least
ARMOUR = re.compile(
    r"\\u[0-9a-fA-F]{4}|\\x[c-fC-F][0-9a-fA-F]|=[C-F][0-9A-F]=[89AB][0-9A-F]|=[EF][0-9A-F](?=[a-z])"
    r"|%[C-F][0-9A-F]%[89AB][0-9A-F]|&(?:[A-Za-z](?:acute|grave|circ|uml|tilde|cedil|caron|slash|ring)|szlig|[ao]elig);"
    r"|&\#x?[0-9a-fA-F]{3,6};"
)
UTF_7 = re.compile(r"\+([A-Za-z0-9+/]{3,})-?")
BARE = re.compile(r"[^\s.,:;!?()\[\]{}\"'’/-]+")
CP1252_OF_LATIN_1 = {
    ord(character): byte for byte in range(0x80, 0xA0) if (character := bytes([byte]).decode("cp1252", "ignore"))
}
_PATTERNS = {re.compile(pattern): why for pattern, why in BEYOND.items()}
_INSIDE_OUT = re.compile(f"[{SMALL}][{CAPITAL}]")
_CAPITALS = re.compile(f"[{CAPITAL}]{{2,}}")
_CYRILLIC = re.compile(f"[{SMALL}{CAPITAL}]{{2,}}")


def signs(piece: str) -> tuple[int, str]:
    """Count the signs of the likeliest mistake in a piece of text, and say what it is; (0, "") where there is none."""
    found: dict[str, int] = {}
    for count, why in _counted(piece):
        found[why] = found.get(why, 0) + count
    why = max(found, key=lambda one: found[one], default="")
    return (found[why], why) if why and found[why] else (0, "")


def _counted(piece: str) -> Iterable[tuple[int, str]]:
    yield (
        len(CONTROL.findall(piece)),
        "it holds control characters between the letters, as UTF-16 without a byte order mark does",
    )
    yield len(ESCAPES.findall(piece)), "it holds escape sequences, as ISO-2022-JP, ISO-2022-KR or HZ do"
    tokens = set(piece.split())
    if "+" in piece:
        yield sum(map(_of_utf_7, tokens)), "it holds characters as UTF-7 writes them (+AOk-)"
    if ARMOUR.search(piece):
        yield (
            sum(bool(ARMOUR.search(token)) for token in tokens),
            "letters are spelled out for a program (&eacute;, \\u00e9, =C3=A9)",
        )
    if piece.isascii():
        return
    yield (
        piece.count(REPLACEMENT),
        "characters of it were lost (U+FFFD stands for them), as it was read in another encoding than its own",
    )
    yield _double_encoded(piece)
    words = set(BARE.findall(piece))
    for pattern, why in _PATTERNS.items():
        if pattern.search(piece):
            yield sum(bool(pattern.search(word)) for word in words), why
    yield _capitals(words), list(BEYOND.values())[-1]
    yield _disorder(piece) * (len(piece) // 80), "letters and symbols stand together as in no language"
    yield _strangers(words), "letters stand together that no language has, as Turkish text's do that was read as cp1252"


def _capitals(words: set[str]) -> int:
    """Count words in capitals, where some are inside out (рТЙЧЕФ) and most are in capitals: small letters were those."""
    cyrillic = [word for word in words if _CYRILLIC.fullmatch(word)]
    if sum(bool(_INSIDE_OUT.search(word)) for word in cyrillic) < 2:
        return 0
    capitals = sum(bool(_CAPITALS.fullmatch(word)) for word in cyrillic)
    return capitals if capitals > len(cyrillic) / 2 else 0


def _disorder(piece: str) -> bool:
    """Tell whether charset-normalizer finds so much disorder in a piece as real text does not have."""
    from charset_normalizer.md import mess_ratio

    beyond = sum(not character.isascii() for character in piece)
    return len(piece) >= LONG and beyond >= LONG / 16 and mess_ratio(piece, 10.0) >= MESS


def _strangers(words: set[str]) -> int:
    """Count words with letters that are not found together in any language, where neither is rare."""
    most = 0
    for pair in STRANGERS:
        one, other = (sum(not letters.isdisjoint(word) for word in words) for letters in map(set, pair))
        if min(one, other) >= max(3, FEW * max(one, other)):
            most = max(most, one + other)
    return most


def _of_utf_7(token: str) -> int:
    """Count the letters in a word that UTF-7 spells out, 8 at most in a run: base64 of other things looks so by chance."""
    count = 0
    for run in UTF_7.findall(token):
        bits = len(run) * 6
        if bits % 16 >= 6 or (run.isalpha() and run[0] not in "AB"):  # Shift+PageUp
            continue
        data = base64.b64decode(run + "A" * (-len(run) % 4))
        spelled = data[: bits // 16 * 2].decode("utf-16-be", "replace")
        if not any(data[len(spelled) * 2 :]) and all(_written(one) for one in spelled) and not spelled.isascii():
            count += min(8, sum(one.isalpha() for one in spelled))
    return count


def _written(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMNPSZ" and character != REPLACEMENT


def _double_encoded(piece: str) -> tuple[int, str]:
    """Count the words that are UTF-8 read in another encoding and saved as UTF-8 again, and name that encoding."""
    words = {word for word in re.findall(r"[^\x00-\x20\ufffd?]+", piece) if not word.isascii()}
    count, name = max(((_readable(words, name), name) for name in SINGLE_BYTE), key=lambda one: one[0])
    return count, f"it is UTF-8 that was read as {name} and saved as UTF-8 again"


def _readable(words: set[str], name: str) -> int:
    count = 0
    together = as_bytes("\n".join(words), name)
    if together.decode(errors="ignore").isascii():
        return 0
    for data in together.split(b"\n"):
        try:
            count += b"?" not in data and all(map(_written, data.decode()))
        except UnicodeDecodeError:
            continue
    return count


def as_bytes(text: str, name: str) -> bytes:
    """Encode text, with `?` for what the encoding has not; what cp1252 leaves open is taken from latin-1, as browsers do."""
    if name == "cp1252":
        return text.translate(CP1252_OF_LATIN_1).encode("latin-1", "replace")
    return text.encode(name, "replace")


def double_encoded_as(text: str) -> str | None:
    """Name the encoding as which all of a text was read that is UTF-8, but for a few characters that were lost."""
    beyond = " ".join(re.findall(r"[^\x00-\x7f\ufffd]+", text))
    return next((name for name in READ_AS if _is_double_encoded(as_bytes(beyond, name))), None)


def _is_double_encoded(data: bytes) -> bool:
    decoded = data.decode(errors="replace")
    lost = decoded.count(REPLACEMENT) + decoded.count("?")
    beyond = [character for character in decoded if not character.isascii() and character != REPLACEMENT]
    assigned = all(unicodedata.category(character) not in ("Cn", "Co", "Cs") for character in beyond)
    return assigned and len(beyond) >= max(FEWEST, lost / LOST)
