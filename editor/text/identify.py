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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CorpusError

CERTAINTY = 0.7
AS = {"zh": ("yue", "wuu")}  # what fastText calls by names of their own counts as the language
CONFUSED = {  # too close to be asked for together
    "id": {"ms"}, "ms": {"id"}, "zh": {"wuu", "yue"}, "no": {"nn"}, "nn": {"no"}, "es": {"an", "ext"},
    "bs": {"hr", "sr"}, "hr": {"bs", "sr"}, "sr": {"bs", "hr"},
}  # fmt: skip
THREE = {  # codes of ISO 639-3, as in models of 200 languages and more
    "eng": "en", "zho": "zh", "cmn": "zh", "fra": "fr", "spa": "es", "vie": "vi", "ind": "id", "jpn": "ja", "deu": "de",
    "rus": "ru", "kor": "ko", "por": "pt", "ita": "it", "nld": "nl", "pol": "pl", "tur": "tr", "arb": "ar", "ara": "ar",
    "hin": "hi", "tha": "th", "ukr": "uk", "ces": "cs", "ell": "el", "heb": "he", "swe": "sv", "fin": "fi", "dan": "da",
    "nob": "no", "nor": "no", "ron": "ro", "hun": "hu", "bul": "bg", "fas": "fa", "pes": "fa", "zsm": "ms", "msa": "ms",
    "ben": "bn", "tam": "ta", "tel": "te", "urd": "ur", "cat": "ca", "hrv": "hr", "srp": "sr", "slk": "sk", "slv": "sl",
}  # fmt: skip
TAG = re.compile(r"</?[a-z][^<>\n]*>?")


def guess(text: str, languages: Sequence[str]) -> tuple[str, float]:
    """Return the likeliest language of a text and how certain that is, 0 … 1, where `languages` are to be recognised."""
    if _other:
        return _other[-1](text, languages)
    identifier = _identifier(frozenset(map(_code, languages)))
    language, certainty = identifier.classify(text)
    return str(language), float(certainty)


Identify = Callable[[str, Sequence[str]], tuple[str, float]]
_other: list[Identify] = []
_known: list[frozenset[str]] = []


@contextmanager
def identified_by(path: Path | None) -> Iterator[None]:
    """Identify languages with a fastText model while the block runs; None: with py3langid, as always.

    Raises CorpusError when the file is not there or is no such model, and when the library is not installed.
    """
    if path is None:
        yield
        return
    identify, known = _fasttext(path)
    _other.append(identify)
    _known.append(known)
    try:
        yield
    finally:
        _other.pop()
        _known.pop()


def _fasttext(path: Path) -> tuple[Identify, frozenset[str]]:
    """Load a fastText model: what identifies a text, and the codes that it knows."""
    if not path.is_file():
        raise CorpusError(f"there is no fastText model {path}.")
    try:
        import fasttext
    except ImportError:
        raise CorpusError("a fastText model needs its library: pip install fasttext-wheel.") from None
    try:
        model = fasttext.load_model(str(path))
        labels = {label: label.removeprefix("__label__").split("_")[0] for label in model.get_labels()}
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise CorpusError(f"{path} is no fastText model that tells languages apart ({error}).") from None

    def identify(text: str, languages: Sequence[str]) -> tuple[str, float]:
        wanted = {
            close: code for code in map(_code, languages) for close in (*AS.get(code, ()), *CONFUSED.get(code, ()))
        }
        shares: dict[str, float] = {}
        for share, label in model.f.predict(
            f"{' '.join(text.split())}\n", 5, 0.0, "strict"
        ):  # predict() fails on numpy 2
            code = _two_letters(labels[label])
            shares[wanted.get(code, code)] = shares.get(wanted.get(code, code), 0.0) + float(share)
        best = max(shares, key=lambda code: shares[code]) if shares else ""
        return best, min(1.0, shares.get(best, 0.0))

    return identify, frozenset(map(_two_letters, labels.values()))


def _two_letters(code: str) -> str:
    """Return the code that monoglot uses for a language that a model calls by three letters: `fr` for `fra`."""
    return THREE.get(code, code)


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
    return _code(language) in (_known[-1] if _known else _whole()[1])


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
