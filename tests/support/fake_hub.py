"""A Hub on loopback that speaks the real one's protocol, as far as publishing and loading a model needs it.

Repositories are in memory: commits with a whole file table each, branches, tags, pull requests. Files are git blobs, or LFS
files when their name says so or they are large, as the real one's .gitattributes has it; their content comes over LFS (one
PUT, or parts of `part_size` bytes) or over Xet. Xet's storage is hf_xet's own local one, in a folder: `casUrl` is a
local:// address, so a client does the real chunking and the real reconstruction, and the sha256 to Xet hash table is read
from the shards that it leaves there.

`Hub.fault` makes the next requests of a route fail, `Hub.requests` is what was asked.
"""

import base64
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

OWNER, READER, OTHER, FINE = ("hf_" + name * 6 for name in ("owner", "reader", "other", "fine"))
LFS_NAME = re.compile(r"\.(safetensors|bin|png|pth|gguf|onnx|model)$")
LFS_SIZE = 10 * 2**20
DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class User:
    """Who a token belongs to, and what it may: `role` is read, write, or fineGrained (which here may not write)."""

    name: str
    role: str
    organisations: tuple[str, ...] = ()

    def writes(self, repo: str) -> bool:
        return self.role == "write" and repo.split("/")[0] in (self.name, *self.organisations)


USERS = {
    OWNER: User("ann", "write", ("acme",)),
    READER: User("ann", "read"),
    OTHER: User("bob", "write"),
    FINE: User("ann", "fineGrained"),
}


@dataclass(frozen=True)
class File:
    """An entry of a commit: `oid` is its git blob's sha1, `sha256` that of the content of an LFS file."""

    size: int
    oid: str
    sha256: str | None = None


@dataclass(frozen=True)
class Commit:
    parent: str | None
    files: Mapping[str, File]
    message: str
    author: str


@dataclass
class Pull:
    title: str
    author: str
    status: str = "draft"


@dataclass
class Repo:
    private: bool
    branches: dict[str, str] = field(default_factory=dict)  # refs/pr/N among them
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)


@dataclass
class Fault:
    """What to do to the next `left` requests whose "METHOD /path" a pattern is found in."""

    pattern: str
    left: int
    status: int | None
    headers: Mapping[str, str]
    body: Any
    wait: float
    cut: bool
    late: bool


class RefusedError(Exception):
    """A reply that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Asked:
    """A request: who, the unquoted groups of the route's pattern, the query, the body."""

    user: User | None
    parts: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


Reply = tuple[int, Any, dict[str, str]]  # status, JSON or bytes, headers


