"""The place on the Hub that a checkpoint goes to, and what is there."""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import AbsentError, PublishError
from .connection import Connection, ask
from .package import Package, _some, git_blob

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]{1,96}", re.ASCII)

PULL = re.compile(r"refs/pr/(\d+)")

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")  # what a runtime would load beside, or instead of, ours


@dataclass(frozen=True)
class Place:
    """The place on the Hub.

    `revision` is where the upload goes, and `head` its last commit, that of the default branch where the branch is
    still to be made. `changed` are the files to upload, `others` what is there and stays.
    """

    repo: str
    exists: bool
    private: bool
    revision: str
    branch: bool
    head: str | None
    changed: tuple[str, ...]
    others: tuple[str, ...]
    tagged: bool


def differing(package: Package, there: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Which files of the package are missing in a listing of the Hub's, and which are there with another content."""
    missing, other = [], []
    for name, file in package.files.items():
        if name not in there:
            missing.append(name)
        elif there[name].lfs is not None:
            if there[name].lfs.sha256 != file.sha256:
                other.append(name)
        elif there[name].size != file.size or there[name].blob_id != git_blob(package.folder / name):
            other.append(name)
    return missing, other


def check_repo(repo: str) -> None:
    """Raise PublishError for what can't be the id of a model repository."""
    if not REPO_ID.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".", "-")):
        raise PublishError(
            f"{repo!r} is not the id of a repository on the Hub. Give user/name, or organisation/name, of letters, "
            "digits, and - _ . between them."
        )


def look(
    hub: Connection,
    package: Package,
    repo: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    tag: str | None = None,
) -> Place:
    """Look at what is at `repo`; `private` is what was asked for, or None. Nothing is written.

    Raises PublishError for what can't be: another visibility than the repository has, a tag that is taken, a revision that
    is no branch, weights of another checkpoint that would stay beside these, a token without the right to write.
    """
    check_repo(repo)
    if hub.role == "read":
        raise PublishError(
            f"the token of {hub.user} may only read. Log in with one that has the write scope: `hf auth login`."
        )
    branch = revision or "main"
    info = _info(hub, repo)
    if info is None:
        if create_pr:
            raise PublishError(f"there is no {repo} to open a pull request in. Leave out `create_pr` to make it.")
        if PULL.fullmatch(branch):
            raise PublishError(
                f"there is no {repo}, so it has no pull request {branch}. Leave out `revision` to make it."
            )
        return Place(repo, False, private is not False, branch, branch == "main", None, tuple(package.files), (), False)
    if private is not None and private is not bool(info.private):
        now, asked = ("private", "public") if info.private else ("public", "private")
        raise PublishError(
            f"{repo} is {now}, and push does not change that. Leave out `{asked}`, or change it in the repository's "
            f"settings first: {hub.url}/{repo}/settings."
        )
    refs = ask(hub, f"reading the branches of {repo}", lambda: hub.api.list_repo_refs(repo, include_pull_requests=True))
    branches = {one.name: one.target_commit for one in refs.branches}
    branches |= {one.ref: one.target_commit for one in refs.pull_requests or ()}
    tags = {one.name: one.target_commit for one in refs.tags}
    if branch not in branches and (branch in tags or PULL.fullmatch(branch) or re.fullmatch("[0-9a-f]{40}", branch)):
        what = "a tag" if branch in tags else "no pull request there" if PULL.fullmatch(branch) else "a commit"
        raise PublishError(
            f"{branch} is {what}, and {repo} can only be written to on a branch. Name one with `revision`."
        )
    head = branches.get(branch) or branches.get("main") or info.sha
    there = listing(hub, repo, head) if head else {}
    missing, other = differing(package, there)
    others = tuple(name for name in there if name not in package.files)
    if stray := [name for name in others if _is_weights(name)]:
        raise PublishError(
            f"{repo} has {_some(stray)}, which is not of this checkpoint, and which a runtime may load in its place. Delete "
            "it there, or push to another repository or `revision`."
        )
    changed = tuple(name for name in package.files if name in {*missing, *other})
    tagged = tag is not None and tag in tags
    if tagged and (changed or tags[tag] != head):
        raise PublishError(
            f"{repo} has a tag {tag} already, on {tags[tag][:12]}. Choose another `tag`, or delete that one there."
        )
    return Place(repo, True, bool(info.private), branch, branch in branches, head, changed, others, tagged)


def _info(hub: Connection, repo: str) -> Any:
    """Return what the Hub says of a repository; None where there is none."""
    try:
        info = ask(hub, f"looking at {repo}", lambda: hub.api.repo_info(repo))
    except AbsentError:
        return None
    if str(info.id).lower() != repo.lower():
        raise PublishError(f"{repo} is now called {info.id}. Push there.")
    return info


def listing(hub: Connection, repo: str, commit: str) -> dict[str, Any]:
    """Every file at a commit: huggingface_hub's RepoFile by name."""
    found = ask(
        hub, f"listing the files of {repo}",
        lambda: list(hub.api.list_repo_tree(repo, recursive=True, revision=commit)),
    )  # fmt: skip
    return {one.path: one for one in found if hasattr(one, "blob_id")}


def _is_weights(name: str) -> bool:
    return "/" not in name and any(fnmatch.fnmatchcase(name, one) for one in WEIGHTS)
