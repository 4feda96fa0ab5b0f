"""What the command line makes of the library's messages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import monoglot.editor
from monoglot.cli.console import ARGUMENTS, OPTIONS, as_options
from monoglot.cli.main import COMMANDS, group


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("OUT exists. Replace it with `force`.", "OUT exists. Replace it with --force."),
        ("Use `above_tolerance` leave-out.", "Use --above-tolerance leave-out."),
        ("Take `template=False`.", "Take --no-template."),
        (
            "Run `monoglot detect --calibrate`, or `hf auth login`.",
            "Run `monoglot detect --calibrate`, or `hf auth login`.",
        ),
        ("there is no `absent`", "there is no `absent`"),
    ],
)
def test_arguments_are_named_as_options(message: str, said: str) -> None:
    assert as_options(message) == said


def test_each_is_an_option_of_a_command() -> None:
    import click

    there = {
        option
        for name in COMMANDS
        for parameter in group.get_command(click.Context(group), name).params  # type: ignore[union-attr]
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert set(OPTIONS.values()) <= there
    assert len(set(ARGUMENTS.split())) == len(ARGUMENTS.split())


def test_each_option_that_a_message_names_by_its_argument_is_known() -> None:
    """The library says `lose` where a person types --lose, so the command line has to know the word."""
    import click

    options = {
        str(parameter.name)
        for name in COMMANDS
        for parameter in group.get_command(click.Context(group), name).params  # type: ignore[union-attr]
    }
    for path, text in messages():
        unknown = {word for word in re.findall(r"`([a-z_]+)`", text) if word in options} - set(OPTIONS)
        assert not unknown, (path, text)


def test_the_library_names_no_options() -> None:
    """Apart from whole commands, between backticks or after a colon."""
    commands = ("monoglot ", "llama-gguf-split ", "-o OUT.gguf")
    for path, text in messages():
        assert not re.search(r"\s--[a-z][a-z-]*(?![a-z-`])", text) or any(one in text for one in commands), (path, text)


def messages() -> Iterator[tuple[Path, str]]:
    """Every text in the library's source that is no docstring, with the file that it is in."""
    for path in Path(str(monoglot.editor.__path__[0])).rglob("*.py"):
        if "adapters" in path.parts:  # programs of their own, with options of their own
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield path, node.value
