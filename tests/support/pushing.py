"""A checkpoint pushed to the fake Hub, and what lies there afterwards."""

import json
from pathlib import Path
from typing import Any

from monoglot.editor.hub import publish
from monoglot.editor.hub.connection import Connection
from monoglot.editor.hub.package import check
from monoglot.editor.hub.place import look


def push(connection: Connection, folder: Path, repo: str, **more: Any) -> publish.Published:
    package = check(folder)
    looking = {key: more[key] for key in ("revision", "private", "create_pr", "tag") if key in more}
    doing = {key: more[key] for key in ("create_pr", "tag", "told") if key in more}
    place = look(connection, package, repo, **looking)
    return publish.publish(connection, package, place, message="a checkpoint", **doing)


def local(folder: Path) -> dict[str, bytes]:
    """What should be on the Hub: every file that the manifest lists, and the manifest."""
    listed = [*json.loads((folder / "monoglot.json").read_text())["files"], "monoglot.json"]
    return {name: (folder / name).read_bytes() for name in listed}
