"""monoglot inspect: what a model, a checkpoint or a file is, on one screen."""

from collections.abc import Callable
from typing import Any

import click

from ..console import answer, as_options
from ..inspected.checkpoints import adapter, checkpoint, gguf
from ..inspected.files import calibration, neurons, recipe, silence, statistics, vocabulary
from ..inspected.models import model


@click.command("inspect")
@click.argument("what", metavar="MODEL|OUT|FILE")
@click.option("--hashes", is_flag=True, help="Of what monoglot made: read all of its files and compare their sha256.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(what: str, hashes: bool, as_json: bool) -> None:
    """Say what something is.

    A model (a folder, a Hub id, or `embedded`), a checkpoint or an adapter that monoglot made, a GGUF file, neurons.json,
    statistics, a calibration, a vocabulary, a silence, or a recipe.yaml.

    Of a model: its feed-forward network, which operations it can take and where their constants would go. Reads headers
    and runs nothing; of a model on the Hub it downloads them alone.

    
    monoglot inspect google/gemma-3-270m
    monoglot inspect OUT --hashes
    monoglot inspect neurons.json
    """
    from ...editor.describe import describe

    found = reasons_said(describe(what, hashes=hashes))
    if (
        hashes
        and found["kind"] not in ("checkpoint", "adapter")
        and not found.get("made")
        and not found.get("converted")
    ):
        raise click.UsageError("--hashes goes with a checkpoint that monoglot made.")
    if as_json:
        answer(found)
        return
    SHOWN[found["kind"]](found)


def reasons_said(found: dict[str, Any]) -> dict[str, Any]:
    """Name options where the library's reasons name arguments."""
    said = {**found, "reason": as_options(found["reason"])} if found.get("reason") else found
    for key in {"operations", "carriers"} & found.keys():
        said = {**said, key: {name: why and as_options(why) for name, why in found[key].items()}}
    return said


SHOWN: dict[str, Callable[[dict[str, Any]], None]] = {
    "model": model,
    "checkpoint": checkpoint,
    "adapter": adapter,
    "gguf": gguf,
    "neurons": neurons,
    "statistics": statistics,
    "calibration": calibration,
    "vocabulary": vocabulary,
    "silence": silence,
    "recipe": recipe,
}
