"""Writes `docs/commands.md`, the page with the help of every command: `make commands`. A test compares the two.

The page shows what a terminal of 80 columns shows, whatever width this one has. The test also runs the commands, so another
version of click that prints something else is noticed.
"""

from pathlib import Path

import click

from monoglot.cli.main import COMMANDS, group

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
WIDTH = 78  # click leaves two columns of a terminal free
TOP = """# Commands

This page shows what `monoglot -h` and `monoglot COMMAND -h` print. `make commands` writes it, so do not edit it by hand.

Every command prints its answer on standard output, and everything else on standard error. With `--json` the answer is JSON;
`chat` and `demo`, whose answers are for people, do not have that option.
The exit code is 0 when all went well, 1 when something went wrong or a proof failed, 2 when the command line is wrong, and
130 when you stopped it.
"""


def help_of(name: str | None) -> str:
    """Return what `monoglot NAME -h` prints, or `monoglot -h` for None."""
    top = click.Context(group, info_name="monoglot", terminal_width=WIDTH, color=False, **group.context_settings)
    if name is None:
        return group.get_help(top)
    command = group.get_command(top, name)
    assert command is not None, name
    return command.get_help(click.Context(command, info_name=name, parent=top))


def page() -> str:
    """Return the text of the page."""
    texts = [TOP, f"## monoglot\n\n```text\n{help_of(None)}\n```\n"]
    texts += [f"## monoglot {name}\n\n{line}\n\n```text\n{help_of(name)}\n```\n" for name, line in COMMANDS.items()]
    return "\n".join(texts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
