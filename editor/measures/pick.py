"""How to make a model answer in a language: tries every kind of edit, and goes on with those that do best.

It is successive halving. Each candidate (see `kinds`) is put on the base as hooks and answers one prompt in each other
language, the likeliest one of each kind first; the better half answers more of them, or as many as there is time for; and so
on, as RUNGS say. The first round takes FIRST of the budget of time at most, so that the best are asked more. Of each
candidate are measured

    whole     the share of its answers that are in the language and neither word salad nor loops
    damage    the rise of log-loss on the language's own text, in nats a token

The rule: of those that answered most prompts, the one with the most whole answers leads. Those that chance cannot tell from
it are as good: their interval (see `interval`) overlaps the leader's and, where the leader has enough whole answers
(`target_accuracy`), reaches so far too. Of these the one with the most whole answers for its damage is taken, a hundredth of
all answers weighing as much as a hundredth of a nat; of equals the one that stands first in `kinds`, the simplest. Half-way
the order is by whole answers first, then by damage, and the one that the rule would take goes on too.

What was tried is kept, so that an interrupted search goes on where it was. Prompts and text are others than those that
`evaluate` and the proof measure with.
"""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..edits.evaluation import Candidates
from ..edits.recipe import VECTOR
from ..edits.request import Request
from ..edits.silence import Silence, serialise
from ..errors import CorpusError, ModelError, MonoglotWarning, NeuronsError, RecipeError, StatisticsError
from ..files import schema
from ..live.generate import continuations
from ..live.log_loss import measure
from ..live.logits import Variant
from ..neurons.neurons import Neurons
from ..progress import NOBODY, Listener
from ..statistics.vocabulary import Vocabulary
from ..text.prompts import Prompts, digest
from .bench import TOKENS, Bench
from .interval import Interval, interval
from .kinds import KINDS, Candidate, Kind, candidates
from .quality import token_ids
from .tried import FILE, Tried

RUNGS = (1, 3, 8, 24)  # prompts in each language that were answered at the end of each round
FIRST = 2 / 3  # of the budget
FEWEST = 2  # candidates of each round
KIND = "on"


@dataclass
class Tally:
    """What is known of a candidate so far.

    `own` is the rise of log-loss on the language's own text; `right_of` and `whole_of` say of each answer whether it is in
    the language, and whole besides; `nats` are the base's log-loss on the answers, of `tokens` tokens, None where it is no
    number.
    """

    candidate: Candidate
    neurons: int
    own: float | None = None
    texts: list[str] = field(default_factory=list)
    right_of: list[bool] = field(default_factory=list)
    whole_of: list[bool] = field(default_factory=list)
    nats: float | None = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def whole(self) -> float:
        return sum(self.whole_of) / max(1, len(self.whole_of))

    @property
    def accuracy(self) -> float:
        return sum(self.right_of) / max(1, len(self.right_of))

    @property
    def perplexity(self) -> float | None:
        """That of a token of the answers."""
        return math.exp(self.nats / self.tokens) if self.nats is not None and self.tokens else None

    @property
    def interval(self) -> Interval:
        """The ends between which the share of whole answers lies, as far as chance goes."""
        return interval(self.whole_of)

    @property
    def damage(self) -> float:
        return float("inf") if self.own is None else self.own

    def enough(self, target_accuracy: float) -> bool:
        return self.whole >= target_accuracy

    def take(self, row: Mapping[str, Any]) -> None:
        """Add what the candidate did in a round."""
        self.texts = [*self.texts, *row["texts"]]
        self.right_of, self.whole_of = [*self.right_of, *row["right"]], [*self.whole_of, *row["whole"]]
        self.nats = None if self.nats is None or row["nats"] is None else self.nats + row["nats"]
        self.own, self.tokens, self.seconds = row["own"], self.tokens + row["tokens"], self.seconds + row["seconds"]


@dataclass(frozen=True)
class Pick:
    """What was chosen: the request, what it is made of, and the record of the search."""

    request: Request
    neurons: Neurons
    vocabulary: Vocabulary | None
    silence: Silence | None
    record: Candidates


