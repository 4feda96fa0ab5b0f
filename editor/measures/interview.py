"""Chooses the prompts, lets models answer them, and lets a judge score the answers if there is one."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import CorpusError, JudgeError
from ..live.generate import in_chat
from ..live.logits import Variant
from ..progress import NOBODY, Listener
from ..text import prompts as prompts_file
from ..text.corpus import open_corpus
from ..text.languages import name as english
from ..text.questions import questions, with_request
from . import judge
from .answers import Answers, Writer, ask_writers, local
from .options import BEGINNINGS, CORPUS, QUESTIONS, Options
from .quality import Quality
from .subject import Subject


def kind_of(options: Options, searched: bool) -> str:
    """Name the kind of prompts: by default one that a search has not seen."""
    if options.prompts in (QUESTIONS, CORPUS):
        return str(options.prompts)
    return "file" if options.prompts else QUESTIONS if searched else BEGINNINGS


def settings(options: Options, prompts: Mapping[str, Sequence[str]], searched: bool = False) -> dict[str, Any]:
    """How answers were asked for, as the record keeps it."""
    return {
        "tokens": options.tokens,
        "prompts": {language: len(own) for language, own in prompts.items()},
        "sha256": prompts_file.hashes(prompts),
        "kind": kind_of(options, searched),
        **({"chat": True} if options.chat else {}),
        **({"system": options.system} if options.system else {}),
        **({"lid": options.lid.name} if options.lid else {}),
        **({"answer_in": options.answer_in} if options.answer_in else {}),
        **({"judge": options.judge_model} if options.judge else {}),
    }


def choose_prompts(
    options: Options,
    known: Sequence[str],
    activated: Sequence[str],
    listener: Listener = NOBODY,
    *,
    searched: bool = False,
) -> dict[str, list[str]]:
    """Choose the prompts that were asked for, without those in the activated languages.

    `searched` says that a search has seen beginnings of texts, so that by default another kind is taken.
    """
    kind = kind_of(options, searched)
    if kind == CORPUS:
        found = from_corpus(options, known)
    elif kind == QUESTIONS:
        if not options.prompts:
            listener.told(
                "Prompts: everyday questions, as the search has seen beginnings of texts. Name your own with `prompts`."
            )
        shipped = questions()
        found = questions(options.languages or [code for code in known if code in shipped], options.count)
    elif options.prompts:
        found = prompts_file.load(Path(options.prompts), options.languages, options.count)
    else:
        listener.told("Prompts: beginnings of the embedded texts. Name your own with `prompts`.")
        wanted = options.languages or [code for code in known if prompts_file.passages(code)]
        found = prompts_file.embedded_prompts(wanted, options.count)
    found = {language: own for language, own in found.items() if language not in activated}
    if not found:
        only = f" in another language than {', '.join(activated)}" if activated else ""
        raise CorpusError(f"there are no prompts{only}, so there is nothing to evaluate. Give some with `prompts`.")
    return found


def from_corpus(options: Options, known: Sequence[str]) -> dict[str, list[str]]:
    """Return the beginnings of held-out documents, `count` a language, of documents that go on after them.

    Raises CorpusError without a corpus, and for a language that was asked for and has none.
    """
    if not options.corpus:
        raise CorpusError("`prompts` corpus takes the beginnings of documents in a corpus. Name it with `corpus`.")
    texts = open_corpus(options.corpus, list(options.languages))
    found: dict[str, list[str]] = {}
    for language, text in texts.items():
        if language not in known and not options.languages:
            continue
        begun = ((prompts_file.beginning(document, language), document) for document in text.part(held_out=True))
        longer = dict.fromkeys(prompt for prompt, document in begun if len(document) > 2 * len(prompt) > 0)
        if own := list(islice(longer, options.count)):
            found[language] = own
        elif options.languages:
            raise CorpusError(f"{language} has no held-out document that is long enough to ask for its rest. Add text.")
    return found


def with_requests(prompts: Mapping[str, Sequence[str]], options: Options) -> dict[str, list[str]]:
    """Return the prompts, each with the request to answer in a language where that was asked for."""
    if not options.answer_in:
        return {language: list(own) for language, own in prompts.items()}
    return {
        language: [with_request(prompt, language, options.answer_in) for prompt in own]
        for language, own in prompts.items()
    }


def answers(
    subject: Subject,
    writers: Mapping[str, Writer],
    base: Any,
    prompts: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    real: Mapping[str, Quality],
    options: Options,
    title: str,
    listener: Listener = NOBODY,
) -> tuple[dict[str, dict[str, Answers]], dict[str, dict[str, dict[str, Any]]]]:
    """Ask who writes, by name, and measure the answers by name and the prompt's language; `base` None sees no word salad.

    Returns the answers, and their figures, the judge's mean mark among them where there is a judge.
    """
    asked = with_requests(prompts, options)
    read = asked
    if options.chat and base is not None:
        chatting = partial(in_chat, subject.tokenizer, system=options.system)
        read = {language: list(map(chatting, own)) for language, own in asked.items()}
    yardstick = {language: one.perplexity for language, one in real.items()}
    with listener.stage(title, "answers") as update:
        found = ask_writers(
            writers, base, subject.tokenizer, asked, wanted, yardstick, read=read, progress=update
        )  # fmt: skip
    graded = grade(found, asked, wanted, options, listener)
    figures = {
        name: {language: {**own.figures(), **graded[name][language]} for language, own in by.items()}
        for name, by in found.items()
    }
    return found, figures


def by_live(subject: Subject, variants: Sequence[Variant], options: Options) -> dict[str, Writer]:
    """Make what writes the answers of live models, by name, in their chat template where that was asked for."""

    def chatting(write: Writer) -> Writer:
        return lambda prompts, progress: write(
            [in_chat(subject.tokenizer, prompt, options.system) for prompt in prompts], progress
        )

    written = {variant.name: local(variant, subject.tokenizer, options.tokens) for variant in variants}
    return {name: chatting(write) for name, write in written.items()} if options.chat else written


def grade(
    found: Mapping[str, Mapping[str, Answers]],
    asked: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    options: Options,
    listener: Listener = NOBODY,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the judge's mean mark for the answers of each variant in each language; nothing where no judge was asked for."""
    empty: dict[str, dict[str, dict[str, Any]]] = {
        name: {language: {} for language in by} for name, by in found.items()
    }
    if not options.judge:
        return empty
    places = [(name, language) for name, by in found.items() for language in by]
    items = [
        (prompt, text, english(wanted[language][0]))
        for name, language in places
        for prompt, text in zip(asked[language], found[name][language].texts, strict=True)
    ]
    if options.judge_dry_run:
        plan = judge.dry_run(items, str(options.judge_model))
        listener.told("Judge, dry run: nothing is sent, and nothing that was measured is kept.")
        for name, value in plan.items():
            listener.told(f"  {name}: {value}")
        return empty
    key = judge.key_from_environment(options.judge_key_env)
    try:
        with listener.stage("judge", "answers") as update:
            verdicts = iter(judge.judge(options.judge, str(options.judge_model), items, key=key, progress=update))
    except JudgeError as error:  # the answers are not lost for it
        listener.told(f"Warning: {error} The answers are kept without marks.")
        return empty
    failed = 0
    for name, language in places:
        mean, _, missed = judge.mean_quality([next(verdicts) for _ in asked[language]])
        empty[name][language] = {"quality": None if mean is None else round(mean, 2)}
        failed += missed
    if failed:
        listener.told(f"The judge gave no mark for {failed} of {len(items)} answers; they count for nothing.")
    return empty


def check_judge(options: Options) -> None:
    """Raise JudgeError, before the work, when the judge does not answer or does not have the model."""
    if (options.judge is None) != (options.judge_model is None):
        raise JudgeError("a judge is an address and a model there. Give both `judge` and `judge_model`.")
    if options.judge and not options.judge_dry_run:
        judge.check(options.judge, str(options.judge_model), judge.key_from_environment(options.judge_key_env))
