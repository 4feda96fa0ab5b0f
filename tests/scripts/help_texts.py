"""Writes the help of every command into the README, between two marks: `make readme`. A test compares the two.

What stands there is what a terminal of 80 columns shows, whatever this one has. A line about a click that renders it in
another way is in the test.
"""

import html
from pathlib import Path

import click

from monoglot.cli.main import COMMANDS, group

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- help: begin. Written by `make readme` -->\n", "<!-- help: end -->\n"
WIDTH = 78  # click keeps two columns of a terminal free


def help_of(name: str | None) -> str:
    """What `monoglot NAME -h` prints, or `monoglot -h`."""
    top = click.Context(group, info_name="monoglot", terminal_width=WIDTH, color=False, **group.context_settings)
    if name is None:
        return group.get_help(top)
    command = group.get_command(top, name)
    assert command is not None, name
    return command.get_help(click.Context(command, info_name=name, parent=top))


def block() -> str:
    """The marks and what belongs between them."""
    texts = [f"{BEGIN}\n```text\n{help_of(None)}\n```\n"]
    for name, line in COMMANDS.items():
        summary = f"<summary><code>monoglot {name}</code> {html.escape(line, quote=False)}</summary>"
        texts.append(f"<details>{summary}\n\n```text\n{help_of(name)}\n```\n\n</details>\n")
    return "\n".join(texts) + f"\n{END}"


def written(readme: str) -> str:
    """What the README has between its marks, marks included; ValueError when one is missing."""
    return readme[readme.index(BEGIN) : readme.index(END) + len(END)]


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(text.replace(written(text), block()), encoding="utf-8")
