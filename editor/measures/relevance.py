"""Relevance: is an answer about its prompt? Without a judge.

Of answer a_i to prompt p_i, with n_i tokens, and p_j another prompt of the set, by the base model:

    relevance_i = [log P(a_i | p_i) − log P(a_i | p_j)] / n_i       nats a token

Above zero the answer is likelier after its own prompt than after another: it is about it. Read it beside the relevance of
the base's own answers, and of the real text that follows the prompts: a model that is redirected to another language can't
repeat its prompt's words, so it stays below. The other prompt is the next one of the set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorpusError
from .interval import Interval, interval
from .quality import log_loss, token_ids


@dataclass(frozen=True)
class Relevance:
    """Mean over answers, in nats a token, and what it may be by chance.

    `each` is that of every answer, None of an empty one.
    """

    mean: float
    interval: Interval
    each: tuple[float | None, ...]


def relevance(base: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> Relevance:
    """Measure how much likelier each answer is after its own prompt than after the next one, to `base`, a live model.

    Raises CorpusError for fewer than two different prompts.
    """
    if len(set(prompts)) < 2 or len(prompts) != len(answers):
        raise CorpusError("relevance compares an answer's prompt with another: it takes two different prompts or more.")
    head = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    asked = [head + row for row in token_ids(tokenizer, prompts)]
    written = token_ids(tokenizer, answers)
    others = [_other(prompts, number) for number in range(len(prompts))]

    def after(numbers: Sequence[int]) -> npt.NDArray[np.float64]:  # (n,)
        """Return the loss of each answer after the prompt of that number."""
        contexts = [asked[number] + answer for number, answer in zip(numbers, written, strict=True)]
        return log_loss(base, contexts, [len(asked[number]) for number in numbers])

    own, other = after(range(len(prompts))), after(others)
    each = tuple(float(gain) / len(row) if row else None for gain, row in zip(other - own, written, strict=True))
    known = np.array([value for value in each if value is not None])
    return Relevance(float(known.mean()) if len(known) else 0.0, interval(known), each)


def _other(prompts: Sequence[str], number: int) -> int:
    """Return the next prompt that says something else."""
    after: list[int] = [*range(number + 1, len(prompts)), *range(number)]
    return next(at for at in after if prompts[at] != prompts[number])
