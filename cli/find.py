"""monoglot find: statistics in, each language's neurons out."""

from pathlib import Path
from typing import Any

import click

from .console import answer, find_options, note, split, table


@click.command("find")
@click.argument("statistics_file", metavar="STATS", required=False, type=click.Path(path_type=Path))
@find_options
@click.option(
    "--method",
    type=click.Choice(["lape"]),
    default="lape",
    show_default=True,
    help="How neurons are told apart.",
)
@click.option("--import", "mask", type=click.Path(path_type=Path), help="Read a .neuron.pth mask instead.")
@click.option("--languages", help="With --import: the mask's languages, in its order.")
@click.option("--export-mask", type=click.Path(path_type=Path), help="Write the .neuron.pth format as well.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The neurons file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    statistics_file: Path | None,
    rate: float,
    quantile: float,
    method: str,
    mask: Path | None,
    languages: str | None,
    export_mask: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Find each language's neurons in STATS, what `monoglot detect` wrote.

    \b
    monoglot find stats.safetensors -o neurons.json
    monoglot find --import model.neuron.pth --languages en,zh,fr,es,vi,id,ja -o neurons.json
    """
    from ..editor import neurons, statistics
    from ..editor.errors import OutputError
    from ..editor.find import find

    if (mask is None) == (statistics_file is None):
        raise click.UsageError("Name a statistics file, or a mask with --import.")
    if languages and mask is None:
        raise click.UsageError("--languages names those of a mask, and goes with --import only.")
    if export_mask and export_mask.absolute() == output.absolute():
        raise click.UsageError("-o and --export-mask name the same file.")
    for path in filter(None, (output, export_mask)):
        if path.exists() and not force:
            raise OutputError(f"{path} exists. Choose another name, or replace it with --force.")
    if mask is not None:
        if not languages:
            raise click.UsageError("Name the mask's languages in order, for example --languages en,zh,fr,es,vi,id,ja.")
        found = neurons.import_mask(mask, split(languages))
    else:
        found = find(statistics.load(Path(str(statistics_file))), method, rate=rate, quantile=quantile)
    neurons.save(found, output)
    if export_mask:
        neurons.export_mask(found, export_mask)
    show(found, as_json)
    note(
        f"Wrote {output}."
        + (f" Wrote {export_mask}: languages in the order {','.join(found.languages)}." if export_mask else "")
    )


def show(found: Any, as_json: bool) -> None:
    """Neurons per language, how many of them other languages share, and where in depth they lie."""
    pairs = {language: found.pairs(language) for language in found.languages}
    rows = []
    for language, own in pairs.items():
        others = {other: len(own & theirs) for other, theirs in pairs.items() if other != language}
        any_other = len(own & set().union(*(theirs for other, theirs in pairs.items() if other != language)))
        most = max(others, key=lambda other: others[other]) if any_other else None
        profile = [len(layer) for layer in found.indices[language]]
        rows.append((language, len(own), any_other, f"{most} {others[most]}" if most else "–", profile))
    union = len(set().union(*pairs.values()))
    if as_json:
        answer(
            {
                "method": {key: value for key, value in found.method.items() if key != "texts"},
                "neurons": union,
                "languages": {r[0]: {"neurons": r[1], "shared": r[2], "layers": r[4]} for r in rows},
            }
        )
        return
    table(
        f"{union:,} neurons in {found.layers} layers",
        ("language", "neurons", "shared", "most with", f"layer 0 … {found.layers - 1}"),
        [(k, n, s, most, spark(profile)) for k, n, s, most, profile in rows],
    )


def spark(counts: list[int]) -> str:
    """A profile as a row of small bars, at most 40 of them."""
    step = -(-len(counts) // 40)
    sums = [sum(counts[at : at + step]) for at in range(0, len(counts), step)]
    top = max(sums) or 1
    return "".join("·▁▂▃▄▅▆▇█"[-(-8 * value // top)] for value in sums)
