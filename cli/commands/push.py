"""monoglot push: a checkpoint in, its page on the Hub out."""

from pathlib import Path

import click

from ..console import answer
from ..options import rehash_option
from ..steps.push import require_an_answer, run_push, show_package


@click.command("push")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("repo", metavar="USER/NAME")
@click.option(
    "--private/--public",
    "private",
    default=None,
    help="Who sees a repository that is made for it. Default: private. One that exists stays what it is.",
)
@click.option("--revision", metavar="BRANCH", help="The branch to push to; made if it isn't there. Default: main")
@click.option("--create-pr", is_flag=True, help="Open a pull request in a repository that exists.")
@click.option("--tag", help="Tag the commit, for example v1.")
@click.option("--message", help="The commit's message. Default: the base, the edits, and monoglot's version.")
@click.option("--dry-run", is_flag=True, help="Look at everything and write nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--unverified", is_flag=True, help="Push a checkpoint that was not verified, or that failed.")
@rehash_option
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    folder: Path,
    repo: str,
    private: bool | None,
    revision: str | None,
    create_pr: bool,
    tag: str | None,
    message: str | None,
    dry_run: bool,
    yes: bool,
    unverified: bool,
    as_json: bool,
) -> None:
    """Put the checkpoint in OUT on the Hub, as USER/NAME.

    Checks every file against the manifest, uploads those that the manifest lists and nothing else, and compares what the Hub
    has then with what is here. Who pushes is whom `hf auth login` or HF_TOKEN names. A push that was cut off goes on when it
    is run again, and one that has nothing to change uploads nothing.

    \b
    monoglot push gemma-fr ann/gemma-fr
    monoglot push gemma-fr ann/gemma-fr --public --tag v1
    monoglot push gemma-fr org/gemma-fr --create-pr
    monoglot push gemma-fr ann/gemma-fr --dry-run
    """
    if create_pr and (idle := [name for name, value in (("--revision", revision), ("--tag", tag)) if value]):
        raise click.UsageError(f"--create-pr opens a pull request to the main branch. {idle[0]} does not go with it.")
    if message is not None and not message.strip():
        raise click.UsageError("--message says nothing. Leave it out, or say what this commit is.")
    if not dry_run:
        require_an_answer(yes)
    done = run_push(
        folder, repo, private=private, revision=revision, create_pr=create_pr, tag=tag, message=message, dry_run=dry_run,
        yes=yes, unverified=unverified,
    )  # fmt: skip
    if as_json:
        answer(done)
    else:
        show_package(done)
