"""monoglot compare: the detection methods side by side."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...editor.neurons.neurons import SETTINGS
from ..console import answer, bar, note, print_tables
from ..options import device_options, find_options, given, method_options, split

if TYPE_CHECKING:
    from ...editor.measures.matrix import Matrix
    from ...editor.models.target import Target
    from ...editor.neurons.neurons import Neurons
    from ...editor.statistics.statistics import Statistics
    from ...editor.text.tokens import Packed

TOKENS, CONTEXT = 1024, 512


@click.command("compare")
@click.argument("statistics_file", metavar="STATS", type=click.Path(path_type=Path))
@click.option(
    "--methods",
    metavar="METHOD[,METHOD…]",
    help=f"Of {', '.join(SETTINGS)}. Default: all that the statistics, and --tuned, allow.",
)
@find_options
@method_options
@click.option(
    "--model",
    help="The model of the statistics: to measure what each method's neurons do to it, and the base of --tuned. With "
    "--tuned nothing is measured unless --corpus is given.",
)
@click.option(
    "--corpus",
    multiple=True,
    metavar="DIR|LANG=FILE|DATASET",
    help="With --model: text, of which the held-out part is read. Default: the embedded texts.",
)
@click.option(
    "--tokens", type=click.IntRange(2), default=TOKENS, show_default=True, help="With --model: tokens a language."
)
@click.option(
    "--context", type=click.IntRange(2), default=CONTEXT, show_default=True, help="With --model: tokens a context."
)
@device_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the comparison as JSON.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    statistics_file: Path,
    methods: str | None,
    rate: float,
    quantile: float,
    threshold: float,
    seed: int,
    tuned: tuple[str, ...],
    model: str | None,
    corpus: tuple[str, ...],
    tokens: int,
    context: int,
    device: str,
    dtype: str,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compare detection methods on STATS, at the same number of neurons.

    The comparison says how many neurons each method finds in each language, and how far the methods agree.

    With --model, each language's neurons are switched off in turn, and the change of log-loss is measured on held-out text in
    every language: neurons that are a language's own hurt that language and no other. `lap` has no rate, so it finds another
    number of neurons than the others.

    \b
    monoglot compare stats.safetensors
    monoglot compare stats.safetensors --methods lape,ap,random --model ./model --corpus texts/ -o comparison.json
    """
    from ...editor.files.output import claimed_file, replace_file
    from ...editor.measures.compare_methods import FORMAT, comparison, find_all, left_out
    from ...editor.statistics import statistics
    from ..steps.find import vary

    chosen = _chosen(methods)
    if tuned and not model:
        raise click.UsageError("--tuned are copies of a base: name it with --model.")
    if not model and (idle := given("corpus", "tokens", "context", "device", "dtype")):
        raise click.UsageError(f"{idle[0]} goes with --model.")
    with claimed_file(output, force=force) if output else nullcontext():
        known = statistics.load(statistics_file)
        measured = bool(model and (corpus or not tuned))
        subject = _subject(str(model), known, corpus, tokens, context) if measured else None
        variation = vary(str(model), tuned) if tuned else None
        if not chosen:
            for method, why in left_out(known, variation).items():
                note(f"{method} is left out: {why}.")
        sets = find_all(
            known, chosen, variation=variation, rate=rate, quantile=quantile, threshold=threshold, seed=seed
        )  # fmt: skip
        matrices = _measure(subject, sets, device, dtype) if subject else None
        found = comparison(known.model, sets, rate=rate, quantile=quantile, matrices=matrices)
        if output:
            replace_file(
                output, (json.dumps({"format": FORMAT, **found}, indent=1, ensure_ascii=False) + "\n").encode()
            )
    if as_json:
        answer(found)
    else:
        show(found)
    if output:
        note(f"Wrote {output}.")


def _chosen(methods: str | None) -> list[str]:
    chosen = list(dict.fromkeys(split(methods)))
    if unknown := [method for method in chosen if method not in SETTINGS]:
        raise click.UsageError(f"There is no method {unknown[0]!r}; there are {', '.join(SETTINGS)}.")
    return chosen


def _subject(
    model: str, known: "Statistics", corpus: tuple[str, ...], tokens: int, context: int
) -> "tuple[Target, dict[str, Packed]]":
    """Open the model, and read the held-out text to measure it on."""
    from ...editor import embedded
    from ...editor.errors import CorpusError, StatisticsError
    from ...editor.models.source import resolve
    from ...editor.models.target import about_sampled, open_target
    from ...editor.text.corpus import open_corpus
    from ...editor.text.tokens import read_texts

    target = open_target(resolve(model))
    if target.fingerprint != known.model.fingerprint:
        raise StatisticsError(
            f"the statistics are of {known.model.name}, and {target.source.name} has other weights. Name their model, or run "
            f"`monoglot detect` on this one.{about_sampled(target, known.model.fingerprint)}"
        )
    if corpus:
        texts = open_corpus(corpus, known.languages)
    else:
        texts = {k: text for k, text in open_corpus([embedded.NAME]).items() if k in known.languages}
        if not texts:
            raise CorpusError("there is no embedded text in a language of the statistics. Name some with --corpus.")
        note("Measuring on the embedded texts. Name your own with --corpus.")
    packed = read_texts(target, texts, tokens=tokens, context=context, held_out=True)
    for language, one in packed.items():
        if not one.tokens:
            raise CorpusError(f"{language} has too few documents for one to be held out. Add text in {language}.")
    return target, packed


def _measure(
    subject: "tuple[Target, dict[str, Packed]]", sets: "dict[str, Neurons]", device: str, dtype: str
) -> "dict[str, Matrix]":
    """Measure the perplexity matrix of each method that found neurons."""
    from ...editor.live.load import load_model
    from ...editor.live.memory import warn_of_size
    from ...editor.measures.compare_methods import SHARED
    from ...editor.measures.matrix import perplexity_matrices

    target, packed = subject
    warn_of_size(target.source.folder, device=device, dtype=dtype)
    live = load_model(target.source.folder, device=device, dtype=dtype)
    some = {method: own for method, own in sets.items() if any(map(own.count, own.languages))}
    with bar("perplexity", "contexts") as update:
        return perplexity_matrices(live, target.feed_forward, some, packed, shared=SHARED, progress=update)


def show(found: dict[str, Any]) -> None:
    """Show the methods side by side, and the matrix of each."""
    from ...cards.words import tables

    print_tables(tables.methods(found))
    if "lap" in found["methods"]:
        note("lap has no rate: it takes every neuron above its threshold.")
    for name, row in found["methods"].items():
        if row["perplexity"]:
            matrix = tables.perplexity(row["perplexity"])[0]
            print_tables([replace(matrix, title=f"{name}: {matrix.title}")])
