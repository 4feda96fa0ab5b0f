"""How strongly to activate a language: the smallest strength at which the model answers in it and still says something.

Too weak a constant forces nothing, too strong a one breaks the text, and where the two lie differs from model to model and
from language to language. So `search` goes up a grid of strengths, under hooks on the base. At each one the model answers
prompts in the other languages, and of the answers it notes

    accuracy, whole, perplexity, repetition, broken    as `answers` and `quality` have them
    kl    mean KL(base ‖ steered) in nats on real text in the language

The answers have fallen apart when more than APART of them are broken.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..edits.hooks import steered
from ..edits.plan import Plan
from ..edits.request import TARGET_ACCURACY
from ..errors import CorpusError, MonoglotWarning, RecipeError
from ..live.generate import continuations
from ..live.log_loss import measure
from ..live.logits import Variant
from ..progress import Progress
from ..text.identify import check
from ..text.tokens import Packed
from .answers import Answers, judged
from .quality import Quality, quality, rounded, token_ids

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
TOKENS = 24  # an answer
APART = 1 / 3  # of the answers
WEAK = 1.0  # below this loops are no sign of too much: a source language that is switched off makes them by itself
REAL = 8  # texts
SAMPLES = 3


@dataclass(frozen=True)
class Point:
    """What one strength does. `kl` is None when there is no real text, or when it is no number."""

    strength: float
    answers: Answers
    kl: float | None

    @property
    def accuracy(self) -> float:
        return self.answers.accuracy

    @property
    def fallen_apart(self) -> bool:
        return self.answers.quality.broken_share > APART

    def good(self, target_accuracy: float) -> bool:
        return self.accuracy >= target_accuracy and not self.fallen_apart


@dataclass(frozen=True)
class Curve:
    """The points that were tried, ascending.

    `base` is the model as it is, at strength 0; `real` the real text; `samples` are (prompt, answer) at the chosen strength,
    from different languages.
    """

    language: str
    target_accuracy: float
    base: Point
    real: Quality
    points: tuple[Point, ...]
    reached: bool
    best: Point
    samples: tuple[tuple[str, str], ...]

    @property
    def chosen(self) -> float:
        return self.best.strength


@dataclass(frozen=True)
class Task:
    """Answering in `language` to prompts in others, and who judges it: `base`, a live model, with its tokenizer.

    `prompts` are by language, those in `language` itself are left out. Four a language are enough for a search: every
    strength costs an answer to each. `real` are texts in `language`; the first 8 are read, `tokens` tokens of each. Without
    them loops are seen, word salad is not.
    """

    base: Any
    tokenizer: Any
    language: str
    prompts: Mapping[str, Sequence[str]]
    real: Sequence[str] = ()
    tokens: int = TOKENS

    @cached_property
    def asked(self) -> tuple[str, ...]:
        return tuple(prompt for code, own in self.prompts.items() if code != self.language for prompt in own)

    @cached_property
    def yardstick(self) -> Quality:
        return quality(self.base, self.tokenizer, self.real[:REAL], tokens=self.tokens)

    @cached_property
    def packed(self) -> Packed:
        """The real texts, each as a context of its own, after a beginning-of-text token where there is one."""
        head = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        rows = sorted(filter(None, token_ids(self.tokenizer, self.real[:REAL], self.tokens)), key=len)
        contexts = tuple(np.array(head + row, np.int64) for row in rows)
        return Packed(self.language, contexts, len(head), sum(map(len, rows)), "")

    def check(self) -> None:
        """Raise CorpusError when there is nothing to ask, or the language can't be identified."""
        if not self.asked:
            raise CorpusError(
                f"there are no prompts in another language than {self.language}. Give some with `prompts` FILE."
            )
        check([self.language])


