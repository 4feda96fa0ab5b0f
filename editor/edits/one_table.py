"""Redirecting in a model that reads and writes with one table, without giving it a second one.

The rows of the one table move, so what the model writes moves too: the logit of token t by h·δ_t, h being the final hidden
state. With m̂ the direction of the mean of h over text in all languages, what is added is

    δ'_t = δ_t − (δ_t·m̂) m̂

which moves the tokens that are read nearly as far, and no logit by what all positions have in common. It is an
approximation, so its error is measured, without a model: on held-out positions of which `statistics.outputs` kept h, the
logits h·e_t and h·(e_t + δ'_t) are computed for every token, and compared as distributions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import RecipeError
from ..models.embedding import Embedding
from ..models.families import text_config
from ..models.target import Target
from ..statistics.outputs import Outputs
from ..statistics.vocabulary import Vocabulary
from .redirect import Float64, Redirection

BLOCK = 4096  # rows of the table at once
REPRODUCED = 0.05  # nats; how far the model's own losses may be from those that are computed here


@dataclass(frozen=True)
class TableError:
    """What an edited table does to what is written in a language, on base text: nats a token.

    The mean KL from the base's next-token distributions, and the change of the log-loss.
    """

    kl: float
    loss: float


def projected(moved: Redirection, outputs: Outputs, redirects: int) -> Redirection:
    """Return the same tokens, moved without the direction of the mean of what the output table is given.

    That is taken out of the first so many moves; the others are vectors, which move all logits of a position alike.
    """
    mean = outputs.mean / np.sqrt((outputs.mean**2).sum())
    along = [float((move * mean).sum()) for move in moved.moves]  # in one order on every machine
    along[redirects:] = [0.0] * (len(along) - redirects)
    return replace(moved, moves=np.stack([move - a * mean for move, a in zip(moved.moves, along, strict=True)]))


def table_errors(target: Target, table: Embedding, moved: Redirection, vocabulary: Vocabulary) -> dict[str, TableError]:
    """Measure what the edited table does to what is written, by language.

    Raises RecipeError when the recorded losses are not those of this table, so that the head does something unknown here.
    """
    outputs = outputs_of(target, vocabulary)
    states, head = outputs.states.astype(np.float64), _Head.of(target)
    along = states @ moved.moves.T  # (n, S)
    shares = np.zeros((table.rows, len(moved.moves)))
    shares[moved.ids] = moved.shares
    before, after, crossed = (_Sum(len(states)) for _ in range(3))
    wanted = np.zeros((2, len(states)))  # logits of the targets, before and after
    for at in range(0, table.rows, BLOCK):
        rows = np.arange(at, min(at + BLOCK, table.rows))
        raw = states @ table.read(rows).T
        a, b = head(raw), head(raw + along @ shares[rows].T)
        inside = np.flatnonzero((outputs.targets >= at) & (outputs.targets < at + BLOCK))
        wanted[:, inside] = [each[inside, outputs.targets[inside] - at] for each in (a, b)]
        before.add(a, 1.0)
        after.add(b, 1.0)
        crossed.add(a, a - b)
    base, edited = before.log - wanted[0], after.log - wanted[1]
    if not np.mean(np.abs(base - outputs.losses)) <= REPRODUCED:
        raise RecipeError(
            f"what {target.source.name} does with the result of its output table is not known here, so what an edit of "
            "that table costs cannot be measured. Give the model a second table: `untie`."
        )
    kl = crossed.total / before.total - before.log + after.log
    return {
        language: TableError(_rounded(kl[own].mean()), _rounded((edited - base)[own].mean()))
        for number, language in enumerate(vocabulary.languages)
        if (own := outputs.language == number).any()
    }


def check_errors(target: Target, errors: dict[str, TableError], sources: Sequence[str], tolerance: float) -> None:
    """Raise RecipeError when the log-loss of a language that is not redirected rises by more than the tolerance."""
    kept = {language: error.loss for language, error in errors.items() if language not in sources}
    if not kept:
        return
    worst = max(kept, key=lambda language: kept[language])
    if not kept[worst] <= tolerance:
        raise RecipeError(
            f"{target.source.name} writes with the table that is edited: text in {worst} would cost it {kept[worst]:.3g} "
            f"nats a token more, above the `tolerance` of {tolerance:g}. Use a smaller `strength`, or give the model a "
            "second table: `untie`."
        )


def outputs_of(target: Target, vocabulary: Vocabulary) -> Outputs:
    """Return what the output table is given. Raises RecipeError where that was not recorded."""
    if vocabulary.outputs is None:
        raise RecipeError(
            f"{target.source.name} reads and writes with one table. To edit it without a second one, what the table is given "
            "when it writes has to be known: count the tokens with `outputs`, which runs the model."
        )
    return vocabulary.outputs


class _Sum:
    """Σ exp(z)·weight over logits that come in blocks, by row, without overflow."""

    def __init__(self, rows: int) -> None:
        self.top, self.total = np.full(rows, -np.inf), np.zeros(rows)

    def add(self, logits: Float64, weight: Any) -> None:
        top = np.maximum(self.top, logits.max(axis=1))
        self.total *= np.exp(self.top - top)
        self.total += (np.exp(logits - top[:, None]) * weight).sum(axis=1)
        self.top = top

    @property
    def log(self) -> Float64:
        found: Float64 = np.log(self.total) + self.top
        return found


@dataclass(frozen=True)
class _Head:
    """What a family does with h·e_t: a factor, then a soft cap where there is one."""

    factor: float
    cap: float | None

    @classmethod
    def of(cls, target: Target) -> "_Head":
        config = text_config(target.checkpoint.config)
        factor = float(config.get("logit_scale") or 1) / float(config.get("logits_scaling") or 1)
        cap = config.get("final_logit_softcapping")
        return cls(factor, float(cap) if cap else None)

    def __call__(self, raw: Float64) -> Float64:
        scaled = raw * self.factor
        return np.tanh(scaled / self.cap) * self.cap if self.cap else scaled


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
