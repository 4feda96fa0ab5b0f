"""How to make a model answer in a language: tries every kind of edit, and goes on with those that do best.

It is successive halving. Each candidate (see `kinds`) is put on the base as hooks and answers one prompt in each other
language; the better half answers more of them; and so on, as RUNGS say, while the budget of time lasts. Of each candidate
are measured

    whole     the share of its answers that are in the language and neither word salad nor loops
    damage    the rise of log-loss on the language's own text, in nats a token

The rule: of those that answered most prompts, and enough of them with a whole answer (`target_accuracy`), the one that
damages the language's own text least; where none has enough, the one with the most whole answers. Half-way the order is by
whole answers first, then by damage.

What was tried is kept, so that an interrupted search goes on where it was. Prompts and text are others than those that
`evaluate` and the proof measure with.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..edits.calibration import Calibration
from ..edits.carriers import Carried, carried
from ..edits.evaluation import Candidates
from ..edits.hooks import edited
from ..edits.recipe import VECTOR
from ..edits.request import Request
from ..errors import MonoglotWarning, NeuronsError, RecipeError
from ..files import schema
from ..live.generate import continuations
from ..live.load import load_model
from ..live.log_loss import measure
from ..live.logits import Variant
from ..live.modules import activation_modules, layer_modules
from ..models.hf import load_tokenizer
from ..models.target import Target
from ..neurons import neurons as neurons_file
from ..neurons.find import find
from ..neurons.neurons import Neurons
from ..progress import NOBODY, Listener
from ..statistics.statistics import Statistics
from ..statistics.vocabulary import Vocabulary
from ..text.corpus import Text
from ..text.prompts import Prompts, digest, passages
from .answers import Answers, judged
from .interval import interval
from .kinds import KINDS, Candidate, Kind, candidates
from .off import unseen
from .quality import Quality, quality
from .tried import FILE, Tried

RUNGS = (1, 2, 4)  # prompts in each language that were answered at the end of each round
TOKENS = 24  # an answer
REAL = 8  # texts
FEWEST = 2  # candidates of each round
KIND = "on"


@dataclass
class Tally:
    """What is known of a candidate so far. `own` is the rise of log-loss on the language's own text."""

    candidate: Candidate
    neurons: int
    own: float | None = None
    texts: list[str] = field(default_factory=list)
    answers: Answers | None = None
    seconds: float = 0.0

    @property
    def whole(self) -> float:
        return self.answers.whole if self.answers else 0.0

    @property
    def damage(self) -> float:
        return float("inf") if self.own is None else self.own

    def enough(self, target_accuracy: float) -> bool:
        return self.whole >= target_accuracy


@dataclass(frozen=True)
class Pick:
    """What was chosen: the request, what it is made of, and the record of the search."""

    request: Request
    neurons: Neurons
    vocabulary: Vocabulary | None
    record: Candidates


@dataclass
class Bench:
    """The base, what candidates are made of, and what they are asked.

    `vocabulary` is None where the model's tokens cannot be moved, `calibration` where constants need none.
    """

    target: Target
    statistics: Statistics
    calibration: Calibration | None
    vocabulary: Vocabulary | None
    texts: Mapping[str, Text]
    request: Request
    prompts: Prompts
    after: int
    device: str = "auto"
    dtype: str = "auto"
    sets: dict[float, Neurons] = field(default_factory=dict)

    @property
    def language(self) -> str:
        return self.request.activate[0]

    @cached_property
    def model(self) -> Any:
        return load_model(self.target.source.folder, device=self.device, dtype=self.dtype)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.target.source.folder)

    @cached_property
    def real(self) -> Quality:
        return quality(self.model, self.tokenizer, passages(self.language)[:REAL], tokens=TOKENS)

    @cached_property
    def own_text(self) -> Any:
        packed, _ = unseen(self.target, {self.language: self.texts[self.language]}, self.after)
        return packed

    @cached_property
    def base(self) -> float:
        return measure([Variant("base", self.model)], self.own_text).log_loss["base"][self.language]

    def neurons(self, candidate: Candidate) -> Neurons:
        """Return the neurons of a candidate's rate."""
        if candidate.rate is None:
            return neurons_file.NONE
        if candidate.rate not in self.sets:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MonoglotWarning)  # of a language without neurons at some rate
                self.sets[candidate.rate] = find(self.statistics, rate=candidate.rate)
        return self.sets[candidate.rate]

    def ask(self, candidate: Candidate) -> Request:
        """Return what was requested, done as the candidate does it."""
        return candidate.request(self.request, self.target.feed_forward.layers)

    def carried(self, candidate: Candidate) -> Carried:
        """Return what the candidate does. Raises MonoglotError where it can't be done to this model."""
        request, neurons = self.ask(candidate), self.neurons(candidate)
        counted = self.vocabulary.languages if self.vocabulary else ()
        recipe = request.recipe(self.target, neurons.languages, candidate.strength, counted=counted)
        return carried(self.target, recipe, neurons, self.calibration, self.vocabulary)

    def hooked(self, what: Carried) -> AbstractContextManager[None]:
        """Put it on the base, exactly as it is asked for."""
        family, tokens = self.target.feed_forward.family, what.tokens
        moved = tokens.asked or tokens.redirection if tokens else None
        one_table = tokens is not None and tokens.one_table and tokens.asked is None
        return edited(
            activation_modules(self.model, family),
            what.plan,
            self.model.get_input_embeddings(),
            moved,
            self.model.get_output_embeddings() if one_table else None,
            layer_modules(self.model, family) if what.vectors else [],
            what.vectors,
        )

    def asked(self, first: int, last: int) -> list[str]:
        """Return the prompts number `first` to `last` of each other language."""
        others = [own for code, own in self.prompts.items() if code != self.language]
        return [prompt for at in range(first, last) for own in others for prompt in own[at : at + 1]]

    def judged(self, texts: Sequence[str]) -> Answers:
        return judged(self.model, self.tokenizer, texts, [self.language], self.real.perplexity)


