"""The one door for foreign text on its way into Markdown: names, codes, prompts, answers, and what other people's files say.

A card and a page of Markdown are made of our own sentences with such text in them. It stays text: no link, no picture, no
HTML, no table's end and no fence's end come of it. (HTML pages escape what they show by themselves; YAML has its own door,
in `metadata.to_yaml`.)
"""

import re

from ...editor.text.foreign import printable


def line(text: object) -> str:
    """Write text on one line, without what acts on a terminal or reorders it."""
    return " ".join(printable(str(text)).split())


def cell(text: object) -> str:
    """Write text so that a sentence or a table's cell can hold it: on one line, with no Markdown, HTML or picture in it."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", line(text))


def code(text: object) -> str:
    """Write text as code within a line; what could end the code or a table's cell is written as `cell` does, without code."""
    plain = line(text)
    return f"`{plain}`" if plain and not re.search(r"[`|]", plain) else cell(plain)


def fenced(text: str, language: str) -> str:
    """Write a block of code, between fences longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(text).rstrip()}\n{fence}"
