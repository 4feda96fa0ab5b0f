"""The names of the measures, and the options that they take."""

from dataclasses import dataclass
from pathlib import Path

from ..text.prompts import COUNT

OF_NEURONS = ("profile", "overlap", "perplexity", "similarity", "deactivate_each")  # in the order they are measured in
GENERATE = "generate"  # of a checkpoint alone
LEAKS = "leaks"  # likewise
QUESTIONS = "questions"  # in place of a file of prompts: those that ship with the package
KEY_VARIABLE = "MONOGLOT_JUDGE_KEY"


@dataclass(frozen=True)
class Options:
    """Settings of the measures; each reads those that concern it.

    `corpus` and `aligned` are texts, by default the embedded ones. `prompts` is a file, a folder or QUESTIONS, by default
    the beginnings of the embedded texts. `answer_in` is a language that the prompts ask for in so many words. With
    `same_language` an answer counts when it is in the prompt's own language. `judge` is the address of an
    OpenAI-compatible API, `judge_model` the name of the judge there. `answers` are drawn to see whether a script leaks.
    """

    corpus: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    text_tokens: int = 1024
    context: int = 512
    shared: str = "edit"
    aligned: Path | None = None
    prompts: str | None = None
    answer_in: str | None = None
    chat: bool = False
    count: int = COUNT
    tokens: int = 24
    samples: int = 1
    answers: int = 1000
    same_language: bool = False
    judge: str | None = None
    judge_model: str | None = None
    judge_key_env: str = KEY_VARIABLE
    judge_dry_run: bool = False
