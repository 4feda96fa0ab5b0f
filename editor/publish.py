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

import fnmatch
import glob
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .edits import manifest
from .errors import PublishError
from .files.kinds import FILE
from .hub import AbsentError, ConflictError, Connection, ask

CARD = "README.md"
CHUNK = 2**20
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]{1,96}", re.ASCII)
PULL = re.compile(r"refs/pr/(\d+)")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")  # what a runtime would load beside, or instead of, ours
UPLOADS = 3  # tries of a whole upload: huggingface_hub repeats most of its requests itself

Told = Callable[[str], None]


@dataclass(frozen=True)
class Local:
    """A file as it lies here."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """A checkpoint that was found whole: what would be uploaded by name, what else is in the folder, what to know of it."""

    folder: Path
    record: Mapping[str, Any]
    files: Mapping[str, Local]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Place:
    """What the Hub has. `revision` is where the upload goes, and `head` its last commit, that of the default branch where
    the branch is still to be made; `changed` are the files to upload, `others` what is there and stays."""

    repo: str
    exists: bool
    private: bool
    revision: str
    branch: bool
    head: str | None
    changed: tuple[str, ...]
    others: tuple[str, ...]
    tagged: bool


@dataclass(frozen=True)
class Published:
    """What was done: the commit that holds the checkpoint, and the files that had to be sent for it."""

    repo: str
    url: str
    revision: str
    commit: str
    pull_request: str | None
    uploaded: tuple[str, ...]


def check(
    folder: Path, *, unverified: bool = False, progress: Callable[[str, int, int], None] | None = None
) -> Package:
    """The checkpoint in `folder`, when it is what its manifest says; `progress` gets a name, bytes read, bytes in all.

    Raises VerificationError for a folder without a manifest; PublishError when a file is missing or has another sha256, the
    certificate is missing or says that the proof failed (unless `unverified`), or the card's metadata cannot be read.
    """
    record = manifest.read(folder)
    listed = record.get("files")
    if not isinstance(listed, dict) or not all(isinstance(file, dict) and "sha256" in file for file in listed.values()):
        raise PublishError(f"{folder / FILE} does not say which files the checkpoint has. Bake it anew.")
    for name in listed:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise PublishError(f"{folder / FILE} lists {name}, which is outside the folder. Bake it anew.")
    if missing := [name for name in listed if not (folder / name).is_file()]:
        raise PublishError(
            f"{folder} lacks {_some(missing)}, which its manifest lists. Copy it there again, or bake anew."
        )
    notes = _certified(folder, record, unverified)
    _check_card(folder / CARD)
    whole = sum((folder / name).stat().st_size for name in listed)
    files, done = {}, 0
    for name, entry in listed.items():
        found = _hashed(folder / name, name, done, whole, progress)
        done += found.size
        if found.sha256 != entry["sha256"]:
            if name != CARD:
                raise PublishError(
                    f"{folder / name} is not the file that the manifest lists: its sha256 is {found.sha256[:12]}…, not "
                    f"{str(entry['sha256'])[:12]}…. Copy it there again, or bake anew."
                )
            notes.append(f"{CARD} was edited after monoglot wrote it. It is uploaded as it is.")
        files[name] = found
    files[FILE] = _hashed(folder / FILE, FILE, done, whole, None)
    there = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return Package(folder, record, files, tuple(name for name in there if name not in files), tuple(notes))


def _certified(folder: Path, record: Mapping[str, Any], unverified: bool) -> list[str]:
    """Notes on the certificate. Raises PublishError where it does not say that the proof passed, unless `unverified`."""
    proofs = {name: proof for name, proof in (record.get("certificate") or {}).items() if isinstance(proof, dict)}
    failed = [name for name in ("bytes", "logits") if name in proofs and proofs[name].get("passed") is not True]
    if failed:
        problem = next(iter(proofs[failed[0]].get("problems") or ["no reason is given"]))
        said = f"the proof of {folder} failed, in its {failed[0]}: {str(problem).rstrip('.')}."
        step = "Bake it anew"
    elif "bytes" not in proofs:
        said, step = f"{folder} was not verified.", f"Run `monoglot verify {folder}`"
    else:
        return [] if "logits" in proofs else ["Only its bytes were proved, by `monoglot verify --fast`."]
    if not unverified:
        raise PublishError(f"{said} {step}, or insist with --unverified.")
    return [f"Pushed all the same: {said}"]


def _check_card(card: Path) -> None:
    """Raise PublishError unless the card's metadata can be read, as the Hub reads it."""
    import yaml
    from huggingface_hub import ModelCard

    if not card.is_file():
        raise PublishError(f"{card.parent} has no {CARD}. Write it with `monoglot card {card.parent}`.")
    try:
        text = card.read_bytes().decode()
        if not re.match(r"\s*---[ \t]*\r?\n", text):
            raise ValueError("it does not begin with a block of metadata between two lines of ---")
        if not ModelCard(text).data.to_dict():
            raise ValueError("the block between two lines of --- at its beginning is not closed, or says nothing")
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 2}: " if error.problem_mark else ""
        reason = f"{line}{error.problem or error.context}"
    except (ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
    else:
        return
    raise PublishError(f"the metadata of {card} cannot be read: {reason}. Put it right, or bake anew.")


def _hashed(path: Path, name: str, done: int, whole: int, progress: Callable[[str, int, int], None] | None) -> Local:
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            size += count
            if progress:
                progress(name, done + size, whole)
    return Local(size, digest.hexdigest())


def git_blob(path: Path) -> str:
    """The sha1 that git, and so the Hub, knows a small file by."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


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
    """What is at `repo`; `private` is what was asked for, or None. Only reads.

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
            raise PublishError(f"there is no {repo} to open a pull request in. Leave out --create-pr to make it.")
        if PULL.fullmatch(branch):
            raise PublishError(
                f"there is no {repo}, so it has no pull request {branch}. Leave out --revision to make it."
            )
        return Place(repo, False, private is not False, branch, branch == "main", None, tuple(package.files), (), False)
    if private is not None and private is not bool(info.private):
        now, asked = ("private", "public") if info.private else ("public", "private")
        raise PublishError(
            f"{repo} is {now}, and push does not change that. Leave out --{asked}, or change it in the repository's "
            f"settings first: {hub.url}/{repo}/settings."
        )
    refs = ask(hub, f"reading the branches of {repo}", lambda: hub.api.list_repo_refs(repo, include_pull_requests=True))
    branches = {one.name: one.target_commit for one in refs.branches}
    branches |= {one.ref: one.target_commit for one in refs.pull_requests or ()}
    tags = {one.name: one.target_commit for one in refs.tags}
    if branch not in branches and (branch in tags or PULL.fullmatch(branch) or re.fullmatch("[0-9a-f]{40}", branch)):
        what = "a tag" if branch in tags else "no pull request there" if PULL.fullmatch(branch) else "a commit"
        raise PublishError(
            f"{branch} is {what}, and {repo} can only be written to on a branch. Name one with --revision."
        )
    head = branches.get(branch) or branches.get("main") or info.sha
    there = listing(hub, repo, head) if head else {}
    missing, other = differing(package, there)
    others = tuple(name for name in there if name not in package.files)
    if stray := [name for name in others if _is_weights(name)]:
        raise PublishError(
            f"{repo} has {_some(stray)}, which is not of this checkpoint, and which a runtime may load in its place. Delete "
            "it there, or push to another repository or --revision."
        )
    changed = tuple(name for name in package.files if name in {*missing, *other})
    tagged = tag is not None and tag in tags
    if tagged and (changed or tags[tag] != head):
        raise PublishError(
            f"{repo} has a tag {tag} already, on {tags[tag][:12]}. Choose another --tag, or delete that one there."
        )
    return Place(repo, True, bool(info.private), branch, branch in branches, head, changed, others, tagged)


def _info(hub: Connection, repo: str) -> Any:
    """What the Hub says of a repository; None where there is none."""
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
    """The open pull request that an earlier run of the same push left, or a new one."""
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
            raise PublishError(f"{repo} has got another tag {tag} meanwhile. Choose another --tag.") from None


def _some(names: Iterable[str]) -> str:
    """A few of some names."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
