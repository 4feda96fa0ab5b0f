"""monoglot paper: the paper's experiments on a model, from its text to one page."""

from pathlib import Path
from typing import Any

import click

from ...editor.measures.options import Options
from ..console import answer, listener, note
from ..options import corpus_options, detect_options, find_options, split
from ..terminal import say


@click.command("paper")
@click.argument("model")
@corpus_options
@find_options
@detect_options
@click.option(
    "--text-tokens",
    type=click.IntRange(2),
    default=Options.text_tokens,
    show_default=True,
    help="Held-out tokens a language.",
)
@click.option(
    "--prompts", metavar="FILE|DIR|questions", help="As of `evaluate`. Default: the embedded texts' beginnings."
)
@click.option("--count", type=click.IntRange(1), default=Options.count, show_default=True, help="Prompts a language.")
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
    from ...editor.measures.paper import experiments
    from ...editor.statistics.detection import Detection

    if not corpus:
        raise click.UsageError("Name the text with --corpus (a folder of {lang}.txt).")
    evaluation = experiments(
        model, corpus, output, languages=split(languages), rate=rate, quantile=quantile,
        detection=Detection(tokens, context, minimum, batch_size, device, dtype),
        options=Options(text_tokens=text_tokens, prompts=prompts, count=count, aligned=aligned), listener=listener(),
    )  # fmt: skip
    finish(output, evaluation, as_json)


def finish(output: Path, evaluation: dict[str, Any], as_json: bool) -> None:
    """Write the page; show what stands first on it, or everything as JSON."""
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
