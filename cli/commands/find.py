"""monoglot find: statistics in, each language's neurons out."""

from contextlib import ExitStack
from pathlib import Path

import click

from ...editor.neurons.neurons import SETTINGS
from ..console import note
from ..options import find_options, given, method_options, split
from ..steps.find import run_find, show_neurons

# the options that have something to say to a method; those of the others are refused
OPTIONS = {**SETTINGS, "pv": (*SETTINGS["pv"], "model", "tuned")}


@click.command("find")
@click.argument("statistics_file", metavar="[STATS]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(list(SETTINGS)),
    default="lape",
    show_default=True,
    help="How neurons are told apart: by the entropy of activation probabilities (lape), of mean activations (lave) or of "
    "how parameters vary under tuning (pv), by being nearly always active (lap), by the average precision of their means "
    "over texts (ap); or drawn at random.",
)
@find_options
@method_options
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    help="random: neurons of which to draw as many, a neurons file. Default: what lape finds.",
)
@click.option(
    "--joint",
    is_flag=True,
    help="Mixtures of experts: a token that goes to other experts counts as one on which a neuron is inactive.",
)
@click.option("--model", metavar="BASE", help="pv: the model that the copies were tuned from.")
@click.option("--import", "mask", type=click.Path(path_type=Path), help="Read a .neuron.pth mask instead.")
@click.option("--languages", help="With --import: the mask's languages, in its order.")
@click.option("--export-mask", type=click.Path(path_type=Path), help="Write the .neuron.pth format as well.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The neurons file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    statistics_file: Path | None,
    method: str,
    rate: float,
    quantile: float,
    threshold: float,
    seed: int,
    like: Path | None,
    joint: bool,
    model: str | None,
    tuned: tuple[str, ...],
    mask: Path | None,
    languages: str | None,
    export_mask: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Find each language's neurons in STATS, what `monoglot detect` wrote.

    Parameter variation (pv) needs no text but copies of the model, each tuned on one language; with STATS as well, what is
    known of the neurons' activations goes into the file.

    \b
    monoglot find stats.safetensors -o neurons.json
    monoglot find stats.safetensors --method lave -o neurons.json
    monoglot find --method pv --model ./base --tuned en=./en --tuned zh=./zh -o neurons.json
    monoglot find --import model.neuron.pth --languages en,zh,fr,es,vi,id,ja -o neurons.json
    """
    from ...editor.files.output import claimed_file
    from ...editor.neurons import neurons
    from ...editor.neurons.mask import read_mask, write_mask

    _check_options(statistics_file, method, like, model, tuned, mask)
    if languages and mask is None:
        raise click.UsageError("--languages names those of a mask, and goes with --import only.")
    if export_mask and export_mask.absolute() == output.absolute():
        raise click.UsageError("-o and --export-mask name the same file.")
    if mask is not None and not languages:
        raise click.UsageError("Name the mask's languages in order, for example --languages en,zh,fr,es,vi,id,ja.")
    with ExitStack() as stack:
        for path in filter(None, (output, export_mask)):
            stack.enter_context(claimed_file(path, force=force))
        if mask is not None:
            found = read_mask(mask, split(languages))
        else:
            found = run_find(
                statistics_file, method, model, tuned, rate=rate, quantile=quantile, threshold=threshold, seed=seed,
                like=neurons.load(like) if like else None, joint=joint,
            )  # fmt: skip
        neurons.save(found, output)
        if export_mask:
            write_mask(found, export_mask)
    show_neurons(found, as_json)
    note(
        f"Wrote {output}."
        + (f" Wrote {export_mask}: languages in the order {','.join(found.languages)}." if export_mask else "")
    )


def _check_options(
    statistics_file: Path | None,
    method: str,
    like: Path | None,
    model: str | None,
    tuned: tuple[str, ...],
    mask: Path | None,
) -> None:
    """Raise UsageError for options that contradict each other, or say nothing to the method."""
    if mask is not None and (said := given("method", *{name for names in OPTIONS.values() for name in names})):
        raise click.UsageError(f"{said[0]} says how neurons are found, and --import reads them.")
    uses = {*OPTIONS[method], *(("rate", "quantile") if method == "random" and not like else ())}
    if idle := given(*(name for names in OPTIONS.values() for name in names if name not in uses)):
        raise click.UsageError(
            f"{idle[0]} does not go with --method {method}{' and --like' if like and method == 'random' else ''}."
        )
    if mask is None and method == "pv":
        if not (model and tuned):
            raise click.UsageError("--method pv needs the base, --model, and a --tuned LANG=DIR for each language.")
    elif (mask is None) == (statistics_file is None):
        raise click.UsageError("Name a statistics file, or a mask with --import.")
