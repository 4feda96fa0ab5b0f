"""What a recipe says of a script, or of a set of tokens: that they can't be written any more, or less often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RecipeError
from ..files import schema
from ..text import token_sets, unicode_scripts

SILENCE, QUIETEN = "silence", "quieten"
OPS = (SILENCE, QUIETEN)
SHOWN = 5  # characters in a message


@dataclass(frozen=True)
class ScriptEdit:
    """What becomes of the tokens that write a script, or of a set (see `token_sets`); only quieten has `nats`."""

    script: str
    op: str
    nats: float | None = None


def less_likely(nats: float | None) -> str:
    """Say in words what quietening by so many nats does."""
    return f"{nats:g} nat{'' if nats == 1 else 's'} less likely"


def check_scripts(edits: Sequence[ScriptEdit], spared: str = "") -> None:
    """Raise RecipeError when one of them says something impossible, or what is spared is a letter of another script."""
    named: set[str] = set()
    for edit in edits:
        if edit.op not in OPS:
            raise RecipeError(f"unknown operation {edit.op!r} for {edit.script}; known: {', '.join(OPS)}.")
        if edit.op == SILENCE and edit.nats is not None:
            raise RecipeError(f"silence takes no nats, {edit.script} has {edit.nats}. Only quieten does.")
        if edit.op == QUIETEN and (edit.nats is None or not math.isfinite(edit.nats) or edit.nats <= 0):
            raise RecipeError(f"quieten needs nats above 0 for {edit.script}, for example `quieten` {edit.script}=4.")
        if edit.op == SILENCE and edit.script in token_sets.SETS:
            raise RecipeError(f"{edit.script} can't be silenced, as all text may need some of it. Quieten it.")
        if (name := token_sets.known(edit.script)) != edit.script:
            raise RecipeError(f"the script {edit.script!r} is called {name}.")
        if edit.script in named:
            raise RecipeError(f"{edit.script} is edited twice. Keep one of the two edits.")
        named.add(edit.script)
    wanted = {*named, "Common", "Inherited"}  # a sign of no script may need a piece that would go
    if edits and (others := [one for one in dict.fromkeys(spared) if unicode_scripts.script_of(one) not in wanted]):
        raise RecipeError(
            f"`except_chars` has {', '.join(map(ascii, others[:SHOWN]))}, not of {' or '.join(sorted(named))}. Name the "
            "characters themselves of a script that is silenced or quietened."
        )


def script_edit(data: Any) -> ScriptEdit:
    """Read what a recipe's file says of one script. Raises MalformedError, and RecipeError for an unknown script."""
    found = schema.keys(data, "what becomes of a script", ("script", "op", "nats"), ("script", "op"))
    script, nats = schema.text(found["script"], "a script"), found.get("nats")
    return ScriptEdit(
        token_sets.known(script),
        schema.text(found["op"], "an op"),
        None if nats is None else float(schema.figure(nats, f"the nats of {script}")),
    )
