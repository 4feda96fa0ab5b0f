"""What `evaluate` measures: a function a measure, from a subject and the options to plain data for manifest and report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from ...editor.text.prompts import COUNT
from ..console import bar, note

BASE, THIS, RANDOM, REAL = "base", "this model", "random neurons", "real text"
QUESTIONS = "questions"  # in place of a file of prompts: those that ship with the package


@dataclass(frozen=True)
class Options:
    """What the command line says of how to measure."""

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
    same_language: bool = False
    judge: str | None = None
    judge_model: str | None = None
    judge_key_env: str = "MONOGLOT_JUDGE_KEY"
    judge_dry_run: bool = False


def perplexity(subject: Any, options: Options) -> dict[str, Any]:
    """The matrix: language deactivated × language of the text."""
    from ...editor.measures.matrix import as_data, perplexity_matrices

    texts = read_held_out(subject.target, held_out_texts(subject, options), options)
    with bar("perplexity", "contexts") as update:
        matrices = perplexity_matrices(
            subject.model, subject.target.feed_forward, {"": subject.neurons}, texts, shared=options.shared,
            progress=update,
        )  # fmt: skip
    return as_data(matrices[""], options.shared)


def held_out_texts(subject: Any, options: Options) -> Any:
    """The corpus that was asked for; else the embedded texts in the languages of the neurons."""
    from ...editor import embedded
    from ...editor.errors import CorpusError
    from ...editor.text.corpus import open_corpus

    if options.corpus:
        return open_corpus(options.corpus, list(options.languages))
    texts = open_corpus([embedded.NAME], list(options.languages))
    known = {language: text for language, text in texts.items() if language in subject.neurons.languages}
    if not known:
        raise CorpusError("there is no embedded text in a language of the neurons. Name some with --corpus.")
    note("Measuring on the embedded texts. Name your own with --corpus.")
    return known


def read_held_out(target: Any, texts: Any, options: Options) -> Any:
    """The held-out part of each language's text, tokenized. Raises CorpusError when a language has none."""
    from ...editor.errors import CorpusError
    from ...editor.text.tokens import read_texts

    packed = read_texts(target, texts, tokens=options.text_tokens, context=options.context, held_out=True)
    for language, one in packed.items():
        if not one.tokens:
            raise CorpusError(f"{language} has too few documents for one to be held out. Add text in {language}.")
    return packed


def profile(subject: Any, options: Options) -> dict[str, Any]:
    """Neurons per layer and language."""
    from ...editor.neurons.profile import profile as per_layer

    return {"width": subject.target.feed_forward.width, "layers": per_layer(subject.neurons)}


def overlap(subject: Any, options: Options) -> dict[str, Any]:
    """Neurons that two languages share, and Jaccard."""
    from ...editor.neurons.profile import overlap as between

    found = asdict(between(subject.neurons))
    found["jaccard"] = {
        language: {other: round(value, 4) for other, value in row.items()} for language, row in found["jaccard"].items()
    }
    return found