def search_on(bench: Bench, work: Path, *, kinds: tuple[Kind, ...] = KINDS, listener: Listener = NOBODY) -> Pick:
    """Find the candidate that does what `bench.request` asks for, by the rule.

    What was tried is kept in the folder `work`. Warns (MonoglotWarning) where none gives enough whole answers. Raises
    RecipeError where no kind can be done to the model.
    """
    request, tried = bench.request, Tried(work / FILE, _made_of(bench))
    known, refused = possible(bench, kinds)
    field_of, few = known, False
    rungs = [rung for rung in RUNGS if rung == RUNGS[0] or bench.asked(rung - 1, rung)]
    with listener.stage("search", "answers") as update:
        done, whole = 0, _answers(bench, len(known), rungs)
        for before, rung in zip((0, *rungs), rungs, strict=False):
            field_of = halved(field_of) if before else field_of
            for number, tally in enumerate(field_of):
                spent = sum(one.seconds for one in known)
                if spent >= request.budget and number + before:
                    break
                if number == 1 and not before and spent * len(field_of) > request.budget:
                    field_of = field_of[: len(kinds)]  # the likeliest of each kind stand first
                    few, whole = True, _answers(bench, len(field_of), rungs)
                    listener.told(
                        f"One candidate takes {spent:.0f} s, so only the likeliest one of each kind is tried. Allow more "
                        "time with `budget`."
                    )
                if number >= len(field_of):
                    break
                prompts = bench.asked(before, rung)
                _try(bench, tally, prompts, rung, tried)
                done += len(prompts)
                best = choose(known, request.target_accuracy)
                update(f"leads {best.whole:.0%}: {best.candidate.name};", done, max(whole, done))
    measured = [tally for tally in known if tally.texts]
    best = choose(measured, request.target_accuracy)
    if not best.enough(request.target_accuracy):
        warnings.warn(advice(best, request), MonoglotWarning, stacklevel=2)
    chosen = bench.ask(best.candidate)
    return Pick(
        chosen,
        bench.neurons(best.candidate),
        bench.vocabulary if chosen.redirect or chosen.op == VECTOR else None,
        _record(bench, measured, best, refused, few),
    )


def possible(bench: Bench, kinds: tuple[Kind, ...]) -> tuple[list[Tally], dict[str, str]]:
    """Return the candidates that can be done to the model, and why others can't, by kind. Raises RecipeError."""
    found, refused = list[Tally](), dict[str, str]()
    for candidate in candidates(kinds):
        try:
            found.append(Tally(candidate, bench.carried(candidate).plan.size))
        except (RecipeError, NeuronsError) as error:
            refused[candidate.kind.name] = str(error)
    if not found:
        raise RecipeError(f"nothing that the search knows can be done to this model: {next(iter(refused.values()))}")
    return found, refused


