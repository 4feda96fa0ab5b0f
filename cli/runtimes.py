"""monoglot runtimes: which there are, which are installed, and what each was seen to honour; and, for `verify --runtime`,
what each makes of a checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .console import answer, bar, note, split, table

PYTHON_HELP = (
    "The interpreter of an environment in which the runtimes are installed, for one runtime alone as NAME=PATH; may be "
    "given several times. Default: the one that runs monoglot."
)


@click.command("runtimes")
@click.argument("model", required=False)
@click.option("--python", "pythons", multiple=True, metavar="PATH|NAME=PATH", help=PYTHON_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(model: str | None, pythons: tuple[str, ...], as_json: bool) -> None:
    """List the runtimes that `verify --runtime` knows, which of them are installed, and which carriers of constants each was
    seen to honour: for the family of MODEL (a folder, a Hub id, or a model_type), or else for a Llama.

    \b
    monoglot runtimes
    monoglot runtimes gpt2 --python vllm=env/bin/python
    """
    from ..editor.runtimes import capabilities, process
    from ..editor.runtimes.adapters import NAMES

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
    click.echo("–: not run. none: a checkpoint without constants. llama: one that could be rewritten as a Llama.")
    lacking = [one for one in rows if one["missing"]]
    if lacking:
        click.echo(
            "Install these into any environment, and name its interpreter with --python PATH or --python NAME=PATH:"
        )
    for one in lacking:
        click.echo(f"{', '.join(one['missing'])}: {one['install']}")


def _family(model: str | None) -> str:
    from ..editor.describe import describe
    from ..editor.errors import ModelError
    from ..editor.models.families import KNOWN

    if model is None:
        return "llama"
    if model in KNOWN:
        return model
    found = describe(model).get("model_type")
    if not found:
        raise ModelError(f"{model} is no model's folder. Name one, a Hub id, or a model_type such as gpt2.")
    return str(found)


def names(given: str) -> list[str]:
    """A comma-separated list of runtimes, or `all`. Raises RunError for one that is not known, UsageError for none."""
    from ..editor.runtimes import process
    from ..editor.runtimes.adapters import NAMES

    found = list(NAMES) if given == "all" else list(dict.fromkeys(process.known(name) for name in split(given)))
    if not found:
        raise click.UsageError(f"name a runtime, or several with commas: {', '.join(NAMES)}.")
    return found


def conform(
    folder: Path,
    target: Any,
    found: Any,
    runtimes: Sequence[str],
    *,
    interpreters: Mapping[str | None, str],
    asked_in: Mapping[str, Sequence[str]],
    timeout: float,
    as_json: bool,
) -> bool:
    """Let each runtime answer, record and show the verdicts; whether all of them are "steered"."""
    from ..cards.refresh import renew
    from ..editor.edits import manifest
    from ..editor.edits.carriers import EXACT
    from ..editor.live.load import load_model
    from ..editor.models.hf import load_tokenizer
    from ..editor.runtimes import conformance, process

    record = manifest.read(folder)
    carrier = (record["carrier"] or {}).get("name")
    if absent := [language for language in found.languages if language not in asked_in]:
        note(f"No prompts in {', '.join(absent)}: these are not asked. Give some with --prompts.")
    base = target.source.folder
    tokenizer = load_tokenizer(folder)
    noises = {name: conformance.noise_of(name, target) for name in runtimes}
    asked: tuple[conformance.Asked, ...] = ()
    installed = [process.probe(name, process.python_for(name, interpreters)) for name in runtimes]
    if any(one.ready for one in installed):
        steered, plain = (load_model(each, device="cpu", dtype="float32") for each in (folder, base))
        with bar("references", "languages") as update:
            asked = conformance.choose(
                steered,
                plain,
                tokenizer,
                asked_in,
                noise=max(noises.values()),
                biased=carrier in EXACT,
                progress=update,
            )
        del steered, plain  # the runtimes need the memory
    ends = conformance.ends_of(folder, tokenizer)
    outcomes = []
    for one in installed:
        note(f"{one.name} …")
        outcome = conformance.conform(one, folder, base, asked, noise=noises[one.name], ends=ends, timeout=timeout)
        outcomes.append(outcome)
        if outcome.verdict == "missing" or outcome.late:
            continue  # nothing was learned: what was measured of these bytes before stays
        record = manifest.read(folder)
        record["runtimes"] = {**(record.get("runtimes") or {}), one.name: outcome.record()}
        for line in renew(folder, record, found.method, base):
            note(f"Note: {line}")
    if as_json:
        answer({one.name: one.record() for one in outcomes})
    else:
        show(outcomes)
    return all(one.verdict == "steered" for one in outcomes)


def show(outcomes: Sequence[Any]) -> None:
    from ..cards.words.runtimes import conformance_table

    found = conformance_table({one.name: one.record() for one in outcomes})
    table("what the runtimes make of it", found.columns, found.rows)
    for one in outcomes:
        if one.reason:
            note(f"{one.name}: {one.reason}")
        if one.verdict == "dropped":
            as_what = "base" if all(match.agrees for match in one.to_base) else "checkpoint without its biases"
            note(
                f"{one.name} loses the steering in silence: it answers as the {as_what} does. Use another runtime, or bake "
                f"with a carrier that it honours: --for {one.name}."
            )
        if one.verdict == "undecided":
            note(
                f"{one.name}: on these prompts base and checkpoint answer alike, so its answers say nothing. Give others "
                "with --prompts, or look with `monoglot verify` whether the edit does anything."
            )
        if one.base_alike is False:
            said = "does not run the base either" if one.verdict == "failed" else "runs the base in another way too"
            note(f"{one.name} {said}, so it is not the steering that is the matter.")
