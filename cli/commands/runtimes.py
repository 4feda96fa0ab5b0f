"""monoglot runtimes: which runtimes there are, which are installed, and what each was seen to honour."""

from typing import Any

import click

from ..console import answer, table
from ..options import PYTHON_HELP
from ..terminal import say


@click.command("runtimes")
@click.argument("model", required=False)
@click.option("--python", "pythons", multiple=True, metavar="PATH|NAME=PATH", help=PYTHON_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(model: str | None, pythons: tuple[str, ...], as_json: bool) -> None:
    """List the runtimes that `verify --runtime` knows.

    The list says which of them are installed, and which carriers of constants each was seen to honour: for the family of
    MODEL (a folder, a Hub id, or a model_type), or else for a Llama.

    \b
    monoglot runtimes
    monoglot runtimes gpt2 --python vllm=env/bin/python
    """
    from ...editor.runtimes import capabilities, process
    from ...editor.runtimes.adapters import NAMES

    family = _family(model)
    interpreters = process.interpreters(pythons)
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        found = process.probe(name, process.python_for(name, interpreters))
        rows.append(
            {
                "name": name,
                "installed": found.version,
                "missing": list(found.lacking),
                "install": found.install,
                "carriers": {each: capabilities.seen(name, each, family) for each in capabilities.CARRIERS},
            }
        )
    if as_json:
        answer({"family": family, "runtimes": rows})
        return
    table(
        f"runtimes, and what they make of a {family}'s constants",
        ("runtime", "installed", *capabilities.CARRIERS),
        [
            (one["name"], one["installed"] or "no", *(verdict or "–" for verdict in one["carriers"].values()))
            for one in rows
        ],
    )
    say("–: not run. none: a checkpoint without constants. llama: one that could be rewritten as a Llama.")
    lacking = [one for one in rows if one["missing"]]
    if lacking:
        say("Install these into any environment, and name its interpreter with --python PATH or --python NAME=PATH:")
    for one in lacking:
        say(f"{', '.join(one['missing'])}: {one['install']}")


def _family(model: str | None) -> str:
    from ...editor.describe import describe
    from ...editor.errors import ModelError
    from ...editor.models.families import KNOWN

    if model is None:
        return "llama"
    if model in KNOWN:
        return model
    found = describe(model).get("model_type")
    if not found:
        raise ModelError(f"{model} is no model's folder. Name one, a Hub id, or a model_type such as gpt2.")
    return str(found)
