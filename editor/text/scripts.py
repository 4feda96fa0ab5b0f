"""Scripts: which one a letter is of, and which ones languages are written in.

A script is called as Unicode's names of its letters begin: LATIN, CYRILLIC, CJK, HIRAGANA. Letters that stand in for those of
every script (full-width forms, mathematical ones) are of none.
"""

import unicodedata
from functools import cache

LATIN = "LATIN"
COMMON = (
    "FULLWIDTH",
    "HALFWIDTH",
    "MATHEMATICAL",
    "MODIFIER",
    "DOUBLE-STRUCK",
    "SCRIPT",
    "FEMININE",
    "MASCULINE",
    "MICRO",
)
JAPANESE = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC")
CHINESE = ("CJK", "IDEOGRAPHIC", "BOPOMOFO")

# Languages that are not written in Latin script
WRITTEN_IN: dict[str, tuple[str, ...]] = {
    "zh": CHINESE, "yue": CHINESE, "wuu": CHINESE, "ja": JAPANESE, "ko": ("HANGUL", "CJK"),
    "ar": ("ARABIC",), "fa": ("ARABIC",), "ur": ("ARABIC",), "he": ("HEBREW",), "el": ("GREEK",),
    "bg": ("CYRILLIC",), "kk": ("CYRILLIC",), "mk": ("CYRILLIC",), "ru": ("CYRILLIC",), "uk": ("CYRILLIC",),
    "sr": ("CYRILLIC", LATIN), "hi": ("DEVANAGARI",), "mr": ("DEVANAGARI",), "ne": ("DEVANAGARI",), "bn": ("BENGALI",),
    "gu": ("GUJARATI",), "kn": ("KANNADA",), "ml": ("MALAYALAM",), "pa": ("GURMUKHI",), "ta": ("TAMIL",),
    "te": ("TELUGU",), "th": ("THAI",), "my": ("MYANMAR",), "ka": ("GEORGIAN",), "hy": ("ARMENIAN",), "am": ("ETHIOPIC",),
    "km": ("KHMER",), "lo": ("LAO",), "si": ("SINHALA",),
}  # fmt: skip


def script_of(text: str) -> str:
    """Find the script of a text's first letter; "" without one."""
    return next((_script(character) for character in text if character.isalpha()), "")


def foreign(text: str, language: str) -> list[str]:
    """List the letters of a text that are of a script its language is not written in.

    Latin letters are foreign to no language: names, units and abbreviations are written in them everywhere.
    """
    own = {LATIN, *COMMON, "", *WRITTEN_IN.get(language.partition("-")[0], ())}
    return [character for character in text if character.isalpha() and _script(character) not in own]


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
