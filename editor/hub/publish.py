"""Put a checkpoint on the Hub, and prove that it arrived.

    check    the folder against its manifest: every file is there with its sha256, the certificate passed, the card's
             metadata can be read. Nothing is asked of the network
    look     what the Hub has at that place: what would change, what would stay, and what stands in the way
    publish  repository, branch or pull request; upload; every file's hash at the commit against the folder's; tag

Only what the manifest lists is uploaded, and the manifest itself. What the Hub already has is not sent again, so a push
that was cut off goes on, and a second one does nothing. The commit names its parent: where somebody else wrote in between,
the place is looked at once more, and the second conflict is an error.

A large file is compared by its sha256. A small one has the sha1 of its git blob there, sha1("blob <size>\\0" + content).
"""

import glob
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConflictError, PublishError
from .connection import Connection, ask
from .package import Package, _some
from .place import Place, differing, listing, look

UPLOADS = 3  # tries of a whole upload: huggingface_hub repeats most of its requests itself

Told = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    """What was done: the commit that holds the checkpoint, and the files that had to be sent for it."""

    repo: str
    url: str
    revision: str
    commit: str
    pull_request: str | None
    uploaded: tuple[str, ...]


def publish(
    hub: Connection,
    package: Package,
    place: Place,
    *,
    message: str,
    create_pr: bool = False,
    tag: str | None = None,
    told: Told = lambda line: None,
) -> Published:
    """Make what isn't there yet, upload `place.changed`, read it back, tag it; `told` gets a line for each.

    Raises PublishError. What was uploaded until then stays, and is not sent again by the next call.
    """
    repo, api = place.repo, hub.api
    if not place.exists:
        kind = "private" if place.private else "public"
        told(f"Making {repo}, {kind}.")
        ask(hub, f"making {repo}", lambda: api.create_repo(repo, private=place.private, exist_ok=True))
        place = look(hub, package, repo, revision=place.revision, private=place.private, tag=tag)
    if not place.branch:
        told(f"Making the branch {place.revision}.")
        ask(
            hub, f"making the branch {place.revision} of {repo}",
            lambda: api.create_branch(repo, branch=place.revision, exist_ok=True),
        )  # fmt: skip
    pull = None
    if create_pr and place.changed:
        pull = _pull_request(hub, repo, message, told)
        place = look(hub, package, repo, revision=pull.git_reference)
    sent = place.changed
    commit = _upload(hub, package, place, message, told) if place.changed else place.head
    if commit is None:
        raise PublishError(f"{repo} has no commit, although nothing is left to upload. Look at it, then push again.")
    if sent:
        told("Reading it back.")
        missing, other = differing(package, listing(hub, repo, commit))
        if missing or other:
            said = [f"{what} {_some(names)}" for what, names in (("lacks", missing), ("has another", other)) if names]
            raise PublishError(
                f"{repo} at {commit[:12]} {' and '.join(said)} than was sent. Push again; if it stays so, look for "
                "rules in the repository that change or leave out files."
            )
    if tag and not place.tagged:
        told(f"Tagging it {tag}.")
        _tag(hub, repo, tag, commit)
    url = f"{hub.url}/{repo}" + ("" if place.revision == "main" else f"/tree/{place.revision}")
    return Published(repo, url, place.revision, commit, pull.url if pull else None, sent)


def _upload(hub: Connection, package: Package, place: Place, message: str, told: Told) -> str:
    """Upload what differs; the commit that holds it all."""
    now: Place | None = place
    for last in (False, True):
        if now is None:
            now = look(hub, package, place.repo, revision=place.revision)
        if not now.changed and now.head:
            return now.head
        size = sum(package.files[name].size for name in now.changed)
        told(f"Uploading {len(now.changed)} files, {size / 1e6:,.1f} MB.")
        try:
            return _upload_once(hub, package, now, message)
        except ConflictError:
            if last:
                raise
        told(f"{place.repo} changed meanwhile. Looking at it again.")
        now = None
    raise AssertionError("the second conflict was raised")


def _upload_once(hub: Connection, package: Package, place: Place, message: str) -> str:
    done = ask(
        hub, f"uploading to {place.repo}",
        lambda: hub.api.upload_folder(
            repo_id=place.repo, folder_path=package.folder, allow_patterns=[glob.escape(name) for name in place.changed],
            revision=place.revision, commit_message=message, parent_commit=place.head,
        ),
        tries=UPLOADS,
    )  # fmt: skip
    return str(done.oid)


def _pull_request(hub: Connection, repo: str, title: str, told: Told) -> Any:
    """Return the open pull request that an earlier run of the same push left, or a new one."""
    doing = f"opening a pull request in {repo}"
    opened = ask(
        hub, doing,
        lambda: list(hub.api.get_repo_discussions(repo, author=hub.user, discussion_type="pull_request")),
    )  # fmt: skip
    for one in opened:
        if one.is_pull_request and one.author == hub.user and one.status in ("draft", "open") and one.title == title:
            told(f"Going on with pull request {one.num}.")
            return one
    told("Opening a pull request.")
    return ask(hub, doing, lambda: hub.api.create_pull_request(repo, title=title), tries=1)  # twice would open two


def _tag(hub: Connection, repo: str, tag: str, commit: str) -> None:
    try:
        ask(hub, f"tagging {repo}", lambda: hub.api.create_tag(repo, tag=tag, revision=commit))
    except ConflictError:  # perhaps by ourselves: the answer was lost, and the request repeated
        refs = ask(hub, f"reading the tags of {repo}", lambda: hub.api.list_repo_refs(repo))
        if {one.name: one.target_commit for one in refs.tags}.get(tag) != commit:
            raise PublishError(f"{repo} has got another tag {tag} meanwhile. Choose another `tag`.") from None
