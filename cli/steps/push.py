"""Ask, publish with a progress bar, and say what came of it."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from ..console import listener, note
from ..terminal import quoted, say

if TYPE_CHECKING:
    from ...editor.hub.package import Package
    from ...editor.hub.push import Push

SHOWN = 8  # names of files that are listed in one line


def show_package(done: dict[str, Any]) -> None:
    if done["commit"]:
        say(done["pull_request"] or done["url"])
        say(f"commit {done['commit']}")


def ready(repo: str, yes: bool) -> None:
    """Raise, before work that takes long, what would stop a push at its end."""
    from ...editor.hub.connection import open_hub
    from ...editor.hub.place import check_repo

    require_an_answer(yes)
    check_repo(repo)
    open_hub(told=note)


def finish(folder: Path, repo: str, yes: bool, *, silent: bool) -> dict[str, Any]:
    """Push what `export` has just made; if that fails, say how to do it again."""
    from ...editor.errors import PublishError

    try:
        done = run_push(folder, repo, yes=yes)
    except PublishError:
        note(f"The checkpoint is whole in {folder}. Push it with: monoglot push {quoted(folder)} {quoted(repo)}")
        raise
    if not silent:
        show_package(done)
    return done


def require_an_answer(yes: bool) -> None:
    """Raise UsageError when nobody could be asked whether to push."""
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError(
            "There is no terminal to ask on whether to push. Add --yes to push without, or --dry-run to see what would be."
        )


def run_push(
    folder: Path,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
    unverified: bool = False,
) -> dict[str, Any]:
    """Check, look, ask, publish: the answer, with `commit` null where nothing was written and nothing is there."""
    from ...cards.metadata.metadata import card_problems
    from ...cards.words.wording import commit_message
    from ...editor.errors import PublishError
    from ...editor.hub.connection import open_hub
    from ...editor.hub.push import carry_out, pack, prepare

    package = pack(folder, repo, unverified=unverified, card_problems=card_problems, listener=listener())
    for line in package.notes:
        note(f"Note: {line}")
    if package.left_out:
        note(f"Not of the checkpoint, so not uploaded: {_listed(package.left_out)}.")
    try:
        hub = open_hub(told=note)
    except PublishError as error:
        if not dry_run:
            raise
        note(f"Would upload {_amount(package, package.files)} to {repo}: {_listed(package.files)}.")
        note(f"What is there already could not be looked at: {error}")
        return _answer(package, repo, None, revision or "main")
    push = prepare(hub, package, repo, revision=revision, private=private, create_pr=create_pr, tag=tag)
    place = push.place
    if push.done_before:
        note(f"{repo} has all of it already, at {place.revision}. Nothing is uploaded.")
        return _answer(package, repo, f"{hub.url}/{repo}", place.revision, commit=place.head)
    _show(push, dry_run)
    if dry_run:
        note("Nothing was written.")
        return _answer(package, repo, f"{hub.url}/{repo}", place.revision)
    if not yes and not click.confirm("Push?", err=True):
        note("Nothing was written.")
        raise SystemExit(1)
    with _left_at_once(), _plain_progress():
        done = carry_out(push, message or commit_message(package.manifest), listener=listener())
    note(f"{done.repo} has it whole: {len(package.files)} files compared.")
    if done.pull_request:
        note("The pull request is a draft: publish it on its page when it is ready.")
    return _answer(
        package, repo, done.url, done.revision, commit=done.commit, pull_request=done.pull_request,
        uploaded=done.uploaded,
    )  # fmt: skip


def _answer(
    package: "Package", repo: str, url: str | None, revision: str, *, commit: str | None = None,
    pull_request: str | None = None, uploaded: tuple[str, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    return {
        "repo": repo,
        "url": url,
        "revision": revision,
        "commit": commit,
        "pull_request": pull_request,
        "files": len(package.files),
        "bytes": package.size,
        "uploaded": list(uploaded),
    }


def _show(push: "Push", dry_run: bool) -> None:
    """Who, what, where: what is agreed to by saying yes."""
    hub, package, place, create_pr, tag = push.hub, push.package, push.place, push.create_pr, push.tag
    visibility = "private" if place.private else "public"
    where = f"{hub.url}/{place.repo}, {visibility}, " + ("which exists" if place.exists else "which is made for it")
    on = "a new pull request" if create_pr else f"{place.revision}{'' if place.branch else ', a new branch'}"
    note(f"You are {hub.user}. {'This would go' if dry_run else 'This goes'} to {where}; on {on}.")
    if place.changed:
        note(f"To upload: {_amount(package, place.changed)}: {_listed(place.changed)}.")
    else:
        note("There is nothing to upload.")
    if len(place.changed) < len(package.files):
        note(f"There already: {len(package.files) - len(place.changed)} files.")
    if tag:
        note(f"The commit is tagged {tag}.")
    if others := [name for name in place.others if name != ".gitattributes"]:
        note(f"These files stay there beside it: {_listed(others)}.")


def _amount(package: "Package", names: Collection[str]) -> str:
    size = sum(package.files[name].size for name in names)
    return f"{len(names)} files, {size / 1e6:,.1f} MB"


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


@contextmanager
def _left_at_once() -> Iterator[None]:
    """Ctrl-C ends the process: uploads in other threads would otherwise be waited for. Nothing here needs to be put away."""

    def leave(number: int, frame: FrameType | None) -> None:
        os.write(2, b"\nInterrupted. Run the same command again: it goes on where it stopped.\n")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _plain_progress() -> Iterator[None]:
    """On a terminal huggingface_hub's own bars; else a line of its own every half minute."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return

    def matters(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or record.getMessage().startswith("Uploading")

    log = logging.getLogger("huggingface_hub._upload_pipeline")
    level = log.level
    disable_progress_bars()
    log.setLevel(logging.INFO)
    log.addFilter(matters)
    try:
        yield
    finally:
        log.removeFilter(matters)
        log.setLevel(level)
        enable_progress_bars()
