"""monoglot report: what was measured, on one page."""

from pathlib import Path

import click

from ..console import note
from ..options import PAGE, given
from ..terminal import say


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FILE", help=f"The file to write; - is stdout. Default: DIR/{PAGE}, of text stdout."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown", "json"]),
    default="html",
    show_default=True,
    help="A page with figures; text with tables; or everything for programs.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(folder: Path, output: str | None, form: str, force: bool, as_json: bool) -> None:
    """Show what was measured of DIR: a checkpoint, or a folder that `evaluate -o` wrote.

    The page stands alone: figures are in it, nothing is loaded from anywhere, there is no script. In a checkpoint's folder
    it is no part of the checkpoint: the manifest doesn't list it, and `bake` does not take it along.

    \b
    monoglot report OUT
    monoglot report findings --format markdown -o findings.md
    """
    from ...cards import report
    from ...editor.files.output import replace_file

    if as_json:
        if form != "json" and given("form"):
            raise click.UsageError(f"--json and --format {form} contradict each other.")
        form = "json"
    found = report.read(folder)
    place = None if output == "-" else Path(output) if output else folder / PAGE if form == "html" else None
    if place:
        check_free(place, force, own=output is None)
    text = report.FORMATS[form](found)
    if not place:
        say(text, nl=False)
        return
    replace_file(place, text.encode())
    note(f"Wrote {place}.")


def check_free(place: Path, force: bool, own: bool) -> None:
    """Raise OutputError when something is there; at the default place, `own`, an earlier page may be."""
    from ...cards.report import GENERATOR
    from ...editor.files.output import taken

    if force or not place.exists():
        return
    if own and place.is_file() and GENERATOR.encode() in place.read_bytes()[:2000]:
        return
    made = " and monoglot did not make it" if own else ""
    raise taken(place, instead="another place with -o", why=made)