def search_on(bench: Bench, work: Path, *, kinds: tuple[Kind, ...] = KINDS, listener: Listener = NOBODY) -> Pick:
    """Find the candidate that does what `bench.request` asks for, by the rule.

    What was tried is kept in the folder `work`. Warns (MonoglotWarning) where none gives enough whole answers. Raises
    RecipeError where no kind can be done to the model.
    """
    request, tried = bench.request, _taken_up(bench, work / FILE)
    known, refused = possible(bench, kinds)
    field_of, few = known, False
    likeliest = len({tally.candidate.kind.name for tally in known})  # they stand first
    rungs = [rung for rung in RUNGS if rung == RUNGS[0] or bench.asked(rung - 1, rung)]
    with listener.stage("search", "answers") as update:
        done, whole = 0, _answers(bench, len(known), rungs)
        for before, rung in zip((0, *rungs), rungs, strict=False):
            prompts = bench.asked(before, rung)
            if before:
                left = request.budget - sum(one.seconds for one in known)
                field_of = going_on([one for one in field_of if one.texts], len(prompts), left, request.target_accuracy)
            for number, tally in enumerate(field_of):
                if not before and number:
                    spent = sum(one.seconds for one in known)
                    if spent >= request.budget * FIRST:
                        break
                    if number == 1 and spent * len(field_of) > request.budget:
                        few, whole = True, _answers(bench, likeliest, rungs)
                        listener.told(
                            f"One candidate takes {spent:.0f} s, so only the likeliest one of each kind is tried. Allow more "
                            "time with `budget`."
                        )
                    if few and number >= likeliest:
                        break
                _try(bench, tally, prompts, rung, tried)
                done += len(prompts)
                best = choose(known, request.target_accuracy)
                update(f"leads {best.whole:.0%}: {best.candidate.name};", done, max(whole, done))
    measured = [tally for tally in known if tally.texts]
    best = choose(measured, request.target_accuracy)
    if not leader(measured).enough(request.target_accuracy):
        warnings.warn(advice(leader(measured), request), MonoglotWarning, stacklevel=2)
    chosen = bench.ask(best.candidate)
    return Pick(
        chosen,
        bench.neurons(best.candidate),
        bench.vocabulary if chosen.redirect or chosen.op == VECTOR else None,
        bench.silence_of(chosen),
        _record(bench, known, best, refused, few),
    )


def possible(bench: Bench, kinds: tuple[Kind, ...]) -> tuple[list[Tally], dict[str, str]]:
    """Return the candidates that can be done to the model, and why others can't, by kind. Raises RecipeError."""
    found, refused = list[Tally](), dict[str, str]()
    for candidate in candidates(kinds):
        if candidate.rate is None and candidate.kind.name in refused:
            continue  # at another strength it would be refused again, after the same work
        try:
            found.append(Tally(candidate, bench.carried(candidate).plan.size))
        except (RecipeError, NeuronsError, ModelError, StatisticsError, CorpusError) as error:
            refused[candidate.kind.name] = str(error)
    if not found:
        raise RecipeError(f"nothing that the search knows can be done to this model: {next(iter(refused.values()))}")
    return found, refused