def halved(field_of: Sequence[Tally]) -> list[Tally]:
    """Return the better half, at least FEWEST: by whole answers, then by damage."""
    order = sorted(field_of, key=lambda tally: (-tally.whole, tally.damage))
    return order[: max(FEWEST, -(-len(order) // 2))]


def choose(tallies: Sequence[Tally], target_accuracy: float) -> Tally:
    """Choose by the rule, among those that answered most prompts."""
    most = max(len(tally.texts) for tally in tallies)
    last = [tally for tally in tallies if len(tally.texts) == most]
    enough = [tally for tally in last if tally.enough(target_accuracy)]
    if enough:
        return min(enough, key=lambda tally: tally.damage)
    return max(last, key=lambda tally: (tally.whole, -tally.damage))


def advice(best: Tally, request: Request) -> str:
    """Say how far the best one goes, and what may go further."""
    return (
        f"no candidate gives {request.target_accuracy:.0%} whole answers in {request.activate[0]}; the best gives "
        f"{best.whole:.0%} of {len(best.texts)} answers: {best.candidate.name}. More text, or more languages of it, help; so "
        "may another `op`, `strength` or `rate` of your own."
    )


def _try(bench: Bench, tally: Tally, prompts: Sequence[str], rung: int, tried: Tried) -> None:
    """Let a candidate answer prompts, and measure it on the language's own text where that was not done yet."""
    key = f"{tally.candidate.name} | {rung}"
    row = tried.get(key)
    if row is None:
        base, _ = bench.base, bench.real  # not under hooks, and not in the candidate's time
        began = time.monotonic()
        own = tally.own
        with bench.hooked(bench.carried(tally.candidate)):
            texts = continuations(bench.model, bench.tokenizer, prompts, tokens=TOKENS)
            if own is None:
                after = measure([Variant("tried", bench.model)], bench.own_text).log_loss["tried"][bench.language]
                own = after - base
        row = {"texts": texts, "own": own, "seconds": round(time.monotonic() - began, 3)}
        tried.put(key, row)
    tally.texts = [*tally.texts, *row["texts"]]
    tally.own, tally.seconds = row["own"], tally.seconds + row["seconds"]
    tally.answers = bench.judged(tally.texts)


def _answers(bench: Bench, count: int, rungs: Sequence[int]) -> int:
    """How many answers are given in all, where `count` candidates start."""
    total = 0
    for before, rung in zip((0, *rungs), rungs, strict=False):
        count = max(FEWEST, -(-count // 2)) if before else count
        total += count * len(bench.asked(before, rung))
    return total


def _made_of(bench: Bench) -> list[Any]:
    """Return all that a row depends on."""
    asked = bench.request
    return [
        KIND, bench.language, bench.target.fingerprint, bench.statistics.texts, bench.prompts, TOKENS,
        [asked.carrier, asked.slots, asked.tolerance, asked.above_tolerance], bench.after,
    ]  # fmt: skip


def _record(bench: Bench, measured: Sequence[Tally], best: Tally, refused: Mapping[str, str], few: bool) -> Candidates:
    order = sorted(measured, key=lambda tally: (-len(tally.texts), -tally.whole, tally.damage))
    prompts = bench.asked(0, RUNGS[-1])
    data = {
        "kind": KIND,
        "languages": [bench.language],
        "target_accuracy": bench.request.target_accuracy,
        "reached": best.enough(bench.request.target_accuracy),
        "chosen": order.index(best),
        "rows": [_row(tally) for tally in order],
        "subset": few,
        "refused": dict(refused),
        "prompts": digest(bench.prompts),
        "samples": [
            {"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts[:3], best.texts[:3], strict=False)
        ],
    }
    record: Candidates = schema.read(Candidates, data, KIND)
    return record


def _row(tally: Tally) -> dict[str, Any]:
    """Return what the record says of a candidate; a share stands with the interval that chance leaves."""
    answers, candidate = tally.answers, tally.candidate
    right = answers.whole_of if answers else ()
    return {
        "name": candidate.name, "gain": round(tally.whole, 4), "damage": round(tally.damage, 4),
        "interval": [round(end, 4) for end in interval(right)], "answers": len(tally.texts),
        "accuracy": round(answers.accuracy, 4) if answers else None,
        "perplexity": answers.figures()["perplexity"] if answers else None, "neurons": tally.neurons,
        "kind": candidate.kind.name, "strength": candidate.strength, "rate": candidate.rate,
    }  # fmt: skip


def candidate_of(record: Mapping[str, Any], request: Request, prompts: Prompts) -> Candidate | None:
    """Return the candidate that an earlier search for the same chose, None where it was for something else."""
    asked = (KIND, list(request.activate), request.target_accuracy, digest(prompts))
    if (record["kind"], list(record["languages"]), record.get("target_accuracy"), record.get("prompts")) != asked:
        return None
    for row in record["rows"][record["chosen"] :][:1]:
        for candidate in candidates():
            if (candidate.kind.name, candidate.strength, candidate.rate) == tuple(
                row.get(key) for key in ("kind", "strength", "rate")
            ):
                return candidate
    return None
