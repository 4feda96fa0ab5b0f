"""JSON as text: read with care, and config.json changed in the keys that must change, and in no other byte.

Runtimes read the spelling that they know, so a config is never re-serialised.
"""

import codecs
import json
from collections.abc import Mapping
from typing import Any

from ..errors import MalformedError

WHITE = " \t\n\r"
DEEPEST = 200  # objects and lists in each other


def parse(text: bytes) -> Any:
    """Read JSON from untrusted bytes.

    Raises MalformedError for what is none, and for what Python would read but nothing should: a name that stands twice in one
    object, objects nested too deeply, and half of a surrogate pair, which could not be written again.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) != len(pairs):
            raise ValueError("a name stands twice in one object")
        return names

    if text.startswith(codecs.BOM_UTF8):
        raise MalformedError("it begins with a byte order mark, which JSON has not: save it without")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=once)
        if b"\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedError(reason) from None
    if _deep(value):
        raise MalformedError("nested too deeply")
    return value


def _deep(value: Any) -> bool:
    """Whether objects and lists are nested deeper than DEEPEST."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST):
        level = [
            one for own in level for one in (own.values() if type(own) is dict else own)
            if type(one) is dict or type(one) is list
        ]  # fmt: skip
        if not level:
            return False
    return True


def with_keys(text: str, values: Mapping[str, Any], inside: str | None = None) -> str:
    """Set the keys of `values` in `text`, a JSON object: where they stand, else at the end, in the layout of the last key.

    With `inside`, they are set in the object that this key of the outer one holds. `text` has been parsed before and is well
    formed, with each key once.
    """
    for key, value in values.items():
        start = _skip(text, 0)
        if inside is not None:
            start = _pairs(text, start)[inside][1]
        pairs = _pairs(text, start)
        if key in pairs:
            _, begin, end = pairs[key]
            text = text[:begin] + json.dumps(value) + text[end:]
        elif pairs:
            first, _, end = list(pairs.values())[-1]
            before = text[:first]
            white = before[len(before.rstrip(WHITE)) :]
            text = f"{text[:end]},{white}{json.dumps(key)}: {json.dumps(value)}{text[end:]}"
        else:
            text = f"{text[: start + 1]}{json.dumps(key)}: {json.dumps(value)}{text[start + 1 :]}"
    return text


def _pairs(text: str, start: int) -> dict[str, tuple[int, int, int]]:
    """Of the object that opens at `start`: key -> (where the key begins, where its value begins, where it ends)."""
    decoder = json.JSONDecoder()
    found = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        first = at
        key, at = decoder.raw_decode(text, at)
        begin = _skip(text, _skip(text, at) + 1)  # past the colon
        _, end = decoder.raw_decode(text, begin)
        found[key] = (first, begin, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in WHITE:
        at += 1
    return at
