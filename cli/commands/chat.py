"""monoglot chat: talk to a checkpoint in the terminal, beside its base."""

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...editor.text.foreign import printable
from ..console import note
from ..numbers import FloatRange
from ..options import device_options, given
from ..terminal import say

if TYPE_CHECKING:
    from ...editor.live.chat import Conversation

WIDE = 100  # columns from which on two replies stand side by side
COMMAND = re.compile(r"/[a-z]+")
HELP = """/reset  forget the conversation
/base   show the base's replies too, or no longer
/help   this
Ctrl-C stops a reply, Ctrl-D leaves."""


@click.command("chat")
@click.argument("model", metavar="OUT|MODEL")
@click.option(
    "--base",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Show the replies of the base too: the one in OUT's manifest, or the model in DIR.",
)
@click.option("--tokens", type=click.IntRange(1), default=200, show_default=True, help="Tokens a reply, at most.")
@click.option("--system", metavar="TEXT", help="What the chat template is told first.")
@click.option("--no-template", is_flag=True, help="Go on from each prompt as a text, without the chat template.")
@click.option(
    "--temperature",
    type=FloatRange(0),
    default=0.0,
    show_default=True,
    help="Draw the next token instead of taking the likeliest.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
@click.option(
    "--prompt", "prompts", multiple=True, metavar="TEXT", help="Reply to this and leave. May be given several times."
)
@device_options
def command(
    model: str,
    base: str | None,
    tokens: int,
    system: str | None,
    no_template: bool,
    temperature: float,
    seed: int,
    prompts: tuple[str, ...],
    device: str,
    dtype: str,
) -> None:
    """Talk to a model. With a chat template it remembers the conversation; without one it goes on from each prompt.

    Ctrl-C stops a reply, Ctrl-D leaves; /help tells the rest. Without a terminal, prompts are read from standard input, a
    line each. Replies go to standard output, everything else to standard error.

    \b
    monoglot chat OUT --base
    monoglot chat google/gemma-3-270m --prompt "The sea is"
    monoglot chat OUT < prompts.txt
    """
    from ...editor.errors import ModelError
    from ...editor.models.source import resolve

    if system and no_template:
        raise click.UsageError("--system is for the chat template, which --no-template leaves out.")
    if not temperature and (idle := given("seed")):
        raise click.UsageError(f"{idle[0]} goes with --temperature.")
    source = resolve(model)
    settings: dict[str, Any] = {"tokens": tokens, "temperature": temperature, "seed": seed, "system": system}

    def speaker(name: str, folder: Path) -> Speaker:
        from ...editor.live.chat import Conversation
        from ...editor.live.load import load_model
        from ...editor.live.memory import warn_of_size
        from ...editor.models.hf import load_tokenizer

        tokenizer = load_tokenizer(folder)
        template = bool(getattr(tokenizer, "chat_template", None)) and not no_template
        if system and not template:
            raise ModelError(f"{name} has no chat template to tell anything first. Leave --system out.")
        warn_of_size(folder, device=device, dtype=dtype)
        note(f"Loading {name} …")
        return Speaker(
            name, Conversation(load_model(folder, device=device, dtype=dtype), tokenizer, template, **settings)
        )

    def base_speaker() -> Speaker:
        return speaker("base", beside or base_folder(source.folder, None))

    beside = base_folder(source.folder, base) if base is not None else None  # what is missing is said before loading
    room = Room(speaker(source.name, source.folder), base_speaker)
    if beside:
        room.toggle()
    if prompts:
        for prompt in prompts:
            room.ask(prompt)
    elif sys.stdin.isatty():
        room.loop()
    else:
        for prompt in lines():
            room.take(prompt)


def base_folder(folder: Path, named: str | None) -> Path:
    """Where the base of the checkpoint in `folder` is; or the model that is named."""
    from ...editor.edits import manifest
    from ...editor.edits.manifest_base import open_source
    from ...editor.files.checkpoint import read_checkpoint
    from ...editor.files.fingerprint import fingerprint
    from ...editor.files.kinds import FILE
    from ...editor.models.source import resolve

    if not named:
        found: Path = open_source(manifest.read(folder).base, None, beside=folder).folder
        return found
    found = resolve(named).folder
    record = manifest.read(folder) if (folder / FILE).is_file() else None
    if record and fingerprint(read_checkpoint(found, quantised=True)) != record.base.fingerprint:
        note(f"{named} is not the model that {folder.name} was made from.")
    return found


@dataclass
class Speaker:
    name: str
    conversation: "Conversation"


@dataclass
class Room:
    """The model, and its base when it is listened to, made by `find_base` when it is first asked for."""

    model: Speaker
    find_base: Callable[[], Speaker]
    base: Speaker | None = None
    listening: list[Speaker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listening = [self.model]

    def loop(self) -> None:
        """Prompts from the terminal, until Ctrl-D."""
        from ...editor.errors import MonoglotError

        with_template = self.model.conversation.template
        how = "with its chat template" if with_template else "which goes on from what you write"
        note(f"{self.model.name}, {how}. /help tells what else there is; Ctrl-C stops a reply, Ctrl-D leaves.")
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # line editing in input()
        while True:
            try:
                prompt = ask_terminal()
            except EOFError:
                note("")
                return
            except KeyboardInterrupt:
                note("\nCtrl-D leaves.")
                continue
            except UnicodeDecodeError:
                note("That was not UTF-8.")
                continue
            try:
                self.take(prompt)
            except KeyboardInterrupt:
                note(" (stopped)")
            except MonoglotError as error:
                say(f"Error: {error}", color="red", err=True)

    def take(self, line: str) -> None:
        """Take a prompt or a command."""
        line = line.strip()
        if not COMMAND.fullmatch(line):
            if line:
                self.ask(line)
        elif line == "/reset":
            for speaker in (self.model, self.base):
                if speaker:
                    speaker.conversation.forget()
            note("Forgotten.")
        elif line == "/base":
            self.toggle()
        else:
            note(HELP if line == "/help" else f"There is no {line}.\n{HELP}")

    def toggle(self) -> None:
        """Listen to the base too, from this point of the conversation on, or no longer."""
        if len(self.listening) > 1:
            self.listening = [self.model]
            note("Without the base.")
            return
        self.base = self.base or self.find_base()
        self.base.conversation.turns = list(self.model.conversation.turns)
        self.listening = [self.model, self.base]
        note("The base replies too.")

    def ask(self, prompt: str) -> None:
        if len(self.listening) > 1 and sys.stdout.isatty() and shutil.get_terminal_size().columns >= WIDE:
            side_by_side(self.listening, prompt)
            return
        for speaker in self.listening:
            if len(self.listening) > 1:
                say(f"{speaker.name}: ", nl=False)
            try:
                speaker.conversation.reply(prompt, say_piece)
            finally:
                say()


def ask_terminal() -> str:
    """Read a line from the terminal. Where replies go to a file, the sign that asks for it does not."""
    if sys.stdout.isatty():
        return input("> ")
    say("> ", nl=False, err=True)
    return input()


def say_piece(piece: str) -> None:
    say(piece, nl=False)
    sys.stdout.flush()


def side_by_side(speakers: list[Speaker], prompt: str) -> None:
    """Show the replies in a column each, one after the other; what is longer than the screen is shown whole at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    written = {speaker.name: "" for speaker in speakers}

    def columns() -> Table:
        made = Table(box=None, expand=True, padding=(0, 2, 0, 0))
        for name in written:
            made.add_column(Text(name, style="bold"), ratio=1, overflow="fold")
        made.add_row(*map(Text, written.values()))
        return made

    console = Console(highlight=False)
    try:
        with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="ellipsis") as live:
            for speaker in speakers:

                def add(piece: str, name: str = speaker.name) -> None:
                    written[name] += printable(piece)
                    live.update(columns(), refresh=True)

                speaker.conversation.reply(prompt, add)
    finally:
        console.print(columns())


def lines() -> Iterator[str]:
    """Those of standard input; what is not UTF-8 in them is replaced."""
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure:
        reconfigure(encoding="utf-8", errors="replace")
    yield from sys.stdin
