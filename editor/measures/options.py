"""The names of the measures, and the options that they take."""

from dataclasses import dataclass
from pathlib import Path

from ..text.prompts import COUNT

OF_NEURONS = ("profile", "overlap", "perplexity", "similarity", "deactivate_each")  # in the order they are measured in
GENERATE = "generate"  # of a checkpoint alone
LEAKS = "leaks"  # likewise
EFFECT = "effect"  # likewise
QUESTIONS = "questions"  # in place of a file of prompts: those that ship with the package
CORPUS = "corpus"  # … or the beginnings of held-out documents of the corpus
BEGINNINGS = "beginnings"  # what the prompts are by default: those of the embedded texts
KEY_VARIABLE = "MONOGLOT_JUDGE_KEY"
ENGINE_KEY_VARIABLE = "MONOGLOT_ENGINE_KEY"


@dataclass(frozen=True)
class Options:
    """Settings of the measures; each reads those that concern it.

    `corpus` and `aligned` are texts, by default the embedded ones. `prompts` is a file, a folder, QUESTIONS or CORPUS, by
    default the beginnings of the embedded texts, and QUESTIONS where a search has seen such. `lid` is a fastText model that
    identifies languages. `answer_in` is a language that the prompts ask for in so many words. With
    `same_language` an answer counts when it is in the prompt's own language. `judge` is the address of an
    OpenAI-compatible API, `judge_model` the name of the judge there. `answers` are drawn to see whether a script leaks.

    `engine` is who writes the answers: "vllm", started by the interpreter `python` on `tensor_parallel_size` GPUs in
    `dtype`, or the address of an OpenAI-compatible server, where the checkpoint is called `served`; its base is called
    `base_served` there, or at `base_engine`. None is transformers. `engine_dtype` is what such a server computes in, where it
    does not say that. `base_here` loads the base here too, which judges what was written. `system`, `temperature` and `seed`
    are how an engine is asked; a system prompt goes with `chat`.
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
    lid: Path | None = None
    same_language: bool = False
    engine: str | None = None
    base_engine: str | None = None
    served: str | None = None
    base_served: str | None = None
    engine_key_env: str = ENGINE_KEY_VARIABLE
    engine_dtype: str | None = None
    tensor_parallel_size: int = 1
    python: str | None = None
    dtype: str = "auto"
    base_here: bool = True
    system: str | None = None
    temperature: float = 0.0
    seed: int = 0
    judge: str | None = None
    judge_model: str | None = None
    judge_key_env: str = KEY_VARIABLE
    judge_dry_run: bool = False