def blob(data: bytes) -> str:
    """The git blob's sha1 of a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class Hub:
    """The server's state; `url` is where it listens."""

    def __init__(self, folder: Path, *, part_size: int = 64 * 2**20, page_size: int = 1000) -> None:
        self.store, self.part_size, self.page_size = folder / "xet", part_size, page_size
        self.store.mkdir(parents=True)
        self.repos: dict[str, Repo] = {}
        self.commits: dict[str, Commit] = {}
        self.blobs: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}  # by sha256: what came over LFS
        self.pieces: dict[str, dict[int, bytes]] = {}  # by sha256, by part
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock, self.closing = threading.RLock(), threading.Event()
        self.url = ""

    # for tests

    def fault(
        self, pattern: str, status: int | None = None, *, times: int = 1, message: str = "", wait: float = 0.0,
        cut: bool = False, late: bool = False, body: Any = None, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Answer the next requests with `status`, or cut the connection, or only wait `wait` seconds before that. `late`: the
        request is carried out first, and only its answer is lost."""
        self.faults.append(Fault(pattern, times, status, headers or {}, body or {"error": message}, wait, cut, late))

    def count(self, pattern: str) -> int:
        return sum(1 for line in self.requests if re.search(pattern, line))

    def head(self, repo: str, revision: str = "main") -> str:
        return self.repos[repo].branches[revision]

    def files(self, repo: str, revision: str = "main") -> Mapping[str, File]:
        return self.commits[self.revision(repo, revision)].files

    def content(self, repo: str, name: str, revision: str = "main") -> bytes:
        found = self.files(repo, revision)[name]
        return self.bytes_of(found)

    def put(self, repo: str, files: Mapping[str, bytes], *, private: bool = False, revision: str = "main") -> str:
        """Commit text files behind every client's back, to a repository that is made if it isn't there."""
        if repo not in self.repos:
            self.make(repo, private, "someone")
        return self.commit(repo, revision, {name: self.regular(data) for name, data in files.items()}, "by hand", "x")

    # git

    def make(self, repo: str, private: bool, author: str) -> None:
        self.repos[repo] = Repo(private)
        attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
        self.commit(repo, "main", {".gitattributes": self.regular(attributes)}, "initial commit", author)

    def regular(self, data: bytes) -> File:
        self.blobs[blob(data)] = data
        return File(len(data), blob(data))

    def commit(self, repo: str, branch: str, changes: Mapping[str, File | None], message: str, author: str) -> str:
        place = self.repos[repo].branches
        parent = place.get(branch)
        files = dict(self.commits[parent].files) if parent else {}
        for name, file in changes.items():
            if file is None:
                del files[name]
            else:
                files[name] = file
        said = [parent, message, author, len(self.commits), sorted((name, file.oid) for name, file in files.items())]
        commit = hashlib.sha1(json.dumps(said).encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = Commit(parent, files, message, author)
        place[branch] = commit
        return commit

    def revision(self, repo: str, revision: str) -> str:
        """The commit that a branch, a tag, a reference or a commit's own name stands for."""
        found, name = self.repos[repo], revision.removeprefix("refs/heads/")
        if name in found.branches:
            return found.branches[name]
        if name in found.tags:
            return found.tags[name]
        at: str | None = None
        for head in found.branches.values():
            at = head
            while at and at != name:
                at = self.commits[at].parent
            if at:
                return at
        raise RefusedError(404, "Invalid rev id", "RevisionNotFound")

    def bytes_of(self, file: File) -> bytes:
        if file.sha256 is None:
            return self.blobs[file.oid]
        if file.sha256 in self.large:
            return self.large[file.sha256]
        return self.from_xet(self.xet()[file.sha256], file.size)

    # Xet

    def xet(self) -> dict[str, str]:
        """sha256 to Xet hash, of every file in the shards of the local store."""
        table = {}
        for path in (self.store / "xet" / "xorbs" / "shards").glob("*.mdb"):
            data, at = path.read_bytes(), 48  # a header, then per file: 48 bytes each for itself and its segments
            while data[at : at + 32] != b"\xff" * 32:
                name, (flags, segments) = _hexed(data[at : at + 32]), struct.unpack_from("<2I", data, at + 32)
                at += 48 * (1 + segments * (2 if flags >> 31 else 1))
                if flags >> 30 & 1:
                    table[_hexed(data[at : at + 32])] = name
                    at += 48
        return table

    def from_xet(self, name: str, size: int) -> bytes:
        """In a process of its own, as the store has one user at a time."""
        code = (
            "import hf_xet, sys, time\n"
            "with hf_xet.XetSession().new_file_download_group(endpoint=sys.argv[1], token='x',"
            " token_expiry_unix_secs=int(time.time()) + 3600) as group:\n"
            "    group.start_download_file(hf_xet.XetFileInfo(sys.argv[2], int(sys.argv[3])), sys.argv[4])\n"
        )
        place = self.store.parent / name
        subprocess.run([sys.executable, "-c", code, f"local://{self.store}", name, str(size), str(place)], check=True)
        return place.read_bytes()

    # what a user may

    def readable(self, user: User | None, repo: str) -> Repo:
        found = self.repos.get(repo)
        if found is None or (found.private and not (user and repo.split("/")[0] in (user.name, *user.organisations))):
            if user is None:
                raise RefusedError(401, "Invalid username or password.", "RepoNotFound")
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return found

    def writable(self, user: User | None, repo: str, revision: str = "main") -> Repo:
        found = self.readable(user, repo)
        number = re.fullmatch(r"refs/pr/(\d+)", revision)
        own = number and user and user.role == "write" and found.pulls[int(number[1]) - 1].author == user.name
        if user is None or not (own or user.writes(repo)):
            raise RefusedError(403, f"Authorization error: you don't have write access to {repo}")
        return found

    # replies

    def whoami(self, asked: Asked) -> Reply:
        user = asked.user
        if user is None:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        token = {"displayName": "a token", "role": user.role}
        orgs = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user.organisations]
        return _json({"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": token}})

    def create(self, asked: Asked) -> Reply:
        if asked.user is None:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        said = asked.json
        repo = f"{said.get('organization') or asked.user.name}/{said['name']}"
        if not asked.user.writes(repo):
            raise RefusedError(
                403, f'You don\'t have the rights to create a model under the namespace "{repo.split("/")[0]}"'
            )
        url = f"{self.url}/{repo}"
        if repo in self.repos:
            return 409, {"error": "You already created this model repo", "url": url}, {}
        self.make(repo, said.get("private") or said.get("visibility") == "private", asked.user.name)
        return _json({"url": url, "name": repo})

    def validate(self, asked: Asked) -> Reply:
        block = re.match(r"---\n(.*?)\n---", asked.json["content"], re.DOTALL)
        if block and re.search(r"^license: *$", block[1], re.MULTILINE):
            return 400, {"errors": [{"message": '"license" must be a string'}], "warnings": []}, {}
        return _json({"errors": [], "warnings": [] if block else [{"message": "empty or missing yaml metadata"}]})

    def preupload(self, asked: Asked) -> Reply:
        repo, revision = asked.parts
        if asked.query.get("create_pr"):
            self.readable(asked.user, repo)
        else:
            self.writable(asked.user, repo, revision)
        there, answer = self.files(repo, revision), []
        for file in asked.json["files"]:
            large = bool(LFS_NAME.search(file["path"])) or file["size"] >= LFS_SIZE
            old = there.get(file["path"])
            oid = old and (old.sha256 or old.oid)
            mode = "lfs" if large else "regular"
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return _json({"files": answer})

    def commit_files(self, asked: Asked) -> Reply:
        repo, revision = asked.parts
        found = self.readable(asked.user, repo)
        lines = [json.loads(line) for line in asked.body.splitlines()]
        header = lines[0]["value"]
        head, number = self.revision(repo, revision), None
        if asked.query.get("create_pr"):
            number = self.open_pull(repo, header["summary"], asked.user)
            revision = f"refs/pr/{number}"
        self.writable(asked.user, repo, revision)
        if header.get("parentCommit", head) != head:
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        if revision not in found.branches:
            raise RefusedError(400, f"{revision} is no branch")
        changes: dict[str, File | None] = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = self.regular(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.large and value["oid"] not in self.xet():
                    raise RefusedError(400, f"LFS pointer of {value['path']} points to a file that does not exist")
                link = blob(pointer(value["oid"], value["size"]))
                changes[value["path"]] = File(value["size"], link, value["oid"])
            else:
                changes[value["path"]] = None
        commit = self.commit(repo, revision, changes, header["summary"], asked.user.name if asked.user else "")
        place = f"{self.url}/{repo}"
        pull = f"{place}/discussions/{number}" if number else None
        return _json({"commitOid": commit, "commitUrl": f"{place}/commit/{commit}", "pullRequestUrl": pull})

    def info(self, asked: Asked) -> Reply:
        repo, revision = asked.parts[0], asked.parts[1] if len(asked.parts) > 1 else "main"
        found = self.readable(asked.user, repo)
        commit = self.revision(repo, revision)
        siblings: list[dict[str, Any]] = []
        for name, file in sorted(self.commits[commit].files.items()):
            siblings.append({"rfilename": name})
            if asked.query.get("blobs"):
                siblings[-1] |= {"size": file.size, "blobId": file.oid}
                if file.sha256:
                    siblings[-1]["lfs"] = _lfs(file) | {"sha256": file.sha256}
        data = {"_id": repo, "id": repo, "modelId": repo, "author": repo.split("/")[0], "sha": commit, "tags": []}
        data |= {"private": found.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        return _json(data | {"lastModified": DATE, "createdAt": DATE, "siblings": siblings})

    def refs(self, asked: Asked) -> Reply:
        found = self.readable(asked.user, asked.parts[0])

        def listed(kind: str, names: Mapping[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": name if name.startswith("refs/") else f"refs/{kind}/{name}", "targetCommit": at}
                for name, at in names.items()
            ]

        branches = {name: at for name, at in found.branches.items() if not name.startswith("refs/pr/")}
        pulls = {name: at for name, at in found.branches.items() if name.startswith("refs/pr/")}
        data = {"branches": listed("heads", branches), "converts": [], "tags": listed("tags", found.tags)}
        return _json(data | ({"pullRequests": listed("pr", pulls)} if asked.query.get("include_prs") else {}))

    def branch(self, asked: Asked) -> Reply:
        repo, name = asked.parts
        found = self.writable(asked.user, repo)
        if name in found.branches:
            raise RefusedError(409, "Reference already exists")
        found.branches[name] = self.revision(repo, asked.json.get("startingPoint", "main"))
        return _json({"success": True})

    def tag(self, asked: Asked) -> Reply:
        repo, revision = asked.parts
        found, name = self.writable(asked.user, repo), asked.json["tag"]
        if name in found.tags:
            raise RefusedError(409, "Tag reference exists already")
        found.tags[name] = self.revision(repo, revision)
        return _json({"success": True})

    def tree(self, asked: Asked) -> Reply:
        repo, revision, *below = asked.parts
        self.readable(asked.user, repo)
        commit = self.revision(repo, revision)
        prefix = f"{below[0]}/" if below else ""
        files = {name: file for name, file in self.commits[commit].files.items() if name.startswith(prefix)}
        if below and not files:
            raise RefusedError(404, f"{below[0]} does not exist on {revision}", "EntryNotFound")
        hashes, entries = self.xet(), {}
        for name, file in sorted(files.items()):
            folders = [name[: end.start()] for end in re.finditer("/", name) if end.start() >= len(prefix)]
            for folder in folders:
                entries[folder] = {"type": "directory", "path": folder, "oid": blob(folder.encode()), "size": 0}
            if not folders or asked.query.get("recursive") == "true":
                entries[name] = self.entry(name, file, commit, hashes, asked.query.get("expand") == "true")
        first = int(asked.query.get("cursor", 0))
        listed, headers = list(entries.values()), {}
        if len(listed) > first + self.page_size:
            more = "&".join(f"{key}={value}" for key, value in asked.query.items() if key != "cursor")
            place = f"{self.url}/api/models/{repo}/tree/{quote(revision, safe='')}{'/' + below[0] if below else ''}"
            headers["Link"] = f'<{place}?{more}&cursor={first + self.page_size}>; rel="next"'
        return 200, listed[first : first + self.page_size], headers

    def paths_info(self, asked: Asked) -> Reply:
        repo, revision = asked.parts
        self.readable(asked.user, repo)
        commit = self.revision(repo, revision)
        said = parse_qs(asked.body.decode())
        files, hashes = self.commits[commit].files, self.xet()
        expand = said.get("expand") == ["true"]
        return _json([self.entry(p, files[p], commit, hashes, expand) for p in said.get("paths", []) if p in files])

    def entry(self, name: str, file: File, commit: str, hashes: Mapping[str, str], expand: bool) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "file", "path": name, "size": file.size, "oid": file.oid}
        if file.sha256:
            made |= {"lfs": _lfs(file)} | ({"xetHash": hashes[file.sha256]} if file.sha256 in hashes else {})
        if expand:
            made["lastCommit"] = {"id": commit, "title": self.commits[commit].message, "date": DATE}
        return made

    def resolve(self, asked: Asked) -> Reply:
        repo, revision, name = asked.parts
        self.readable(asked.user, repo)
        commit = self.revision(repo, revision)
        headers = {"X-Repo-Commit": commit}
        file = self.commits[commit].files.get(name)
        if file is None:
            return 404, {"error": "Entry not found"}, headers | {"X-Error-Code": "EntryNotFound"}
        if file.sha256 is None:
            return 200, self.blobs[file.oid], headers | {"ETag": f'"{file.oid}"'}
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        if found := self.xet().get(file.sha256):
            token = f"{self.url}/api/models/{repo}/xet-read-token/{commit}"
            headers |= {"X-Xet-Hash": found, "Link": f'<{token}>; rel="xet-auth"'}
        # another host name, so that a client takes it for the storage that it must not show its token to
        place = f"{self.url.replace('127.0.0.1', 'localhost')}/storage/{file.sha256}/{file.size}"
        return 302, b"", headers | {"Location": place}

    def storage(self, asked: Asked) -> Reply:
        if asked.headers.get("Authorization"):
            raise RefusedError(400, "the token was shown to the storage")
        sha256, size = asked.parts
        return 200, self.bytes_of(File(int(size), "", sha256)), {"ETag": f'"{sha256}"'}

    def batch(self, asked: Asked) -> Reply:
        repo, said = asked.parts[0], asked.json
        self.writable(asked.user, repo, said.get("ref", {}).get("name", "main"))
        objects: list[dict[str, Any]] = []
        for each in said["objects"]:
            oid, size = each["oid"], each["size"]
            objects.append({"oid": oid, "size": size})
            if oid in self.large:
                continue
            place = f"{self.url}/lfs/{repo}/{oid}"
            upload: dict[str, Any] = {"href": place}
            if size > self.part_size:
                parts = -(-size // self.part_size)
                urls = {f"{n:05d}": f"{place}/{n}" for n in range(1, parts + 1)}
                upload = {"href": f"{place}/complete", "header": {"chunk_size": str(self.part_size), **urls}}
            verify = {"href": f"{self.url}/{repo}.git/info/lfs/objects/verify"}
            objects[-1]["actions"] = {"upload": upload, "verify": verify}
        # before 1.0 a client that has Xet asks here which way to go, later ones go over Xet at once
        return _json({"transfer": "xet" if "xet" in said.get("transfers", ()) else "basic", "objects": objects})

    def receive(self, asked: Asked) -> Reply:
        """A whole file, or a part of one."""
        _, oid, *number = asked.parts
        if number:
            self.pieces.setdefault(oid, {})[int(number[0])] = asked.body
        else:
            self.keep(oid, asked.body)
        return 200, b"", {"ETag": f'"{hashlib.md5(asked.body, usedforsecurity=False).hexdigest()}"'}

    def complete(self, asked: Asked) -> Reply:
        oid, pieces = asked.parts[1], self.pieces.pop(asked.parts[1])
        self.keep(oid, b"".join(pieces[part["partNumber"]] for part in asked.json["parts"]))
        return _json({})

    def keep(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            raise RefusedError(400, "The content is not what its sha256 says")
        self.large[oid] = data

    def verify(self, asked: Asked) -> Reply:
        said = asked.json
        if len(self.large.get(said["oid"], b"")) != said["size"]:
            raise RefusedError(404, "Object does not exist")
        return _json({})

    def xet_token(self, asked: Asked) -> Reply:
        repo, kind, revision = asked.parts
        if kind == "read" or asked.query.get("create_pr"):
            self.readable(asked.user, repo)
        else:
            self.writable(asked.user, repo, revision)
        place, until = f"local://{self.store}", int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": place, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(until)}
        return 200, {"casUrl": place, "exp": until, "accessToken": "xet"}, headers

    def open_pull(self, repo: str, title: str, user: User | None) -> int:
        if user is None or user.role != "write":
            raise RefusedError(403, "Authorization error: this token may not open pull requests")
        found = self.readable(user, repo)
        found.pulls.append(Pull(title, user.name))
        found.branches[f"refs/pr/{len(found.pulls)}"] = found.branches["main"]
        return len(found.pulls)

    def discuss(self, asked: Asked) -> Reply:
        repo = asked.parts[0]
        number = self.open_pull(repo, asked.json["title"], asked.user)
        return _json({"num": number, "pullRequest": True, "url": f"{self.url}/{repo}/discussions/{number}"})

    def discussions(self, asked: Asked) -> Reply:
        repo, author = asked.parts[0], asked.query.get("author")
        found = self.readable(asked.user, repo)
        listed = [
            self.described(repo, number)
            for number, pull in enumerate(found.pulls, 1)
            if author in (None, pull.author)
        ]  # fmt: skip
        return _json({"discussions": listed, "count": len(listed), "start": 0})

    def discussion(self, asked: Asked) -> Reply:
        repo, number = asked.parts
        self.readable(asked.user, repo)
        more = {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "events": [], "diff": ""}
        return _json(self.described(repo, int(number)) | more)

    def described(self, repo: str, number: int) -> dict[str, Any]:
        pull = self.repos[repo].pulls[number - 1]
        made = {"title": pull.title, "num": number, "status": pull.status, "isPullRequest": True, "createdAt": DATE}
        return made | {"author": {"name": pull.author}, "repo": {"name": repo, "type": "model"}}


def _json(data: Any) -> Reply:
    return 200, data, {}


def _lfs(file: File) -> dict[str, Any]:
    return {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer(file.sha256 or "", file.size))}


def _hexed(data: bytes) -> str:
    """A hash as Xet spells it: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", data))


REPO = "([^/]+/[^/]+)"
ROUTES: tuple[tuple[str, str, Callable[[Hub, Asked], Reply]], ...] = (
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.validate),
    ("POST", f"/api/models/{REPO}/preupload/([^/]+)", Hub.preupload),
    ("POST", f"/api/models/{REPO}/commit/([^/]+)", Hub.commit_files),
    ("GET", f"/api/models/{REPO}/refs", Hub.refs),
    ("POST", f"/api/models/{REPO}/branch/([^/]+)", Hub.branch),
    ("POST", f"/api/models/{REPO}/tag/([^/]+)", Hub.tag),
    ("GET", f"/api/models/{REPO}/tree/([^/]+)", Hub.tree),
    ("GET", f"/api/models/{REPO}/tree/([^/]+)/(.+)", Hub.tree),
    ("POST", f"/api/models/{REPO}/paths-info/([^/]+)", Hub.paths_info),
    ("GET", f"/api/models/{REPO}/xet-(read|write)-token/([^/]+)", Hub.xet_token),
    ("POST", f"/api/models/{REPO}/discussions", Hub.discuss),
    ("GET", f"/api/models/{REPO}/discussions", Hub.discussions),
    ("GET", f"/api/models/{REPO}/discussions/([0-9]+)", Hub.discussion),
    ("GET", f"/api/models/{REPO}", Hub.info),
    ("GET", f"/api/models/{REPO}/revision/([^/]+)", Hub.info),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", Hub.batch),
    ("POST", f"/{REPO}.git/info/lfs/objects/verify", Hub.verify),
    ("PUT", f"/lfs/{REPO}/([0-9a-f]+)(?:/([0-9]+))?", Hub.receive),
    ("POST", f"/lfs/{REPO}/([0-9a-f]+)/complete", Hub.complete),
    ("GET", f"/{REPO}/resolve/([^/]+)/(.+)", Hub.resolve),
    ("GET", "/storage/([0-9a-f]+)/([0-9]+)", Hub.storage),
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer takes 40 ms
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def handle_any(self) -> None:
        address, line = urlsplit(self.path), f"{self.command} {self.path}"
        with self.hub.lock:
            self.hub.requests.append(line)
            fault = next((one for one in self.hub.faults if one.left and re.search(one.pattern, line)), None)
            if fault:
                fault.left -= 1
        if fault and fault.wait:
            self.hub.closing.wait(fault.wait)
        if fault and fault.cut and not fault.late:
            self.cut()
            return
        body = self.whole_body()
        if fault and fault.status and not fault.late:
            self.reply(fault.status, fault.body, dict(fault.headers))
            return
        try:
            status, data, headers = self.carried_out(address.path, parse_qs(address.query), body)
        except RefusedError as error:
            code = {"X-Error-Code": error.code} if error.code else {}
            status, data, headers = error.status, {"error": error.message}, code | {"X-Error-Message": error.message}
        if fault and fault.late:
            if fault.cut:
                self.cut()
                return
            status, data, headers = fault.status or status, fault.body, dict(fault.headers)
        self.reply(status, data, headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815  # http.server's names

    def carried_out(self, path: str, query: Mapping[str, list[str]], body: bytes) -> Reply:
        method = "GET" if self.command == "HEAD" else self.command
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        for verb, pattern, answer in ROUTES:
            if verb == method and (match := re.fullmatch(pattern, path)):
                parts = tuple(unquote(part) for part in match.groups() if part is not None)
                single = {key: values[0] for key, values in query.items()}
                with self.hub.lock:
                    return answer(self.hub, Asked(USERS.get(token), parts, single, body, self.headers))
        raise RefusedError(404, f"this Hub has no {self.command} {path}")

    def whole_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def reply(self, status: int, data: Any, headers: dict[str, str]) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if status == 200 and asked:
            first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | ValueError):  # a client that left, or was cut off
            super().handle_error(request, client_address)


@contextmanager
def running(folder: Path, **settings: int) -> Iterator[Hub]:
    """A Hub on a free port, with its Xet storage in `folder`, until the block ends."""
    hub = Hub(folder, **settings)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def in_this_process(hub: Hub, monkeypatch: Any) -> Iterator[None]:
    """huggingface_hub as it would be when imported with this Hub for HF_ENDPOINT, without Xet, logged in as the owner."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, disable_progress_bars, enable_progress_bars

    for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(hub.store.parent / "no-token"))
    monkeypatch.setenv("HF_TOKEN", OWNER)
    # the kept session, called otherwise before 1.0, would go on as it was made; and is to leave no connection open
    close_session = getattr(_http, "close_session", None) or _http.reset_sessions
    close_session()
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
        close_session()


def environment(hub: Hub, home: Path, *, xet: bool = True, token: str = OWNER) -> dict[str, str]:
    """For a process that is to take this Hub for the real one."""
    return {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms",
    }
