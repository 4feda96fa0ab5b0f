"""The measures, one function each: from a model and its neurons (a `Subject`) and options to plain data.

The data is what stands in a manifest or in findings, and what cards and reports are made of. A measure that runs the model
opens a stage for its progress, and tells a person what was chosen where the options leave it open.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from .. import embedded
from ..edits.applied import applied
from ..edits.carriers import Carried
from ..edits.controls import random_plan, random_redirection, random_vectors
from ..edits.manifest_base import carried_in
from ..errors import CorpusError, VerificationError
from ..live.log_loss import measure
from ..live.logits import Variant
from ..models.target import Target
from ..neurons import profile as layers
from ..progress import NOBODY, Listener
from ..text import identify
from ..text import prompts as prompts_file
from ..text.corpus import Text, open_corpus
from ..text.tokens import Packed, read_texts
from . import similarity as alike
from .answers import real_text, together
from .interview import answers, by_live, choose_prompts, settings
from .matrix import as_data, perplexity_matrices, switched_off
from .options import EFFECT, GENERATE, LEAKS, Options
from .quality import rounded
from .served import Served
from .still_written import leaks
from .subject import Subject

BASE, THIS, RANDOM, REAL = "base", "this model", "random neurons", "real text"


def perplexity(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """Measure the matrix: language deactivated × language of the text."""
    texts = read_held_out(subject.target, held_out_texts(subject, options, listener), options)
    layered = subject.layered
    model = layered.skeleton.model if layered else subject.model
    with listener.stage("perplexity", "contexts") as update:
        matrices = perplexity_matrices(
            model, subject.target.feed_forward, {"": subject.neurons}, texts, shared=options.shared,
            progress=update, layered=[layered] if layered else [], streaming=subject.streaming,
        )  # fmt: skip
    return as_data(matrices[""], options.shared)


def held_out_texts(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Text]:
    """Open the corpus that was asked for; else the embedded texts in the languages of the neurons."""
    if options.corpus:
        return open_corpus(options.corpus, list(options.languages))
    texts = open_corpus([embedded.NAME], list(options.languages))
    known = {language: text for language, text in texts.items() if language in subject.languages}
    if not known:
        raise CorpusError("there is no embedded text in a language of the neurons. Name some with `corpus`.")
    listener.told("Measuring on the embedded texts. Name your own with `corpus`.")
    return known


def read_held_out(target: Target, texts: Mapping[str, Text], options: Options) -> dict[str, Packed]:
    """Tokenize the held-out part of each language's text. Raises CorpusError when a language has none."""
    packed = read_texts(target, texts, tokens=options.text_tokens, context=options.context, held_out=True)
    for language, one in packed.items():
        if not one.tokens:
            raise CorpusError(f"{language} has too few documents for one to be held out. Add text in {language}.")
    return packed