def search(
    task: Task,
    modules: Sequence[Any],
    plan_of: Callable[[float], Plan],
    *,
    strengths: Sequence[float] = STRENGTHS,
    target_accuracy: float = TARGET_ACCURACY,
    progress: Progress | None = None,
) -> Curve:
    """Find the first of the ascending `strengths` that is good enough.

    It is the first at which `target_accuracy` of the answers are in the language and have not fallen apart; else, with a
    MonoglotWarning, the one with the most whole answers in the language. The search goes no further once the answers have
    fallen apart at two strengths from WEAK on in a row.

    `modules` are the base's `families.activation_modules`, `plan_of` says what a strength does. Raises CorpusError as
    `Task.check`, RecipeError when there are no strengths.
    """
    task.check()
    if not strengths:
        raise RecipeError("there are no strengths to try.")
    grid = sorted(strengths)
    found: list[Point] = []

    def update(what: str, done: int, whole: int) -> None:
        if progress:
            progress(what, len(found) * whole + done, (len(grid) + 1) * whole)

    found.append(_point(task, 0.0, Variant("base", task.base), update))
    for strength in grid:
        hooks = partial(steered, modules, plan_of(strength))
        found.append(_point(task, strength, Variant(f"× {strength:g}", task.base, hooks), update))
        if found[-1].good(target_accuracy):
            break
        too_strong = found[-2].strength >= WEAK and found[-2].fallen_apart and found[-1].fallen_apart
        if too_strong:
            break
    base, *points = found
    reached = points[-1].good(target_accuracy)
    best = points[-1] if reached else max(points, key=lambda point: (point.answers.whole, -point.strength))
    if not reached:
        warnings.warn(advice(best, task.language, target_accuracy), MonoglotWarning, stacklevel=2)
    return Curve(
        task.language, target_accuracy, base, task.yardstick, tuple(points), reached, best, samples(task, best)
    )


def samples(task: Task, point: Point) -> tuple[tuple[str, str], ...]:
    """Prompts with their answers, evenly spread, and so from different languages."""
    pairs = list(zip(task.asked, point.answers.texts, strict=True))
    return tuple(pairs[:: max(1, len(pairs) // SAMPLES)][:SAMPLES])


def advice(best: Point, language: str, target_accuracy: float) -> str:
    """Say what to do when not even the best strength is good enough."""
    return (
        f"no strength makes {target_accuracy:.0%} of the answers {language} and leaves them whole; the best is "
        f"{best.strength:g}: {best.accuracy:.0%} are {language}, {best.answers.whole:.0%} are that and whole. Hold or "
        "deactivate the other languages too, find more neurons (`rate`), or take another `op`, `value` or `layers`."
    )


def of_checkpoint(task: Task, model: Any, strength: float, progress: Progress | None = None) -> Point:
    """Measure a live model that was baked at some strength: what it does itself, without hooks."""
    return _point(task, strength, Variant("checkpoint", model), progress)


def _point(task: Task, strength: float, variant: Variant, progress: Progress | None) -> Point:
    def update(_: str, done: int, whole: int) -> None:
        if progress:
            progress(variant.name, done, whole)

    with variant.inside():
        texts = continuations(variant.model, task.tokenizer, task.asked, tokens=task.tokens, progress=update)
    answers = judged(task.base, task.tokenizer, texts, [task.language], task.yardstick.perplexity)
    base = Variant("as it is", task.base)
    found = measure((base, variant), {"": task.packed}, compare=[base.name], to=variant.name)
    between = found.difference[base.name][""]
    return Point(strength, answers, between.kl if between.positions and math.isfinite(between.kl) else None)


def to_json(curve: Curve, checkpoint: Sequence[Point] = (), answers: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Return the curve for a manifest, with figures rounded to what they are worth.

    `checkpoint` are the points `of_checkpoint`, `answers` the `samples` of the last; without them those of the curve
    stand there.
    """
    return {
        "language": curve.language,
        "target_accuracy": curve.target_accuracy,
        "chosen": curve.chosen,
        "reached": curve.reached,
        "real": rounded(curve.real),
        "base": _figures(curve.base),
        "points": [_figures(point) for point in curve.points],
        "checkpoint": [_figures(point) for point in checkpoint],
        "samples": [{"prompt": prompt, "answer": answer} for prompt, answer in answers or curve.samples],
    }


def _figures(point: Point) -> dict[str, Any]:
    kl = None if point.kl is None else float(f"{point.kl:.4g}")
    return {"strength": point.strength, **point.answers.figures(), "kl": kl, "fallen_apart": point.fallen_apart}
