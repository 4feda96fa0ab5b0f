"""Codes and English names of languages.

`LANGUAGE` is the form of a code, a tag as BCP 47 writes it. Every code that comes from a file or a person is held against
it where it enters, so what goes on to names of files, tables and cards has letters, digits and hyphens, and nothing else.
`NAMES` is for prose: a code that is not there stands for itself. `is_language` tells codes from names that only look like
one.
"""

import re
from collections.abc import Iterable
from typing import Annotated

from ..files.schema import Form

LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*")  # the underscore is how many corpora write it
GROUP = re.compile(r"[a-z]{2,11}([-_][A-Za-z0-9.]{1,20})*|scaled-[-+.e0-9]{1,24}")  # a code, or a group's name
LONGEST = 35  # characters, as BCP 47 recommends


def is_code(text: str) -> bool:
    """Tell whether a text has the form of a language's code, such as zh, yue, pt-BR or zh-Hans.

    Names of groups of neurons that stand in a language's place have it too, such as those that a difference is told by:
    `deactivated` and `scaled-0.5`.
    """
    return len(text) <= LONGEST and GROUP.fullmatch(text) is not None


Code = Annotated[str, Form(is_code, "the code of a language, such as zh or pt-BR")]

NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "gl": "Galician", "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "kk": "Kazakh", "kn": "Kannada", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "my": "Burmese", "nl": "Dutch",
    "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu",
    "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese",
    "zh": "Chinese",
}  # fmt: skip

TWO_LETTERS = frozenset(  # ISO 639-1
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
    ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
    nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn
    so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """.split()  # noqa: SIM905  # as one text it takes seven lines
)
SUBTAGS = re.compile(r"([-_]([A-Z][a-z]{3}|[A-Z]{2}|419|150|[a-z0-9]{5,8}))*")  # script, region, variant


def is_language(code: str) -> bool:
    """Tell whether a code names a language: one of two letters, or one of three that the identifier knows.

    Subtags are a script, a region or a variant, in the usual case: `zh-Hans`, `pt-BR`, `es-419`. So `zh-en` is none, and
    `zh-000` is not either: it is a part of something.
    """
    first = re.split(r"[-_]", code)[0]
    if not SUBTAGS.fullmatch(code[len(first) :]):
        return False
    if len(first) == 2:
        return first in TWO_LETTERS
    from .identify import knows

    return first in NAMES or knows(first)


def name(code: str) -> str:
    return NAMES.get(code, code)


def listed(codes: Iterable[str]) -> str:
    """ "Chinese", "Chinese and French", "Chinese, French and Japanese"."""
    names = [name(code) for code in codes]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
