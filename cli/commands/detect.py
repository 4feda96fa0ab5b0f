"""monoglot detect: a model and text in, activation statistics out."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import note
from ..options import corpus_options, detect_options, split, spread_options, stream_options
from ..steps.detect import first_worker_first, run_detect, show_statistics, workers

if TYPE_CHECKING:
    from ...editor.live.spread import Spread
    from ...editor.live.streaming import Streaming


@click.command("detect")
@click.argument("model", required=False)
@corpus_options
@detect_options
@stream_options
@spread_options
@click.option(
    "--quantiles",
    is_flag=True,
    help="Record histograms of the activations too: `find` then gives each neuron's median and 90th percentile, which it "
    "can be pinned to instead of its mean. The file grows by 388 bytes a neuron and language.",
)
@click.option(
    "--per-text",
    is_flag=True,
    help="Record the means over single texts too, for `find --method ap`: pieces of 128 tokens, at most 128 of them a "
    "language. The file grows by 512 bytes a neuron and language.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Record what the feed-forward networks read in any case: with it a neuron can be switched on in a model without "
    "biases. The file grows by 8·d² bytes a layer, and by a sample of held-out text. Without this option it is recorded "
    "where that is 2 GiB at most.",
)
@click.option(
    "--lean",
    is_flag=True,
    help="Leave out what only later steps need, and what spares them a pass over the text: counts of tokens, sums of the "
    "residual stream, and, without --calibrate, what the feed-forward networks read.",
)
@click.option(
    "--merge", multiple=True, type=click.Path(path_type=Path), help="Add statistics files instead of running."
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The statistics file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str | None,
    corpus: tuple[str, ...],
    languages: str | None,
    tokens: int,
    context: int,
    minimum: int,
    batch_size: int,
    device: str,
    dtype: str,
    streaming: "Streaming",
    spread: "Spread",
    quantiles: bool,
    per_text: bool,
    calibrate: bool,
    lean: bool,
    merge: tuple[Path, ...],
    more: tuple[Path, ...],
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Record how MODEL's neurons respond to text in each language.

    MODEL is a folder, a Hub id (org/name, org/name@revision), or `embedded`. Interrupted, it goes on where it stopped when
    it is run again. Under torchrun the work is divided among the processes.

    \b
    monoglot detect google/gemma-3-270m --corpus texts/ -o stats.safetensors
    monoglot detect ./model --corpus en=en.txt --corpus zh=zh.jsonl.gz -o stats.safetensors
    monoglot detect --merge a.safetensors b.safetensors -o both.safetensors
    torchrun --nproc-per-node 4 -m monoglot.cli detect ./model --corpus texts/ -o stats.safetensors
    torchrun --nproc-per-node 4 -m monoglot.cli detect ./model --corpus texts/ -o stats.safetensors --tensor-parallel
    """
    from ...editor.files.output import claimed_file
    from ...editor.statistics import statistics
    from ...editor.statistics.detection import Detection

    if merge and corpus:
        raise click.UsageError("--merge adds files up and reads no --corpus.")
    if not merge and (not model or more):
        raise click.UsageError("Name one model (or use --merge with statistics files).")
    if merge and (quantiles or per_text or calibrate or lean):
        raise click.UsageError(
            "--merge keeps what the files have; --quantiles, --per-text, --calibrate and --lean go with a model."
        )
    if not merge and not corpus:
        raise click.UsageError("Name the text with --corpus.")
    with workers(cuda=spread.tensor_parallel) as rank, ExitStack() as stack:
        with first_worker_first(rank):
            if rank == 0:
                stack.enter_context(claimed_file(output, force=force))
        if not merge:
            result = run_detect(
                str(model), corpus, split(languages), rank, output,
                Detection(tokens, context, minimum, batch_size, device, dtype, quantiles, per_text, calibrate, lean,
                          streaming, spread),
            )  # fmt: skip
        elif rank == 0:
            parts = [*merge, *([Path(model)] if model else []), *more]
            result = statistics.merge([statistics.load(path) for path in parts])
        if rank == 0:
            statistics.save(result, output)
            show_statistics(result, as_json)
            note(f"Wrote {output}.")
