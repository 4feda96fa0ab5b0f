"""The `monoglot` command: finds the file of a command when it is called, and turns library errors into messages.

A command's module imports torch and transformers only when it runs, so help and usage errors come at once.
"""

import importlib
import os
import signal
import sys
import warnings
from pathlib import Path

import click

from .console import as_options, bar
from .terminal import prepare, say, swallow_output

RESUMED = ("detect", "export", "paper")  # what these had done is taken up by the next run
DIVIDED = ("detect",)  # its work is divided where torchrun starts several processes
TRACEBACK = "MONOGLOT_TRACEBACK"  # an environment variable, for those who look for a fault

COMMANDS = {
    "bake": "Write a checkpoint with a language's neurons edited.",
    "card": "Write a checkpoint's model card anew, or check it.",
    "chat": "Talk to a checkpoint, beside its base.",
    "compare": "Compare the methods that find neurons.",
    "convert": "Write a checkpoint as a GGUF file.",
    "demo": "Switch languages off and on in the embedded model.",
    "detect": "Record how a model's neurons respond to each language.",
    "diff": "Say what distinguishes two checkpoints, as files.",
    "evaluate": "Measure which language a checkpoint answers in.",
    "export": "Everything at once: detect, find, bake, verify.",
    "find": "Find each language's neurons in the statistics.",
    "inspect": "Say what a model, a checkpoint or a file is.",
    "paper": "Repeat the paper's experiments on a model.",
    "push": "Put a checkpoint on the Hub.",
    "rebuild": "Make a checkpoint again from what it says of itself.",
    "report": "Show what was measured, on one page.",
    "runtimes": "List the runtimes, and what each honours.",
    "tokens": "Count which language uses which token, to redirect them.",
    "verify": "Prove that a checkpoint is what its manifest says.",
}


class Dispatcher(click.Group):
    """Imports `monoglot.cli.commands.<command>` only for the command that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".commands.{cmd_name}", __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; refuse, once, to have torchrun start several of one that does not divide its work."""
        from .steps.detect import several

        name, command, rest = super().resolve_command(ctx, args)
        if name not in DIVIDED and several():
            if os.environ["RANK"] != "0":
                raise click.exceptions.Exit(0)  # with another code torchrun would end rank 0 before it has spoken
            raise click.UsageError(
                f"`{name}` works in one process, so torchrun can't start it in several. Start it alone; of all commands "
                "`detect` is the one that divides its work, and the others take the statistics that it writes."
            )
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Dispatcher, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="monoglot", prog_name="monoglot")
def group() -> None:
    """Turn a language model into one that speaks a language, or has lost one.

    Finds the feed-forward neurons of each language, edits them in the weights, and writes an ordinary safetensors
    checkpoint with a model card.

    \b
    Try it:    monoglot demo
    Your own:  monoglot export ORG/MODEL --corpus texts/ --deactivate zh -o OUT
               monoglot export ORG/MODEL --corpus texts/ --activate fr --hold others -o OUT
               monoglot export ORG/MODEL --corpus texts/ --redirect zh=en -o OUT
    Shell completion: eval "$(_MONOGLOT_COMPLETE=bash_source monoglot)"
    """


def _nowhere() -> bool:
    """Whether the current folder was removed."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _of_settings(error: BaseException) -> bool:
    """Whether an error comes from where huggingface_hub reads its settings, which it does when it is imported."""
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).parts[-2:] == ("huggingface_hub", "constants.py"):
            return True
        trace = trace.tb_next
    return False


def main() -> None:
    """Run a command: exit code 1 and one message for what went wrong, 2 for usage, 130 when interrupted or terminated."""
    from ..editor.errors import MonoglotError, MonoglotWarning
    from ..editor.progress import show as show_long

    def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        if issubclass(category, MonoglotWarning):
            say(f"Warning: {as_options(str(message))}", color="yellow", err=True)

    prepare()
    show_long(bar)
    warnings.showwarning = show
    if sys.warnoptions:
        warnings.filterwarnings("always", category=MonoglotWarning)
    # what Ctrl-C puts away, a stopped job and a closed terminal put away too
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # not under nohup
            signal.signal(number, signal.default_int_handler)
    try:
        group(prog_name="monoglot", standalone_mode=False)
        sys.stdout.flush()  # a reader that has gone is noticed here, not when the interpreter ends
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MonoglotError as error:
        say(f"Error: {as_options(str(error))}", color="red", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        resumed = any(word in RESUMED for word in sys.argv[1:2])
        again = "Run the same command again: it goes on where it stopped."
        say(f"Interrupted. {again if resumed else 'What was not finished was not written.'}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        swallow_output()
        sys.exit(1)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not error.filename and _nowhere():
            say("Error: the folder that this was started in is gone. Go to another one.", color="red", err=True)
            sys.exit(1)
        place = f"{error.filename}: " if error.filename else ""
        say(f"Error: {place}{error.strerror or error}. Check the file and its permissions.", color="red", err=True)
        sys.exit(1)
    except MemoryError:
        say("Error: out of memory. Try a smaller --batch-size or --context.", color="red", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        reason = " ".join(str(error).split()) or "no reason is given"
        if _of_settings(error):
            say(
                f"Error: the settings for the Hub in this environment are none ({reason}). Look at the variables that begin "
                "with HF_.",
                color="red",
                err=True,
            )
            sys.exit(1)
        say(
            f"Error: {type(error).__name__}, which was not foreseen: {reason[:300]}. If the cause is not plain, please "
            f"report it, with what {TRACEBACK}=1 prints.",
            color="red",
            err=True,
        )
        sys.exit(1)
