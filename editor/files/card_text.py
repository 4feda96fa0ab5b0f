"""A README.md as text: its metadata, what a person may write on it, and what monoglot remembers of what it wrote.

    ---
    license: mit                                    metadata, between two lines of ---
    ---
    …                                               the body
    <!-- monoglot: yours, about. … -->              a place: what stands between these two lines is a person's
    <!-- monoglot: end -->

When a card is rendered again, the places are kept as they are, and so is each key of the metadata that a person added,
changed or removed. For that the manifest's `card` holds what monoglot itself wrote, as hashes:

    {"body": sha256 of the body without the contents of the places, "metadata": {key: sha256 of its value}}

A body of another hash was edited elsewhere. Spaces at the ends of lines and the kind of line break don't count.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from ..errors import CardError, MalformedError
from . import yaml_text

BLOCK = re.compile(r"\A\s*---[ \t]*(?:\r\n|\r|\n)(.*?)(?:(?<=\n)|(?<=\r))---[ \t]*(?:\r\n|\r|\n|\Z)", re.DOTALL)
OPENED = re.compile(r"\A\s*---[ \t]*[\r\n]")
TAKEN = re.compile(r"\s*---\r?\n")  # how the Hub wants it to begin
NOTHING = (
    "the metadata at its beginning is not closed, or says nothing: write `key: value` lines, and a line of --- below."
)
END = "<!-- monoglot: end -->"
PLACE = re.compile(
    rf"(?P<begin><!-- monoglot: yours, (?P<name>\w+)\b[^>]*-->\n)(?P<content>.*?)(?P<end>{END})", re.DOTALL
)
MARK = re.compile(r"<!-- monoglot: (?:yours, \w+\b[^>]*|end) ?-->\n?")


class Remembered(TypedDict, total=False):
    """What the manifest keeps of a card that monoglot wrote."""

    body: str
    metadata: dict[str, str]


def split(text: str) -> tuple[dict[str, Any], str]:
    """Metadata and body. Without a block of metadata all is body.

    Raises CardError when the block is not closed, is no YAML, gives a key twice, or is no mapping.
    """
    text = text.removeprefix("\ufeff")
    found = BLOCK.match(text)
    if found is None:
        if OPENED.match(text):
            raise CardError(NOTHING)
        return {}, text
    return _metadata(found[1]), text[found.end() :]


def metadata_of(card: Path) -> dict[str, Any]:
    """Read the metadata of a README.md as the Hub wants it: there, and not empty. Raises CardError."""
    try:
        text = card.read_bytes().decode()
    except UnicodeDecodeError:
        raise CardError("it is no UTF-8 text: save it as such.") from None
    except OSError as error:
        raise CardError(
            f"it cannot be read: {error.strerror}. Run `monoglot card {card.parent}` to write one."
        ) from None
    if not TAKEN.match(text):
        raise CardError(
            "it has no metadata, as it does not begin with a block of metadata between two lines of ---: run "
            f"`monoglot card {card.parent} --force` to write it anew."
        )
    metadata, _ = split(text)
    if not metadata:
        raise CardError(NOTHING)
    return metadata


def _metadata(block: str) -> dict[str, Any]:
    import yaml

    try:
        data = yaml_text.parse(block)
        json.dumps(data, default=str)  # keys that are dates cannot be written
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 2}" if error.problem_mark else ""
        raise CardError(f"its metadata is no YAML{line}: {error.problem or error.context}. Put that right.") from None
    except MalformedError as error:
        raise CardError(f"its metadata cannot be read: {error}. Put that right.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CardError(f"its metadata cannot be read: {reason}. Put that right.") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise CardError("its metadata is no mapping: write a line `key: value` for each.")
    return data


def places(body: str) -> dict[str, str]:
    """Return what a person wrote into the places, by their names; empty places are left out."""
    found = {place["name"]: place["content"] for place in PLACE.finditer(_lines(body))}
    return {name: content for name, content in found.items() if content.strip()}


def filled(body: str, contents: Mapping[str, str]) -> str:
    """Return a body with `contents` in its places; a place that is not among them keeps its own."""
    return PLACE.sub(lambda place: place["begin"] + contents.get(place["name"], place["content"]) + place["end"], body)


def unmarked(body: str) -> str:
    """Return a body without the marks of its places, as it is to stand on another card."""
    return MARK.sub("", _lines(body))


def memory(text: str) -> Remembered:
    """Return what the manifest keeps of a card that monoglot wrote. Raises CardError."""
    metadata, body = split(text)
    return {"body": _body_digest(body), "metadata": {str(key): _digest(value) for key, value in metadata.items()}}


def untouched(body: str, remembered: Mapping[str, Any]) -> bool:
    """Whether a body is the one that monoglot wrote, apart from what stands in the places."""
    return bool(remembered.get("body") == _body_digest(body))


def merged(new: Mapping[str, Any], current: Mapping[Any, Any], remembered: Mapping[str, Any]) -> dict[Any, Any]:
    """Return `new` metadata with what a person added, changed or removed in `current` since monoglot wrote it."""
    wrote = remembered.get("metadata") or {}
    changed = {key: value for key, value in current.items() if wrote.get(str(key)) != _digest(value)}
    removed = {key for key in wrote if key not in {str(one) for one in current}}
    return {key: value for key, value in new.items() if key not in removed} | changed


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _body_digest(body: str) -> str:
    bare = PLACE.sub(lambda place: place["begin"] + place["end"], _lines(body))
    return hashlib.sha256("\n".join(line.rstrip() for line in bare.strip().split("\n")).encode()).hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
