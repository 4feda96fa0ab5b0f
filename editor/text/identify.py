"""Which language a text is in, by py3langid.

Every language that the identifier knows may be the answer (a German text must not count as French because German was not
asked for), except those that are too close to a wanted one to be told apart: they would take its texts. Below a certainty
of 0.7 a text is undetermined, and so is one without letters.

Models like to write HTML: tags are taken out first, without which one French answer in twelve of Gemma 3 270M stays
undetermined. Digits are left in: a line of them with one letter is no answer in a language.

Beginnings and middles of 60 passages in each of 7 languages, 24 tokens long (Gemma's), are all identified correctly
(840); pieces of 8 tokens in 94 of 100 cases, the others are undetermined.
"""

import copy
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from ..errors import CorpusError

CERTAINTY = 0.7
CONFUSED = {  # too close to be asked for together
    "id": {"ms"}, "ms": {"id"}, "zh": {"wuu", "yue"}, "no": {"nn"}, "nn": {"no"}, "es": {"an", "ext"},
    "bs": {"hr", "sr"}, "hr": {"bs", "sr"}, "sr": {"bs", "hr"},
}  # fmt: skip
TAG = re.compile(r"</?[a-z][^<>\n]*>?")


def guess(text: str, languages: Sequence[str]) -> tuple[str, float]:
    """Return the likeliest language of a text and how certain that is, 0 … 1, where `languages` are to be recognised."""
    identifier = _identifier(frozenset(map(_code, languages)))
    language, certainty = identifier.classify(text)
    return str(language), float(certainty)


def language_of(text: str, languages: Sequence[str]) -> str | None:
    """Return the language of a text, as the identifier's code, or None when it is undetermined.

    `languages` are those that are to be recognised; another one may be the answer too. Raises CorpusError for a language that
    the identifier doesn't know, and for two that it can't tell apart.
    """
    check(languages)
    bare = TAG.sub(" ", text)
    if not any(character.isalpha() for character in bare):
        return None
    language, certainty = guess(bare, languages)
    return language if certainty >= CERTAINTY else None


def check(languages: Sequence[str]) -> None:
    """Raise CorpusError when `languages` can't be recognised beside each other."""
    codes = set(map(_code, languages))
    for code in sorted(codes):
        if not knows(code):
            raise CorpusError(f"the language identifier doesn't know {code!r}: answers in it cannot be counted.")
        if close := sorted(CONFUSED.get(code, set()) & codes):
            raise CorpusError(f"{code} and {close[0]} cannot be told apart. Ask for one of them.")


def is_in(text: str, *languages: str) -> bool:
    """Whether a text is in one of some languages, each asked for by itself; what is undetermined is in none."""
    return any(language_of(text, (language,)) == _code(language) for language in languages)


def share(texts: Sequence[str], *languages: str) -> float:
    """Return the share of texts that are in one of some languages; 0 of no texts."""
    return sum(is_in(text, *languages) for text in texts) / max(1, len(texts))


def knows(language: str) -> bool:
    return _code(language) in _whole()[1]


def _code(language: str) -> str:
    """Return the label without subtags: the identifier knows `pt`, not `pt-BR`."""
    return re.split(r"[-_]", language)[0]


@cache
def _identifier(wanted: frozenset[str]) -> Any:
    """Return the identifier for some wanted languages."""
    identifier, known = _whole()
    told = copy.copy(identifier)
    told.set_languages(sorted(known - {close for code in wanted for close in CONFUSED.get(code, set())}))
    return told


@cache  # loading takes a second
def _whole() -> tuple[Any, frozenset[str]]:
    """Load the identifier with all the languages it knows."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier, frozenset(identifier.nb_classes)
