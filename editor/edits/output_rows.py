"""Silenced and quietened tokens as edits of tensors: the rows of the output table, or its bias.

With w·h ≈ 1 and positive on all text (see floor), row w_t of token t in the output table, b_t its bias:

    silence       w_t := −β·w                 in one table with the input:   w_t := w_t − β·w
    quieten n     w_t := w_t − n·w
    with a bias   b_t := b_t − DROP           quieten n:  b_t := b_t − n

A bias is exact, and the table stays as it is. Without one, a model with one table for input and output gets a second, with
the base's other rows, unless the recipe says `untie: false`: then the model reads these tokens as something else too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RecipeError
from ..models.head import Head, open_head
from ..models.target import Target, about_sampled
from .recipe import Recipe
from .script_edit import SILENCE, ScriptEdit
from .silence import DROP, Silence
from .tensor_edits import TensorEdit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Silenced:
    """The tokens that go or grow rarer, and where. `tied` says that the shift is added to the one table of both."""

    silence: Silence
    scripts: tuple[ScriptEdit, ...]
    head: Head
    tied: bool

    @property
    def untied(self) -> bool:
        """Whether the model gets an output table of its own, which it didn't have or that was the input's too."""
        return self.head.table.tied and not self.tied and not self.head.exact

    @property
    def added_bytes(self) -> int:
        """What an output table of its own adds to the files."""
        return self.head.added_bytes if self.untied else 0

    @property
    def gone(self) -> Int64 | None:
        """The tokens that can't be written any more, sorted, int64 (n,); None where there are none."""
        found = [self.silence.ids[edit.script] for edit in self.scripts if edit.op == SILENCE]
        return np.sort(np.concatenate(found)) if found else None

    @property
    def quietened(self) -> bool:
        """Whether some tokens are only less likely."""
        return any(edit.op != SILENCE for edit in self.scripts)

    def edits(self) -> dict[str, TensorEdit]:
        """Return the edit of each tensor, by its name."""
        order = np.argsort(np.concatenate([self.silence.ids[edit.script] for edit in self.scripts]))
        ids = np.concatenate([self.silence.ids[edit.script] for edit in self.scripts])[order]
        if self.head.bias is not None:
            by = self._each(lambda edit: DROP if edit.op == SILENCE else float(edit.nats or 0))[order]
            return {self.head.bias[1].name: TensorEdit(0, ids, np.ones(len(ids)), lambda: -by[:, None])}
        direction, floor = self.silence.direction, self.silence.floor
        if direction is None or floor is None:
            raise RecipeError("the silence has no direction, which this model needs. Make it again from text.")
        amounts = self._each(lambda edit: floor.strength if edit.op == SILENCE else float(edit.nats or 0))[order]
        gone = self._each(lambda edit: float(edit.op == SILENCE and not self.tied))[order]
        rows = TensorEdit(0, ids, 1 - gone, rows=lambda part: -np.outer(amounts[part], direction))
        table = self.head.table
        if not self.tied:
            return {table.output: rows}
        return dict.fromkeys((table.tensor.name, *([table.output] if table.has_output else [])), rows)

    def _each(self, amount: Callable[[ScriptEdit], float]) -> Float64:
        return np.concatenate([np.full(len(self.silence.ids[edit.script]), amount(edit)) for edit in self.scripts])


def silenced(target: Target, recipe: Recipe, silence: Silence | None) -> Silenced | None:
    """Find the place of what a recipe says of scripts; None where it says nothing.

    Raises RecipeError when there is no silence, or it is of another model or for another recipe, and when the recipe
    keeps the one table of a model that has two; ModelError for an output layer that is not known here.
    """
    if not recipe.scripts:
        return None
    head = open_head(target)
    if silence is None:
        raise RecipeError(
            f"to keep {target.source.name} from writing {recipe.scripts[0].script}, its tokens and what stays have to "
            "be known. Name text with `corpus`, or a file that was made of it with `silence_file`."
        )
    if silence.model.fingerprint != target.fingerprint:
        raise RecipeError(
            f"the silence is of a model with fingerprint {silence.model.fingerprint[:12]}…, {target.source.name} has "
            f"{target.fingerprint[:12]}…. Make one of this model.{about_sampled(target, silence.model.fingerprint)}"
        )
    wanted = tuple(edit.script for edit in recipe.scripts)
    if silence.scripts != wanted or silence.spared != recipe.except_chars:
        raise RecipeError(
            f"the silence is of {_said(silence.scripts, silence.spared)}, the recipe of "
            f"{_said(wanted, recipe.except_chars)}. Make it again with `corpus`."
        )
    if silence.rows != head.rows or (silence.direction is not None and len(silence.direction) != head.columns):
        raise RecipeError(f"the silence does not have the shape of {target.source.name}. Make it again with `corpus`.")
    if not recipe.untie and not head.table.tied:
        raise RecipeError(f"{target.source.name} has two tables already, so it can't keep one. Leave `untie` out.")
    tied = not recipe.untie and not head.exact
    if silence.floor and silence.floor.tied != tied and any(edit.op == SILENCE for edit in recipe.scripts):
        here, there = ("one table", "a second table") if tied else ("a second table", "one table")
        raise RecipeError(
            f"the recipe gives {target.source.name} {here}, and the silence was measured with {there}. Make it again with "
            "`corpus`."
        )
    return Silenced(silence, recipe.scripts, head, tied)


def _said(scripts: tuple[str, ...], spared: str) -> str:
    return ", ".join(scripts) + (f" except {spared}" if spared else "")