def similarity(subject: Any, options: Options) -> dict[str, Any]:
    """SES per layer, from aligned texts."""
    from ...editor.measures.similarity import check
    from ...editor.measures.similarity import similarity as compare
    from ...editor.text import prompts

    if options.aligned:
        texts = prompts.load(options.aligned, options.languages, what="aligned texts")
    else:
        note("Comparing the embedded texts, which say the same in each language. Name your own with --aligned.")
        wanted = options.languages or subject.neurons.languages
        texts = {language: own for language in wanted if (own := prompts.passages(language))}
    check(texts)
    with bar("similarity", "texts") as update:
        found = asdict(compare(subject.model, subject.tokenizer, texts, progress=update))
    return {key: _rounded(value) for key, value in found.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [round(one, 4) for one in value] if isinstance(value, list) else value


def generate(subject: Any, options: Options) -> tuple[str, dict[str, Any]]:
    """Which language the checkpoint answers in, beside its base and random neurons: the record's key, and what was found."""
    from ...editor.edits.hooks import random_plan, steered
    from ...editor.edits.manifest import carried_in, recipe_of
    from ...editor.live.logits import Variant
    from ...editor.measures.answers import real_text
    from ...editor.measures.quality import rounded

    plan = carried_in(subject.folder, subject.target, subject.neurons).plan
    activated = recipe_of(subject.record, subject.target).activated or tuple(
        filter(None, [(subject.record.get("strength") or {}).get("language")])
    )
    key = "activated"
    if options.answer_in:
        key, activated = "asked", (options.answer_in,)
    elif options.same_language or not activated:
        if not activated and not options.same_language:
            note("No language is activated in it: measured is how often it answers in the prompt's own language.")
        key, activated = "same_language", ()
    prompts = choose_prompts(options, subject.neurons.languages, activated)
    wanted = {language: activated or (language,) for language in prompts}
    control = random_plan(plan, subject.target.feed_forward.width)
    variants = [
        Variant(BASE, subject.model),
        Variant(THIS, subject.baked()),
        Variant(RANDOM, subject.model, partial(steered, subject.modules, control)),
    ]
    real = real_text(subject.model, subject.tokenizer, wanted, options.tokens)
    found, figures = answers(subject, variants, prompts, wanted, real, options, "generate")
    return key, {
        **settings(options, prompts),
        "wanted": {language: list(codes) for language, codes in wanted.items()},
        "by_language": {
            language: {**{name: by[language] for name, by in figures.items()}, REAL: rounded(real[language])}
            for language in prompts
        },
        "samples": [
            {"language": language, "prompt": prompt, **{name: by[language].texts[at] for name, by in found.items()}}
            for language, own in prompts.items()
            for at, prompt in enumerate(own[: options.samples])
        ],
    }


def deactivate_each(subject: Any, options: Options) -> dict[str, Any]:
    """The paper's open-ended task: answers with no language off, random neurons off, and each language off in turn, scored
    by the prompt's language."""
    from ...editor.live.logits import Variant
    from ...editor.measures.answers import real_text
    from ...editor.measures.matrix import switched_off

    prompts = choose_prompts(options, subject.neurons.languages, ())
    wanted = {language: (language,) for language in prompts}
    off, sizes = switched_off(subject.model, subject.target.feed_forward, subject.neurons, options.shared)
    variants = [Variant("none", subject.model), *sorted(off, key=lambda variant: variant.name != "random")]
    real = real_text(subject.model, subject.tokenizer, wanted, options.tokens)
    found, figures = answers(subject, variants, prompts, wanted, real, options, "deactivate each")
    return {
        **settings(options, prompts),
        "shared": options.shared,
        "neurons": sizes,
        "rows": figures,
        "samples": [
            {
                "language": language,
                "prompt": prompt,
                **{name: found[name][language].texts[at] for name in ("none", "random")},
                "off": found[language][language].texts[at],
            }
            for language, own in prompts.items()
            if language in found
            for at, prompt in enumerate(own[: options.samples])
        ],
    }


def settings(options: Options, prompts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """How answers were asked for, as the record keeps it."""
    return {
        "tokens": options.tokens,
        "prompts": {language: len(own) for language, own in prompts.items()},
        **({"chat": True} if options.chat else {}),
        **({"answer_in": options.answer_in} if options.answer_in else {}),
        **({"judge": options.judge_model} if options.judge else {}),
    }


def choose_prompts(options: Options, known: Sequence[str], activated: Sequence[str]) -> dict[str, list[str]]:
    """The prompts that were asked for, those in the activated languages left out."""
    from ...editor.errors import CorpusError
    from ...editor.text import prompts
    from ...editor.text.questions import questions

    if options.prompts == QUESTIONS:
        shipped = questions()
        found = questions(options.languages or [code for code in known if code in shipped], options.count)
    elif options.prompts:
        found = prompts.load(Path(options.prompts), options.languages, options.count)
    else:
        note("Prompts: beginnings of the embedded texts. Name your own with --prompts.")
        wanted = options.languages or [code for code in known if prompts.passages(code)]
        found = prompts.embedded_prompts(wanted, options.count)
    found = {language: own for language, own in found.items() if language not in activated}
    if not found:
        only = f" in another language than {', '.join(activated)}" if activated else ""
        raise CorpusError(
            f"there are no prompts{only}, so there is nothing to evaluate. Give some with --prompts FILE."
        )
    return found


def with_requests(prompts: Mapping[str, Sequence[str]], options: Options) -> dict[str, list[str]]:
    """The prompts, each with the request to answer in a language where that was asked for."""
    from ...editor.text.questions import with_request

    if not options.answer_in:
        return {language: list(own) for language, own in prompts.items()}
    return {
        language: [with_request(prompt, language, options.answer_in) for prompt in own]
        for language, own in prompts.items()
    }


def answers(
    subject: Any,
    variants: Sequence[Any],
    prompts: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    real: Mapping[str, Any],
    options: Options,
    title: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, dict[str, Any]]]]:
    """By variant and the prompt's language: the answers, and their figures, the judge's mean mark among them where there is
    a judge."""
    from ...editor.live.generate import in_chat
    from ...editor.measures.answers import ask

    asked = with_requests(prompts, options)
    read = asked
    if options.chat:
        read = {language: [in_chat(subject.tokenizer, prompt) for prompt in own] for language, own in asked.items()}
    yardstick = {language: one.perplexity for language, one in real.items()}
    with bar(title, "answers") as update:
        found = ask(
            variants, subject.model, subject.tokenizer, read, wanted, yardstick, tokens=options.tokens, progress=update
        )
    graded = grade(found, asked, wanted, options)
    figures = {
        name: {language: {**own.figures(), **graded[name][language]} for language, own in by.items()}
        for name, by in found.items()
    }
    return found, figures


def grade(
    found: Mapping[str, Mapping[str, Any]],
    asked: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    options: Options,
) -> dict[str, dict[str, dict[str, Any]]]:
    """The judge's mean mark for the answers of each variant in each language; nothing where no judge was asked for."""
    from ...editor.errors import JudgeError
    from ...editor.measures import judge
    from ...editor.text.languages import name as english

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
        note("Judge, dry run: nothing is sent, and nothing that was measured is kept.")
        for name, value in plan.items():
            note(f"  {name}: {value}")
        return empty
    key = judge.key_from_environment(options.judge_key_env)
    try:
        with bar("judge", "answers") as update:
            verdicts = iter(judge.judge(options.judge, str(options.judge_model), items, key=key, progress=update))
    except JudgeError as error:  # the answers are not lost for it
        note(f"Warning: {error} The answers are kept without marks.")
        return empty
    failed = 0
    for name, language in places:
        mean, _, missed = judge.mean_quality([next(verdicts) for _ in asked[language]])
        empty[name][language] = {"quality": None if mean is None else round(mean, 2)}
        failed += missed
    if failed:
        note(f"The judge gave no mark for {failed} of {len(items)} answers; they count for nothing.")
    return empty


def check_judge(options: Options) -> None:
    """Before the work: the judge answers, and has the model."""
    from ...editor.measures import judge

    if (options.judge is None) != (options.judge_model is None):
        raise click.UsageError("--judge URL and --judge-model NAME go together.")
    if options.judge and not options.judge_dry_run:
        judge.check(options.judge, str(options.judge_model), judge.key_from_environment(options.judge_key_env))
