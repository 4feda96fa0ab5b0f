"""Language confusion (Marchisio et al., 2024): does a model stay in the wanted language, line by line and word by word?

    LPR    share of the answers all of whose lines are in a wanted language
    WPR    of those, the share with no English word
    LCPR   2 · LPR · WPR / (LPR + WPR)

Ours is what the paper leaves to its tools:

- A line is judged when it has ENOUGH letters, of Han, kana and Hangul SYLLABLE times fewer. The identifier is sure of
  real text of that length in 94 to 100 of 100 cases, of 10 letters in 18 to 47 (en, es, fr, id), and a line that it isn't
  sure of counts as wrong. So shorter lines, a heading, a name in a list, are passed over as long as another line is
  judged. Where none is, the whole answer is judged as one line, or a short answer could never be right; without a letter
  it is wrong, and so is an empty answer. All answers count, so that the share is of the same answers as `accuracy`.
- An English word is, without a dictionary, a whole word of three or more letters a to z in lower case: names, acronyms and
  units pass (Google, HTML, km), and so does what is not a word (URLs, tags, mp3). A word of another language that can be
  written so counts too: it is as wrong.
- WPR is for languages not written in Latin script (NOT_LATIN), since there every such word is a stranger; in the others it
  would need a dictionary and is None. So it is when a Latin-script language is among the wanted ones, and when no answer
  passed the lines. An answer with Latin letters alone is left in peace: Serbian is written in both scripts.
- Without a WPR, LCPR is LPR. A perfect WPR in its place would raise it (0.5 to 0.67) for nothing measured.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..text.identify import TAG, check, is_in

ENOUGH = 40  # letters
SYLLABLE = 5  # letters that one of Han, kana or Hangul counts for
SYLLABIC = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
NOT_LATIN = {  # of those that the identifier knows
    "am", "ar", "ary", "arz", "as", "ba", "be", "bg", "bn", "dz", "el", "fa", "gom", "grc", "gu", "hbo", "he", "hi",
    "hy", "ja", "ka", "kk", "km", "kn", "ko", "ky", "lo", "mk", "ml", "mn", "mr", "my", "ne", "or", "pa", "ps", "ru",
    "sa", "sdh", "si", "sr", "ta", "te", "tg", "th", "tt", "ug", "uk", "ur", "uzs", "wuu", "yue", "zh",
}  # fmt: skip
LATIN = "A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿ"
ENGLISH = re.compile(rf"(?<![{LATIN}0-9])[a-z]{{3,}}(?![{LATIN}0-9])")
RUN = re.compile(r"[!-~]+")
ADDRESS = re.compile(r"://|@|[a-z0-9]\.[a-z]")


@dataclass(frozen=True)
class Confusion:
    """Shares, 0 … 1; `wpr` is None where it is not measured, and `lcpr` then equals `lpr`."""

    lpr: float
    wpr: float | None
    lcpr: float


def confusion(texts: Sequence[str], wanted: str | Sequence[str]) -> Confusion:
    """How far some answers stay in the wanted language, or in several: a line may be in any of them. All 0 of no answers.

    Raises CorpusError for a language that the identifier doesn't know.
    """
    languages = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for language in languages:
        check([language])
    passed = [text for text in texts if all(is_in(line, *languages) for line in judged_lines(text))]
    lpr = len(passed) / max(1, len(texts))
    if not passed or not all(re.split("[-_]", language)[0] in NOT_LATIN for language in languages):
        return Confusion(lpr, None, lpr)
    wpr = sum(not has_english(text) for text in passed) / len(passed)
    return Confusion(lpr, wpr, 2 * lpr * wpr / (lpr + wpr))


def judged_lines(text: str) -> list[str]:
    """Return the lines of an answer that are long enough to tell their language, or all of it as one where none is."""
    return [line for line in text.splitlines() if _weight(line) >= ENOUGH] or [text]


def has_english(text: str) -> bool:
    """Whether a text in another script than Latin has an English word."""
    bare = unicodedata.normalize("NFC", TAG.sub(" ", text))
    if not re.search(rf"[^\W\d_{LATIN}]", bare):
        return False
    return ENGLISH.search(RUN.sub(lambda run: " " if ADDRESS.search(run[0]) else run[0], bare)) is not None


def _weight(line: str) -> int:
    """Letters, of Han, kana and Hangul SYLLABLE each."""
    letters = filter(str.isalpha, TAG.sub(" ", line))
    return sum(SYLLABLE if SYLLABIC.match(letter) else 1 for letter in letters)
