"""Scripts as Unicode's property of characters has them: Han, Cyrillic, Arabic, …, and which characters each has.

A character is of one script, or Common (digits, most punctuation, emoji) or Inherited (accents).
"""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any

from ..errors import RecipeError

SCRIPTS = (
    "Adlam", "Arabic", "Armenian", "Balinese", "Bamum", "Bengali", "Bopomofo", "Braille", "Buginese", "Buhid",
    "Canadian_Aboriginal", "Chakma", "Cham", "Cherokee", "Coptic", "Cyrillic", "Devanagari", "Ethiopic", "Georgian",
    "Glagolitic", "Gothic", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul", "Hanunoo", "Hebrew", "Hiragana", "Javanese",
    "Kannada", "Katakana", "Kayah_Li", "Khmer", "Lao", "Latin", "Lepcha", "Limbu", "Lisu", "Malayalam", "Mandaic",
    "Meetei_Mayek", "Mongolian", "Myanmar", "New_Tai_Lue", "Nko", "Ogham", "Ol_Chiki", "Oriya", "Osage", "Phags_Pa",
    "Rejang", "Runic", "Samaritan", "Saurashtra", "Sinhala", "Sundanese", "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa",
    "Tai_Le", "Tai_Tham", "Tai_Viet", "Tamil", "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Vai", "Yi",
)  # fmt: skip
WRITING_NOTHING = ("Common", "Inherited", "Unknown")
NEAR = 3  # names that a wrong one is shown


def known(name: str) -> str:
    """Return a script by its name as Unicode spells it, whatever its case. Raises RecipeError for an unknown one."""
    spelled = {script.lower(): script for script in SCRIPTS}
    wanted = name.strip().lower().replace(" ", "_")
    if wanted in spelled:
        return spelled[wanted]
    near = get_close_matches(wanted, spelled, NEAR, 0.5)
    said = f"Did you mean {', '.join(spelled[one] for one in near)}?" if near else f"Known: {', '.join(SCRIPTS)}."
    raise RecipeError(f"there is no script {name!r}. {said}")


@cache
def characters(script: str) -> frozenset[str]:
    """All characters of a script."""
    return _all(rf"\p{{Script={script}}}")


@cache
def common() -> frozenset[str]:
    """All characters that are of no script, those without a meaning yet among them."""
    return _all(r"[\p{Script=Common}\p{Script=Inherited}\p{Script=Unknown}]")


@cache
def emoji() -> frozenset[str]:
    """All pictures that are shown as such without being asked to: 🙂, and not 〰."""
    return _all(r"\p{Emoji_Presentation}")


@cache
def written() -> frozenset[str]:
    """All characters of all scripts."""
    return _all(r"[^\p{Script=Common}\p{Script=Inherited}\p{Script=Unknown}]")


def _all(pattern: str) -> frozenset[str]:
    """All characters that fit a pattern."""
    import regex  # here and not above: `monoglot --help` needs it no more than torch

    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    return frozenset(regex.findall(pattern, every))


def scripts_in(text: Iterable[str]) -> dict[str, int]:
    """Count the characters of a text by script, Common and the like left out."""
    counts: dict[str, int] = {}
    for character in text:
        if (script := script_of(character)) not in WRITING_NOTHING:
            counts[script] = counts.get(script, 0) + 1
    return counts


@cache
def script_of(character: str) -> str:
    """Find the script of a character; "Unknown" for one of a script that is not in `SCRIPTS`."""
    if match := _any().match(character):
        return str(match.lastgroup)
    return "Common" if character in common() else "Unknown"


@cache
def _any() -> Any:
    import regex

    return regex.compile("|".join(rf"(?P<{script}>\p{{Script={script}}})" for script in SCRIPTS))
