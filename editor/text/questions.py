"""Everyday questions to ask a model, the same ones in seven languages, and requests to answer in another language.

`embedded/questions.json` holds both, written for the project:

    questions   40 objects, each one question in en zh fr es vi id ja
    answer_in   prompt's language -> language of the answer -> the sentence that asks for it

A question can be answered in a few sentences by anybody anywhere. Unlike the prompts of `prompts`, beginnings of texts
that a model goes on with, they are for models that were tuned to answer.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .. import embedded
from ..errors import CorpusError

FILE = Path(embedded.__file__).parent / "questions.json"
UNSPACED = ("ja", "zh")  # a full stop is not followed by a space


def questions(languages: Sequence[str] = (), count: int | None = None) -> dict[str, list[str]]:
    """Return the first `count` questions (None: all 40) in each language, in all languages when none are named.

    The languages come in the order asked for. The same number in two languages is the same question. Raises CorpusError for a
    language that the questions are not in.
    """
    rows = _file()["questions"]
    languages = languages or list(rows[0])
    return {language: [_in(row, language, "questions") for row in rows[:count]] for language in languages}


def answer_in(prompt_language: str, target: str) -> str:
    """Return the sentence in `prompt_language` that asks for an answer in `target`: from en to fr "Answer in French.".

    Raises CorpusError for a language, of either, that there is no such sentence for.
    """
    asking: Mapping[str, str] = _in(_file()["answer_in"], prompt_language, "requests for a language")
    return str(_in(asking, target, "requests for an answer"))


def with_request(question: str, prompt_language: str, target: str) -> str:
    """Return a question in `prompt_language`, followed by the request for an answer in `target`.

    A space stands between them where the script has one. Raises CorpusError as `answer_in` does.
    """
    return question + ("" if prompt_language in UNSPACED else " ") + answer_in(prompt_language, target)


def _in(row: Mapping[str, Any], language: str, what: str) -> Any:
    if language not in row:
        raise CorpusError(
            f"there are no embedded {what} in {language!r}, only in {', '.join(sorted(row))}. Ask for one of them."
        )
    return row[language]


@cache
def _file() -> Any:
    return json.loads(FILE.read_text(encoding="utf-8"))
