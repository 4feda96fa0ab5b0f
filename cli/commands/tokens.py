"""monoglot tokens: text in, which language uses which token out."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import bar, note
from ..options import corpus_options, device_options, split, stream_options
from ..steps.tokens import show_vocabulary

if TYPE_CHECKING:
    from ...editor.live.streaming import Streaming


@click.command("tokens")
@click.argument("model")
@corpus_options
@click.option("--tokens", type=click.IntRange(1), default=65_536, show_default=True, help="Tokens a language.")
@click.option(
    "--minimum",
    type=click.IntRange(1),
    default=2_000,
    show_default=True,
    help="Tokens without which a language is refused.",
)
@click.option(
    "--outputs",
    is_flag=True,
    help="Run the model too, and keep what its output table is given: for `bake --no-untie`.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Run the model too, and keep the mean of its residual stream after every layer: for `--op vector --point LAYER`.",
)
@click.option(
    "--readers",
    metavar="LAYER[,LAYER…]",
    help="Run the model too, and fit a neuron to each language that fires on it at these layers: for `--redirect zh=en "
    "--point LAYER`, which needs --layers as well.",
)
@device_options
@stream_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str,
    corpus: tuple[str, ...],
    languages: str | None,
    tokens: int,
    minimum: int,
    outputs: bool,
    layers: bool,
    readers: str | None,
    device: str,
    dtype: str,
    streaming: "Streaming",
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Count the tokens of MODEL that text in each language uses, and find their centres in its embedding table.

    That is what `monoglot bake --redirect` needs. It takes seconds, as the model is not run unless --outputs or --layers ask
    for it. Give text in every language that the model is to read, not only in those to be redirected: a token is only known
    to be shared with those.

    \b
    monoglot tokens google/gemma-3-270m --corpus texts/ -o vocabulary.monoglot
    monoglot tokens google/gemma-3-270m --corpus texts/ --outputs -o vocabulary.monoglot
    """
    from dataclasses import replace

    from ...editor.files.output import claimed_file
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target
    from ...editor.statistics import vocabulary
    from ...editor.statistics.record_outputs import read_both, record_outputs
    from ...editor.statistics.record_readers import record_readers
    from ...editor.statistics.record_residual import record_residual
    from ...editor.statistics.token_counts import learn
    from ...editor.text.corpus import open_corpus

    places = [int(word) if word.isdecimal() else -1 for word in split(readers)] if readers else []
    if any(place < 0 for place in places):
        raise click.UsageError(f"--readers {readers}: write the numbers of layers, for example --readers 9,14.")
    if streaming.stream == "layers" and (outputs or places):
        raise click.UsageError("--stream layers goes with --layers; --outputs and --readers need the model whole.")
    if not corpus:
        raise click.UsageError("Name the text with --corpus.")
    click.get_current_context().with_resource(claimed_file(output, force=force))
    texts = open_corpus(corpus, split(languages))
    target = open_target(resolve(model))
    if outputs:
        read_both(target, texts)  # what is missing is said before anything is counted
    found = learn(target, texts, tokens=tokens, minimum=minimum)
    if outputs:
        with bar("outputs", "texts") as update:
            recorded = record_outputs(target, texts, device=device, dtype=dtype, progress=update)
        found = replace(found, outputs=recorded)
    if layers:
        with bar("layers", "texts") as update:
            means = record_residual(target, texts, device=device, dtype=dtype, streaming=streaming, progress=update)
        found = replace(found, residual=means)
    if places:
        with bar("readers", "texts") as update:
            read = record_readers(target, texts, places, device=device, dtype=dtype, progress=update)
        found = replace(found, readers=read)
    vocabulary.save(found, output)
    show_vocabulary(found, as_json)
    note(f"Wrote {output}.")
