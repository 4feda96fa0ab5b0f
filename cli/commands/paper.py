"""monoglot paper: the paper's experiments on a model, from its text to one page."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...editor.measures.options import Options
from ..console import answer, bar, listener, note
from ..options import corpus_options, detect_options, find_options, split
from ..terminal import say

if TYPE_CHECKING:
    from ...editor.measures.subject import Subject
    from ...editor.neurons.neurons import Neurons
    from ...editor.statistics.statistics import Statistics
    from ...editor.text.corpus import Text

STATISTICS = "stats.safetensors"
MEASURED = ("lape", "lave", "ap")  # methods whose neurons are switched off; LAP takes another number of them


@click.command("paper")
@click.argument("model")
@corpus_options
@find_options
@detect_options
@click.option(
    "--text-tokens", type=click.IntRange(2), default=1024, show_default=True, help="Held-out tokens a language."
)
@click.option(
    "--prompts", metavar="FILE|DIR|questions", help="As of `evaluate`. Default: the embedded texts' beginnings."
)
@click.option("--count", type=click.IntRange(1), default=8, show_default=True, help="Prompts a language.")
@click.option("--aligned", metavar="DIR", type=click.Path(path_type=Path), help="Aligned texts, as of `evaluate`.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder of the findings.")
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def command(
    model: str,
    corpus: tuple[str, ...],
    languages: str | None,
    rate: float,
    quantile: float,
    tokens: int,
    context: int,
    minimum: int,
    batch_size: int,
    device: str,
    dtype: str,
    text_tokens: int,
    prompts: str | None,
    count: int,
    aligned: Path | None,
    output: Path,
    as_json: bool,
) -> None:
    """Repeat the paper's experiments on MODEL, and put them on one page.

    Records the neurons' activations, finds each language's neurons by every method, switches them off language by language
    and measures the perplexity of text and the language of answers in all of them, with random neurons as the control; layer
    profile, overlap and the similarity of translations besides. What is finished is kept: stopped and run again with the same
    options, it goes on where it stopped.

    \b
    monoglot paper google/gemma-3-270m --corpus texts/ -o findings
    """
    from ...editor.edits.evaluation import Evaluation
    from ...editor.measures import findings, measure
    from ...editor.measures.compare_methods import find_all
    from ...editor.measures.subject import Subject
    from ...editor.models.source import resolve
    from ...editor.models.target import model_info, open_target
    from ...editor.neurons import neurons
    from ...editor.statistics.detection import Detection
    from ...editor.statistics.reuse import detect_or_reuse
    from ...editor.text.corpus import open_corpus

    if not corpus:
        raise click.UsageError("Name the text with --corpus (a folder of {lang}.txt).")
    target = open_target(resolve(model))
    texts = open_corpus(corpus, split(languages))
    options = Options(
        corpus=corpus, languages=tuple(texts), text_tokens=text_tokens, context=context, prompts=prompts, count=count,
        aligned=aligned,
    )  # fmt: skip
    findings.check_place(output)
    check_same(output, {"rate": rate, "quantile": quantile, "context": context}, list(texts))
    measure.read_held_out(target, texts, options)  # says now what would be wrong with it in an hour
    detection = Detection(tokens, context, minimum, batch_size, device, dtype, per_text=True)
    known, _ = detect_or_reuse(target, texts, output / STATISTICS, detection, listener=listener())
    sets = find_all(known, rate=rate, quantile=quantile)
    subject = Subject(target, sets["lape"], None, None, device, dtype)
    kept = findings.of_folder(output, model_info(target), subject.neurons)
    asked = {"text_tokens": text_tokens, "context": context, "prompts": prompts, "count": count, "corpus": known.texts,
             "aligned": str(aligned) if aligned else None, "rate": rate, "quantile": quantile}  # fmt: skip
    if kept.settings != findings.plain(asked):
        kept = replace(kept, evaluation=Evaluation({}), settings=findings.plain(asked))
    listening = listener()
    steps: dict[str, Callable[[], Any]] = {
        "profile": lambda: measure.profile(subject, options, listening),
        "overlap": lambda: measure.overlap(subject, options, listening),
        "methods": lambda: methods(subject, known, sets, texts, options, rate, quantile),
        "perplexity": lambda: kept.evaluation.measures["methods"]["methods"]["lape"]["perplexity"],
        "similarity": lambda: measure.similarity(subject, options, listening),
        "deactivate_each": lambda: measure.deactivate_each(subject, options, listening),
    }
    for number, (name, step) in enumerate(steps.items(), start=1):
        if name in kept.evaluation.measures:
            note(f"{name}: there already")
            continue
        note(f"{name} ({number} of {len(steps)})")
        kept = replace(kept, evaluation=kept.evaluation.adding({name: step()}))
        findings.write(output, kept, subject.neurons)
    neurons.save(subject.neurons, output / findings.NEURONS)
    finish(output, kept.evaluation.to_data(), as_json)


def check_same(output: Path, settings: dict[str, Any], languages: list[str]) -> None:
    """Before anything in `output` is replaced: raise OutputError when it has findings with other settings, which decide which
    neurons they are of, and CorpusError when there are no two languages to compare."""
    from ...editor.errors import CorpusError, OutputError
    from ...editor.measures import findings

    if len(languages) < 2:
        raise CorpusError(
            f"a language's neurons are found against others, and there is text in {languages[0]} only. Add text."
        )
    if not (output / findings.FILE).is_file():
        return
    before = findings.read(output).settings or {}
    for name, value in settings.items():
        if before.get(name, value) != value:
            raise OutputError(
                f"{output} has findings with --{name} {before[name]:g}. Use that again, or another folder."
            )
    if sorted(before.get("corpus", languages)) != sorted(languages):
        raise OutputError(
            f"{output} has findings of {', '.join(before['corpus'])}. Name these languages, or another folder."
        )


def methods(
    subject: "Subject",
    known: "Statistics",
    sets: "dict[str, Neurons]",
    texts: "Mapping[str, Text]",
    options: Options,
    rate: float,
    quantile: float,
) -> dict[str, Any]:
    """The detection methods side by side, with the perplexity matrices of those that take the same number of neurons."""
    from ...editor.measures import measure
    from ...editor.measures.compare_methods import SHARED, comparison
    from ...editor.measures.matrix import perplexity_matrices

    packed = measure.read_held_out(subject.target, texts, options)
    some = {name: sets[name] for name in MEASURED if any(map(sets[name].count, sets[name].languages))}
    with bar("perplexity", "contexts") as update:
        matrices = perplexity_matrices(
            subject.model, subject.target.feed_forward, some, packed, shared=SHARED, progress=update
        )
    return comparison(known.model, sets, rate=rate, quantile=quantile, matrices=matrices)


def finish(output: Path, evaluation: dict[str, Any], as_json: bool) -> None:
    """The page; and what stands first on it, or everything as JSON."""
    from ...cards import report
    from ...cards.words import tables
    from ...editor.files.output import replace_file
    from ..options import PAGE

    replace_file(output / PAGE, report.FORMATS["html"](report.read(output)).encode())
    if as_json:
        answer(evaluation)
    else:
        say(tables.dominance(evaluation["perplexity"]))
    note(f"Kept in {output}; all of it on {output / PAGE}.")