def profile(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """Neurons per layer and language."""
    return {"width": subject.target.feed_forward.width, "layers": layers.profile(subject.neurons)}


def overlap(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """Neurons that two languages share, and Jaccard."""
    found = asdict(layers.overlap(subject.neurons))
    found["jaccard"] = {
        language: {other: round(value, 4) for other, value in row.items()} for language, row in found["jaccard"].items()
    }
    return found


def similarity(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """SES per layer, from aligned texts."""
    texts = aligned_texts(subject.languages, options, listener)
    alike.check(texts)
    with listener.stage("similarity", "texts") as update:
        found = asdict(alike.similarity(subject.model, subject.tokenizer, texts, progress=update))
    return {**{key: _rounded(value) for key, value in found.items()}, "sha256": prompts_file.hashes(texts)}


def aligned_texts(known: Sequence[str], options: Options, listener: Listener = NOBODY) -> prompts_file.Prompts:
    """Load the aligned texts that were asked for; else the embedded ones, in the languages that are `known`."""
    if options.aligned:
        return prompts_file.load(options.aligned, options.languages, what="aligned texts")
    listener.told("Comparing the embedded texts, which say the same in each language. Name your own with `aligned`.")
    wanted = options.languages or known
    return {language: own for language in wanted if (own := prompts_file.passages(language))}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [round(one, 4) for one in value] if isinstance(value, list) else value


def generate(subject: Subject, options: Options, listener: Listener = NOBODY) -> tuple[str, dict[str, Any]]:
    """Which language the checkpoint answers in, beside its base and random neurons: the record's key, and what was found."""
    if subject.folder is None or subject.manifest is None:
        raise VerificationError(
            f"{subject.target.source.name} is no checkpoint of monoglot's, so it has no edits to measure."
        )
    what, recipe = carried_in(subject.folder, subject.target, subject.neurons), subject.manifest.recipe
    moved = {edit.language: (str(edit.to),) for edit in recipe.redirects}
    activated = () if moved and not recipe.of_neurons else subject.manifest.activated
    key = "activated"
    if options.answer_in:
        key, activated, moved = "asked", (options.answer_in,), {}
    elif options.same_language or not (activated or moved):
        if not activated and not options.same_language:
            listener.told(
                "No language is activated in it: measured is how often it answers in the prompt's own language."
            )
        key, activated, moved = "same_language", (), {}
    searched = bool(
        subject.manifest.strength or (subject.manifest.candidates and subject.manifest.candidates["kind"] == "on")
    )
    prompts = choose_prompts(options, subject.languages, activated, listener, searched=searched)
    wanted = {language: moved.get(language) or activated or (language,) for language in prompts}
    for code in {code for codes in wanted.values() for code in codes}:  # before models are loaded
        identify.check([code])
    served = Served(subject, options, BASE, THIS, listener.told) if options.engine else None
    base = subject.model if options.base_here or not served else None
    real = real_text(base, subject.tokenizer, wanted, options.tokens)
    writers = served.writers if served else by_live(subject, _variants(subject, what), options)
    found, figures = answers(subject, writers, base, prompts, wanted, real, options, "generate", listener)
    if served:
        served.kept.done()
    return key, {
        **settings(options, prompts, searched),
        **(served.record() if served else {}),
        "wanted": {language: list(codes) for language, codes in wanted.items()},
        "by_language": {
            language: {**{name: by[language] for name, by in figures.items()}, REAL: rounded(real[language])}
            for language in prompts
        },
        "all": {name: together(by) for name, by in found.items()},
        "samples": [
            {"language": language, "prompt": prompt, **{name: by[language].texts[at] for name, by in found.items()}}
            for language, own in prompts.items()
            for at, prompt in enumerate(own[: options.samples])
        ],
    }


def _variants(subject: Subject, what: Carried) -> list[Variant]:
    """Return the base, the checkpoint, and the base with random neurons in the same way, live."""
    control = random_plan(what.plan, subject.target.feed_forward.width, blocks=subject.target.feed_forward.blocks)
    drawn = random_redirection(what.tokens.redirection) if what.tokens else None
    random = partial(
        applied, subject.model, subject.target, subject.modules, control, drawn, vectors=random_vectors(what.vectors)
    )
    return [Variant(BASE, subject.model), Variant(THIS, subject.baked()), Variant(RANDOM, subject.model, random)]


def deactivate_each(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """Repeat the paper's open-ended task, scored by the prompt's language.

    It compares answers with no language off, random neurons off, and each language off in turn.
    """
    prompts = choose_prompts(options, subject.languages, (), listener)
    wanted = {language: (language,) for language in prompts}
    off, sizes = switched_off(subject.model, subject.target.feed_forward, subject.neurons, options.shared)
    variants = [Variant("none", subject.model), *sorted(off, key=lambda variant: variant.name != "random")]
    real = real_text(subject.model, subject.tokenizer, wanted, options.tokens)
    writers = by_live(subject, variants, options)
    found, figures = answers(
        subject, writers, subject.model, prompts, wanted, real, options, "deactivate each", listener
    )
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


def effect(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """Measure what a checkpoint does to text in each language, its own and the others': mean log-loss of a token, by model.

    `verify` says it of the text that it proves on; this is of any text, and of as much as is asked for. Raises
    VerificationError for what is no checkpoint, CorpusError for a language without held-out text.
    """
    if subject.folder is None or subject.manifest is None:
        raise VerificationError(
            f"{subject.target.source.name} is no checkpoint of monoglot's, so it has no edits to measure."
        )
    manifest, what = subject.manifest, carried_in(subject.folder, subject.target, subject.neurons)
    texts = read_held_out(subject.target, held_out_texts(subject, options, listener), options)
    with listener.stage("effect", "contexts") as update:
        measured = measure(_variants(subject, what), texts, progress=update)
    edited = (*manifest.activated, *manifest.deactivated, *(edit.language for edit in manifest.recipe.redirects))
    return {
        "log_loss": {
            name: {code: round(loss, 4) for code, loss in by.items()} for name, by in measured.log_loss.items()
        },
        "tokens": dict(measured.tokens),
        "own": [code for code in texts if code in edited],
        "sha256": {language: one.sha256 for language, one in texts.items()},
    }


Measure = Callable[[Subject, Options, Listener], dict[str, Any]]
MEASURES: dict[str, Measure] = {
    "profile": profile,
    "overlap": overlap,
    "perplexity": perplexity,
    "similarity": similarity,
    "deactivate_each": deactivate_each,
}


def evaluate(
    subject: Subject,
    names: Iterable[str],
    options: Options,
    *,
    keep: Callable[[dict[str, Any]], object] | None = None,
    listener: Listener = NOBODY,
) -> dict[str, Any]:
    """Measure what `names` say: keys of MEASURES, and GENERATE, EFFECT and LEAKS of a checkpoint.

    The answer is by the names of a manifest, where GENERATE goes by what was counted: activated, asked or same_language.

    `keep` gets all that was measured, after each measure, so that an interruption loses one at most.
    """
    with identify.identified_by(options.lid):
        return _evaluate(subject, set(names), options, keep, listener)


def _evaluate(
    subject: Subject,
    chosen: set[str],
    options: Options,
    keep: Callable[[dict[str, Any]], object] | None,
    listener: Listener,
) -> dict[str, Any]:
    """Measure while the identifier is in its place."""
    found: dict[str, Any] = {}
    for name, measuring in MEASURES.items():
        if name in chosen:
            found[name] = measuring(subject, options, listener)
            if keep:
                keep(found)
    if GENERATE in chosen:
        name, answered = generate(subject, options, listener)
        found[name] = answered
        if keep:
            keep(found)
    if EFFECT in chosen:
        found[EFFECT] = effect(subject, options, listener)
        if keep:
            keep(found)
    if LEAKS in chosen:
        found[LEAKS] = leaks(subject, options, listener)
        if keep:
            keep(found)
    return found