def going_on(field_of: Sequence[Tally], prompts: int, left: float, target_accuracy: float) -> list[Tally]:
    """Return who answers so many more prompts in the seconds that are left; nobody where FEWEST can't.

    It is the better half, by whole answers, then by damage, or as many as there is time for; the one that the rule would take
    is among them.
    """
    answer = sum(tally.seconds for tally in field_of) / max(1, sum(len(tally.texts) for tally in field_of))
    half = max(FEWEST, -(-len(field_of) // 2))
    count = half if answer * prompts * half <= left else int(left / (answer * prompts))
    if min(count, len(field_of)) < FEWEST:
        return []
    order = sorted(field_of, key=lambda tally: (-tally.whole, tally.damage))[:count]
    taken = choose(field_of, target_accuracy)
    return order if taken in order else [*order[:-1], taken]


def leader(tallies: Sequence[Tally]) -> Tally:
    """Return the one with the most whole answers, of those that answered most prompts; of equals the milder one."""
    most = max(len(tally.texts) for tally in tallies)
    return max((tally for tally in tallies if len(tally.texts) == most), key=lambda tally: (tally.whole, -tally.damage))


def choose(tallies: Sequence[Tally], target_accuracy: float) -> Tally:
    """Choose by the rule: of those that chance cannot tell from the leader the one with the most for its damage."""
    best = leader(tallies)
    low = max(best.interval[0], target_accuracy if best.enough(target_accuracy) else 0.0)
    last = (tally for tally in tallies if len(tally.texts) == len(best.texts))
    as_good = (tally for tally in last if tally.interval[1] >= low)
    return max(as_good, key=lambda tally: tally.whole - tally.damage)


def advice(best: Tally, request: Request) -> str:
    """Say how far the one with the most whole answers goes, and what may go further."""
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
        base, real = bench.base, bench.real  # not under hooks, and not in the candidate's time
        began = time.monotonic()
        own = tally.own
        with bench.hooked(bench.carried(tally.candidate)):
            texts = continuations(bench.model, bench.tokenizer, prompts, tokens=TOKENS)
            if own is None:
                after = measure([Variant("tried", bench.model)], bench.own_text).log_loss["tried"][bench.language]
                own = after - base
        row = {"own": own, "texts": texts, **_judged(bench, texts, real.perplexity)}
        row["seconds"] = round(time.monotonic() - began, 3)
        tried.put(key, row)
    tally.take(row)


def _judged(bench: Bench, texts: Sequence[str], real: float | None) -> dict[str, Any]:
    """Judge the answers of a round by themselves, so that none is judged twice."""
    answers = bench.judged(texts, real)
    head = 0 if bench.tokenizer.bos_token_id is None else 1
    tokens = sum(max(0, head + len(row) - 1) for row in token_ids(bench.tokenizer, texts))
    perplexity = answers.quality.perplexity
    nats = None if tokens and perplexity is None else tokens * math.log(perplexity or 1)
    return {"right": list(answers.right_of), "whole": list(answers.whole_of), "nats": nats, "tokens": tokens}


def _answers(bench: Bench, count: int, rungs: Sequence[int]) -> int:
    """How many answers are given in all, where `count` candidates start."""
    total = 0
    for before, rung in zip((0, *rungs), rungs, strict=False):
        count = max(FEWEST, -(-count // 2)) if before else count
        total += count * len(bench.asked(before, rung))
    return total


def _taken_up(bench: Bench, path: Path) -> Tried:
    """Open what was tried; where a dtype was not asked for, in the one that was the faster one then, if not now."""
    found = Tried(path, _made_of(bench, bench.runs_in))
    for dtype in ("bfloat16", "float32") if bench.dtype == "auto" and not found.rows else ():
        if (before := Tried(path, _made_of(bench, dtype))).rows:
            bench.runs_in = dtype
            return before
    return found


def _made_of(bench: Bench, runs_in: str) -> list[Any]:
    """Return all that a row depends on."""
    asked = bench.request
    return [
        KIND, bench.language, bench.target.fingerprint, bench.statistics.model.fingerprint, bench.statistics.texts,
        bench.prompts, TOKENS,
        [asked.carrier, asked.slots, asked.tolerance, asked.above_tolerance], bench.after, runs_in,
        asked.quieten, bench.silence and serialise(bench.silence).hex(),
    ]  # fmt: skip


def _record(bench: Bench, known: Sequence[Tally], best: Tally, refused: Mapping[str, str], few: bool) -> Candidates:
    measured = [tally for tally in known if tally.texts]
    order = sorted(measured, key=lambda tally: (-len(tally.texts), -tally.whole, tally.damage))
    prompts = bench.asked(0, RUNGS[-1])
    data = {
        "kind": KIND,
        "languages": [bench.language],
        "target_accuracy": bench.request.target_accuracy,
        "reached": leader(measured).enough(bench.request.target_accuracy),
        "chosen": order.index(best),
        "rows": [_row(tally) for tally in order],
        "subset": few,
        "untried": [tally.candidate.name for tally in known if not tally.texts],
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
    candidate, perplexity = tally.candidate, tally.perplexity
    return {
        "name": candidate.name, "gain": round(tally.whole, 4), "damage": round(tally.damage, 4),
        "interval": [round(end, 4) for end in tally.interval], "answers": len(tally.texts),
        "accuracy": round(tally.accuracy, 4), "perplexity": perplexity and float(f"{perplexity:.4g}"),
        "neurons": tally.neurons, "kind": candidate.kind.name, "strength": candidate.strength, "rate": candidate.rate,
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
