"""How to switch languages off: tries sets of neurons, the mildest first, and says what each does to text in every language.

A way to switch off is a set of neurons and what becomes of them:

    rate      the share of all neurons that LAPE takes
    shared    a neuron that a kept language owns too is kept, or edited like the others
    factor    what they write is multiplied with it: 0 switches it off, below 0 turns it round

A language's own neurons are hardly active on other text, so what is done to them harms little else: that is why they are
turned round before others are touched. KINDS go from the paper's way on; in each the rate grows until a kept language loses
more than `spare` nats a token, or there are no more neurons. The search ends with the first set at which every language to
switch off has lost `target_damage`. Where none does that, the best is the one that damages them most while the others are
spared.

The text that this is measured on is neither what the neurons were found on, as far as there is more, nor what the proof
measures: that is of held-out documents.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..edits.evaluation import Candidates
from ..edits.hooks import steered
from ..edits.plan import Plan, plan
from ..edits.request import Request
from ..errors import MonoglotWarning, NeuronsError, RecipeError
from ..files import schema
from ..live.layered import Layered, open_layered
from ..live.load import load_model
from ..live.log_loss import measure
from ..live.logits import Variant
from ..live.modules import activation_modules
from ..live.streaming import AUTO, Streaming
from ..models.target import Target
from ..neurons.find import find
from ..neurons.neurons import Neurons
from ..progress import NOBODY, Listener
from ..statistics.statistics import Statistics
from ..text.corpus import Text
from ..text.tokens import Packed, read_texts
from .tried import FILE, Tried

RATES = (0.01, 0.03, 0.05, 0.1, 0.3)
KINDS = (("keep", 0.0), ("edit", 0.0), ("keep", -1.0), ("keep", -2.0))
TOKENS, CONTEXT = 512, 256  # of text in a language that the search reads
KIND = "off"


@dataclass(frozen=True)
class Way:
    """One way to switch languages off."""

    rate: float
    shared: str
    factor: float

    @property
    def name(self) -> str:
        """The way in words."""
        shared = "without those that other languages share" if self.shared == "keep" else "shared ones too"
        done = "switched off" if not self.factor else f"scaled × {self.factor:g}"
        return f"{self.rate:.0%} of the neurons, {shared}, {done}"

    def request(self, request: Request) -> Request:
        """Return what was requested, done this way."""
        if not self.factor:
            return replace(request, shared=self.shared)
        factors = tuple((language, self.factor) for language in request.deactivate)
        return replace(request, deactivate=(), scale=factors, shared=self.shared)


@dataclass(frozen=True)
class Row:
    """What one way does: the change of log-loss on text in each language, in nats a token."""

    way: Way
    neurons: int
    change: Mapping[str, float]

    def own(self, off: Sequence[str]) -> float:
        """Return what the languages to switch off lose, the least of them."""
        return min(self.change[language] for language in off)

    def cost(self, off: Sequence[str]) -> float:
        """Return what a kept language loses, the most of them."""
        return max((change for language, change in self.change.items() if language not in off), default=0.0)

    def spares(self, request: Request) -> bool:
        """Whether no kept language loses too much."""
        return self.cost(request.deactivate) <= request.spare

    def reaches(self, request: Request) -> bool:
        """Whether the languages are off, and no kept one loses too much."""
        return self.own(request.deactivate) >= request.target_damage and self.spares(request)


@dataclass(frozen=True)
class Choice:
    """The way that was chosen, its neurons, and the record of the search."""

    way: Way
    neurons: Neurons
    record: Candidates


@dataclass
class _Bench:
    """The model that the ways are tried on. It is loaded when the first is, or read layer by layer for each."""

    target: Target
    texts: Mapping[str, Packed]
    device: str
    dtype: str
    streaming: Streaming

    @cached_property
    def layered(self) -> list[Layered]:
        """The model as it runs layer by layer, if it does."""
        folder = self.target.source.folder
        if not self.streaming.chosen(folder, device=self.device, dtype=self.dtype):
            return []
        return [open_layered(folder, device=self.device, dtype=self.dtype)]

    @cached_property
    def model(self) -> Any:
        if self.layered:
            return self.layered[0].skeleton.model
        return load_model(self.target.source.folder, device=self.device, dtype=self.dtype)

    @cached_property
    def modules(self) -> list[Any]:
        return activation_modules(self.model, self.target.feed_forward.family)

    @cached_property
    def base(self) -> dict[str, float]:
        return self._log_loss(Variant("base", self.model))

    def _log_loss(self, variant: Variant) -> dict[str, float]:
        measured = measure([variant], self.texts, layered=self.layered, streaming=self.streaming)
        return measured.log_loss[variant.name]

    def change(self, made: Plan) -> dict[str, float]:
        after = self._log_loss(Variant("off", self.model, partial(steered, self.modules, made)))
        return {language: round(after[language] - self.base[language], 4) for language in self.texts}


def ways() -> Iterator[tuple[Way, ...]]:
    """Yield the ways, those of one kind together, from the smallest set to the largest."""
    for shared, factor in KINDS:
        yield tuple(Way(rate, shared, factor) for rate in RATES)


def search_off(
    target: Target,
    statistics: Statistics,
    texts: Mapping[str, Text],
    request: Request,
    work: Path,
    *,
    after: int,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    listener: Listener = NOBODY,
) -> Choice:
    """Find the mildest way to switch off the languages that `request` deactivates.

    Layer by layer, where `streaming` says so, the model is read once for each set that is tried. It goes over text `after` so
    many tokens of each language, and keeps what it has tried in the folder `work`. Warns (MonoglotWarning) where no way is
    enough. Raises NeuronsError when no way has neurons for the languages.
    """
    packed, seen = unseen(target, texts, after)
    bench, rows = _Bench(target, packed, device, dtype, streaming), list[Row]()
    hashes = {language: (*statistics.texts[language], one.sha256) for language, one in packed.items()}
    tried = Tried(
        work / FILE,
        [KIND, target.fingerprint, statistics.model.fingerprint, statistics.settings, hashes, request.deactivate],
    )
    neurons: dict[float, Neurons] = {}
    ffn = target.feed_forward
    with listener.stage("off", "sets") as update:
        for series in ways():
            before = 0  # neurons
            for way in series:
                if way.rate not in neurons:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", MonoglotWarning)  # of a language without neurons at some rate
                        neurons[way.rate] = find(statistics, rate=way.rate)
                recipe = way.request(request).recipe(target, neurons[way.rate].languages)
                try:
                    made = plan(recipe, neurons[way.rate], layers=ffn.layers, width=ffn.width, blocks=ffn.blocks)
                except RecipeError:  # nothing to edit: all are shared, or there are none
                    continue
                if made.size == before:
                    continue
                before = made.size
                change = tried.get(way.name)
                if change is None:
                    change = bench.change(made)
                    tried.put(way.name, change)
                rows.append(Row(way, made.size, change))
                best = choose(rows, request)
                leader = f"leads {best.own(request.deactivate):+.2f}: {best.way.name};"
                update(leader, len(rows), len(KINDS) * len(RATES))
                if best.reaches(request) or not rows[-1].spares(request):
                    break
            if rows and choose(rows, request).reaches(request):
                break
    if not rows:
        raise NeuronsError(
            f"there are no neurons of {', '.join(request.deactivate)} to switch off, at any rate that is tried. Read more "
            "text, or set `rate`."
        )
    best = choose(rows, request)
    if not best.reaches(request):
        warnings.warn(advice(best, request, list(texts)), MonoglotWarning, stacklevel=2)
    return Choice(best.way, neurons[best.way.rate], _record(rows, best, request, packed, seen))


def choose(rows: Sequence[Row], request: Request) -> Row:
    """Return the way that is enough and costs the kept languages least; else the one that does most while they are spared.

    Where none spares them, the one that costs least.
    """
    off = request.deactivate
    enough = [row for row in rows if row.reaches(request)]
    if enough:
        return min(enough, key=lambda row: row.cost(off))
    mild = [row for row in rows if row.spares(request)]
    return max(mild, key=lambda row: row.own(off)) if mild else min(rows, key=lambda row: row.cost(off))


def advice(best: Row, request: Request, languages: Sequence[str]) -> str:
    """Say how far the best way goes, and what would go further."""
    off = request.deactivate
    named = ", ".join(off)
    to = next((code for code in ("en", *languages) if code in languages and code not in off), "en")
    pairs = ",".join(f"{language}={to}" for language in off)
    return (
        f"{named} is not off: the best set of neurons raises its log-loss by {best.own(off):.2f} nats, not by "
        f"{request.target_damage:g}; a larger one would cost another language more than {request.spare:g} (this one costs "
        f"{max(0.0, best.cost(off)):.2f}). What would do it: redirect it, `redirect` {pairs}. Or allow more with `spare`."
    )


def unseen(
    target: Target, texts: Mapping[str, Text], after: int, *, tokens: int = TOKENS
) -> tuple[dict[str, Packed], tuple[str, ...]]:
    """Return text that a search reads, and the languages in which neurons were found on it too.

    It comes `after` so many tokens, those that neurons are found on, or is these where there is no more.
    """
    found = read_texts(target, texts, tokens=tokens, context=CONTEXT, after=after)
    short = {language: text for language, text in texts.items() if found[language].tokens < tokens // 2}
    return {**found, **(read_texts(target, short, tokens=tokens, context=CONTEXT) if short else {})}, tuple(short)


def _record(
    rows: Sequence[Row], best: Row, request: Request, texts: Mapping[str, Packed], seen: Sequence[str]
) -> Candidates:
    data = {
        "kind": KIND,
        "languages": list(request.deactivate),
        "target_damage": request.target_damage,
        "spare": request.spare,
        "tokens": {language: one.tokens for language, one in texts.items()},
        "seen": list(seen),
        "reached": best.reaches(request),
        "chosen": list(rows).index(best),
        "rows": [
            {
                "name": row.way.name,
                "rate": row.way.rate,
                "shared": row.way.shared,
                "factor": row.way.factor,
                "neurons": row.neurons,
                "change": dict(row.change),
                "gain": row.own(request.deactivate),
                "damage": row.cost(request.deactivate),
            }
            for row in rows
        ],
    }
    record: Candidates = schema.read(Candidates, data, KIND)
    return record


def way_of(record: Mapping[str, Any], request: Request) -> Way | None:
    """Return the way that an earlier search for the same chose, None where it was for something else."""
    asked = (KIND, list(request.deactivate), request.target_damage, request.spare)
    if (record["kind"], list(record["languages"]), record.get("target_damage"), record.get("spare")) != asked:
        return None
    for row in record["rows"][record["chosen"] :][:1]:
        if {"rate", "shared", "factor"} <= set(row):
            return Way(row["rate"], row["shared"], row["factor"])
    return None
