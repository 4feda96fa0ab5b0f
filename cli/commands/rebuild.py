"""monoglot rebuild: a checkpoint made again from its base, and held against the first."""

from pathlib import Path

import click

from ..console import answer, listener, note, table


@click.command("rebuild")
@click.argument("checkpoint", metavar="OUT")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--base", help="The base: a folder or a Hub id. Default: the one in the manifest, at its revision.")
@click.option(
    "--calibration",
    "calibration_file",
    type=click.Path(path_type=Path),
    help="Where OUT has lost its calibration.monoglot: a copy, or the statistics that it was baked with.",
)
@click.option("--force", is_flag=True, help="Replace a checkpoint that monoglot wrote there.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    checkpoint: str, output: Path, base: str | None, calibration_file: Path | None, force: bool, as_json: bool
) -> None:
    """Make OUT, a checkpoint of monoglot's, again: from its base, with the recipe and the neurons that it holds.

    OUT is a folder, or a Hub id (user/name, user/name@revision), of which no weights are downloaded. Each file is held
    against the sha256 in OUT's manifest; README.md may differ, as it tells what was measured since. Exits with 1 when
    anything else does.

    \b
    monoglot rebuild OUT -o AGAIN
    monoglot rebuild user/gemma-no-zh -o AGAIN --base ./gemma
    """
    from ...cards.maker import CARD
    from ...editor.proof.rebuild import rebuild_named

    made = rebuild_named(
        checkpoint, output, base=base, calibration_path=calibration_file, force=force, card=CARD, listener=listener()
    )
    if as_json:
        answer(
            {
                "folder": str(output), "equal": not made.differ, "same": list(made.same), "differ": made.differ,
                "excused": made.excused,
            }
        )  # fmt: skip
    else:
        rows = [(name, "the same") for name in made.same]
        rows += [(name, f"may differ: {why}") for name, why in made.excused.items()]
        rows += [(name, f"DIFFERS: {why}") for name, why in made.differ.items()]
        table(f"{output.name} against the manifest of {checkpoint}", ("file", ""), rows)
    note(f"{output} is {'NOT ' if made.differ else ''}{checkpoint} again.")
    if made.differ:
        raise SystemExit(1)
