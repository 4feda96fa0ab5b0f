"""A push in two steps: look at everything and write nothing, then publish what was looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..edits.manifest import Manifest
from ..errors import PublishError
from ..progress import NOBODY, Listener
from .connection import Connection, open_hub
from .package import CARD, Package, check
from .place import Place, check_repo, look
from .publish import Published, publish

CardProblems = Callable[[Path], Sequence[str]]  # of a README.md, what the Hub would refuse


@dataclass(frozen=True)
class Push:
    """A checkpoint that can go to a place on the Hub: what would go, and what is there.

    `create_pr` and `tag` are what was asked for.
    """

    hub: Connection
    package: Package
    place: Place
    create_pr: bool
    tag: str | None

    @property
    def done_before(self) -> bool:
        """Whether all of it is there already, so that there is nothing to publish."""
        place = self.place
        return bool(not place.changed and place.branch and (self.tag is None or place.tagged))


def pack(
    folder: Path,
    repo: str,
    *,
    unverified: bool = False,
    card_problems: CardProblems = lambda card: (),
    listener: Listener = NOBODY,
) -> Package:
    """Check a checkpoint's files and its card against what the Hub takes. Raises PublishError."""
    check_repo(repo)
    with listener.stage("check", "MB") as update:
        package = check(
            folder,
            unverified=unverified,
            progress=lambda name, done, whole: update(name, done // 10**6, whole // 10**6),
        )
    if problems := card_problems(folder / CARD):
        more = f" And {len(problems) - 1} more: `monoglot card {folder} --check`." if len(problems) > 1 else ""
        raise PublishError(f"the Hub would refuse the card {folder / CARD}: {problems[0]}{more}")
    return package


def prepare(
    hub: Connection,
    package: Package,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
) -> Push:
    """Look at what is at `repo`, and write nothing. Raises PublishError."""
    place = look(hub, package, repo, revision=revision, private=private, create_pr=create_pr, tag=tag)
    return Push(hub, package, place, create_pr, tag)


def carry_out(push: Push, message: str, *, listener: Listener = NOBODY) -> Published:
    """Publish what was prepared; where all of it is there already, nothing is written. Raises PublishError."""
    hub, place = push.hub, push.place
    if push.done_before and place.head:
        return Published(place.repo, f"{hub.url}/{place.repo}", place.revision, place.head, None, ())
    return publish(
        hub, push.package, place, message=message, create_pr=push.create_pr, tag=push.tag, told=listener.told
    )


def push(
    folder: Path,
    repo: str,
    message: Callable[[Manifest], str],
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    unverified: bool = False,
    card_problems: CardProblems = lambda card: (),
    listener: Listener = NOBODY,
) -> Published:
    """Put a checkpoint on the Hub, without asking. `message` says what the commit is, from the manifest.

    Raises PublishError.
    """
    package = pack(folder, repo, unverified=unverified, card_problems=card_problems, listener=listener)
    hub = open_hub(told=listener.told)
    ready = prepare(hub, package, repo, private=private, revision=revision, create_pr=create_pr, tag=tag)
    return carry_out(ready, message(package.manifest), listener=listener)
