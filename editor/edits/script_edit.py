"""What a recipe says of a script: that its tokens can't be written any more, or less often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RecipeError
from ..files import schema
from ..text import unicode_scripts

SILENCE, QUIETEN = "silence", "quieten"
OPS = (SILENCE, QUIETEN)


@dataclass(frozen=True)
class ScriptEdit:
    """What becomes of the tokens that write a script; only quieten has `nats`."""

    script: str
    op: str
    nats: float | None = None


def check_scripts(edits: Sequence[ScriptEdit]) -> None:
    """Raise RecipeError when one of them says something impossible."""
    named: set[str] = set()
    for edit in edits:
        if edit.op not in OPS:
            raise RecipeError(f"unknown operation {edit.op!r} for {edit.script}; known: {', '.join(OPS)}.")
        if edit.op == SILENCE and edit.nats is not None:
            raise RecipeError(f"silence takes no nats, {edit.script} has {edit.nats}. Only quieten does.")
        if edit.op == QUIETEN and (edit.nats is None or not math.isfinite(edit.nats) or edit.nats <= 0):
            raise RecipeError(f"quieten needs nats above 0 for {edit.script}, for example `quieten` {edit.script}=4.")
        if (name := unicode_scripts.known(edit.script)) != edit.script:
            raise RecipeError(f"the script {edit.script!r} is called {name}.")
        if edit.script in named:
            raise RecipeError(f"{edit.script} is edited twice. Keep one of the two edits.")
        named.add(edit.script)


def script_edit(data: Any) -> ScriptEdit:
    """Read what a recipe's file says of one script. Raises MalformedError, and RecipeError for an unknown script."""
    found = schema.keys(data, "what becomes of a script", ("script", "op", "nats"), ("script", "op"))
    script, nats = schema.text(found["script"], "a script"), found.get("nats")
    return ScriptEdit(
        unicode_scripts.known(script),
        schema.text(found["op"], "an op"),
        None if nats is None else float(schema.figure(nats, f"the nats of {script}")),
    )
