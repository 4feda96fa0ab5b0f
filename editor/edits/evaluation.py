"""What was measured of a model or a checkpoint, as a manifest or `evaluation.json` holds it: by measure, in plain data.

A measure's data stays a mapping, which tables and figures show. Here is what each has to have for that; figures may be
missing or no number: they are shown as a dash. What else a measure says is kept as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from ..errors import MalformedError
from ..files import schema
from ..files.schema import Count, Figure, Sha256
from ..text.languages import Code

Row = dict[str, Any]  # name -> figure
Rows = dict[str, Row]
Made = dict[str, Sha256]  # language -> what was measured on: of token ids, or of prompts or texts


class Sample(TypedDict):
    """An answer to a prompt, with the answers by name beside these two keys."""

    language: str
    prompt: str


class _Perplexity(TypedDict):
    base: Row
    change: Rows


class Perplexity(_Perplexity, total=False):
    """Log-loss of text in each language, and its change by language switched off."""

    random: Row | None
    neurons: Row | None
    dominance: Row | None
    sha256: Made


class _DeactivateEach(TypedDict):
    rows: dict[str, dict[str, Row | None]]


class DeactivateEach(_DeactivateEach, total=False):
    """Answers by language switched off and language of the prompt."""

    prompts: Row
    sha256: Made
    samples: tuple[Sample, ...]


class _Answers(TypedDict):
    by_language: dict[str, Rows]


class Answers(_Answers, total=False):
    """Answers by language of the prompt and model."""

    wanted: dict[str, tuple[str, ...]]
    all: Rows
    kind: str
    prompts: Row
    sha256: Made
    samples: tuple[Sample, ...]


class _Profile(TypedDict):
    layers: dict[str, tuple[Count, ...]]


class Profile(_Profile, total=False):
    """Neurons by language and layer."""

    width: Count


class _Overlap(TypedDict):
    neurons: Row
    shared: Rows


class Overlap(_Overlap, total=False):
    """Neurons that two languages share."""

    jaccard: Rows | None


class Similarity(TypedDict, total=False):
    """Curves over layers."""

    mean: tuple[Any, ...]
    unrelated: tuple[Any, ...]
    centred: tuple[Any, ...]
    centred_unrelated: tuple[Any, ...]
    pairs: dict[str, tuple[Any, ...]]
    sha256: Made


class Method(TypedDict, total=False):
    """The neurons that one method finds, and what they do."""

    languages: Row
    perplexity: Row | None


class _Leaks(TypedDict):
    scripts: tuple[str, ...]
    rows: dict[str, Rows]


class Leaks(_Leaks, total=False):
    """Characters of scripts in answers that were drawn, by model and part of the answer."""

    answers: Count
    tokens: Count
    prompts: Row
    samples: tuple[Sample, ...]


class _Effect(TypedDict):
    log_loss: Rows


class Effect(_Effect, total=False):
    """Log-loss of text in each language, by model; `own` are the languages that were edited."""

    tokens: Row
    own: tuple[Code, ...]
    sha256: Made


class _Methods(TypedDict):
    methods: dict[str, Method]


class Methods(_Methods, total=False):
    """Methods beside each other."""

    overlap: dict[str, dict[str, Row]]


MEASURES: dict[str, Any] = {
    "perplexity": Perplexity, "deactivate_each": DeactivateEach, "activated": Answers, "same_language": Answers,
    "asked": Answers, "profile": Profile, "overlap": Overlap, "similarity": Similarity, "methods": Methods,
    "leaks": Leaks, "effect": Effect,
}  # fmt: skip


class Point(TypedDict):
    """What is measured at one strength, with figures beside this key."""

    strength: float


class Answered(TypedDict):
    """A prompt and the checkpoint's answer to it."""

    prompt: str
    answer: str


class _Search(TypedDict):
    language: str
    reached: bool
    base: Row
    points: tuple[Point, ...]
    checkpoint: tuple[Point, ...]
    samples: tuple[Answered, ...]


class Search(_Search, total=False):
    """The search for a strength: the curve under hooks, and what checkpoints did."""

    target_accuracy: float
    chosen: float
    layers: tuple[Count, Count]
    prompts: str


class Candidate(TypedDict):
    """One way that was tried: what it gains, and what it costs, in nats a token; other figures stand beside."""

    name: str
    gain: Figure
    damage: Figure


class _Candidates(TypedDict):
    kind: Literal["off", "on"]
    languages: tuple[Code, ...]
    reached: bool
    chosen: Count
    rows: tuple[Candidate, ...]


class Candidates(_Candidates, total=False):
    """A search among several ways to do the same, by their number; `chosen` is the number of the one that was taken."""

    target_damage: float
    spare: float
    target_accuracy: float
    tokens: Row
    seen: tuple[Code, ...]
    subset: bool
    refused: dict[str, str]
    untried: tuple[str, ...]
    prompts: str
    samples: tuple[Answered, ...]


class _Run(TypedDict):
    verdict: str


class Run(_Run, total=False):
    """What one runtime made of the checkpoint."""

    version: str | None
    prompts: Count
    told_apart: Count
    to_steered: Row
    to_base: Row


@dataclass(frozen=True)
class Evaluation:
    """What was measured, by measure, in the order in which it was."""

    measures: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of_data(cls, data: Any, place: str = "evaluation") -> "Evaluation":
        """Read what a file holds. Raises MalformedError for an unknown measure, and for one that lacks something."""
        found = schema.mapping(data, place)
        for name, measured in found.items():
            if name not in MEASURES:
                raise MalformedError(f"{place} has the unknown measure {name!r}; known: {', '.join(MEASURES)}")
            schema.read(MEASURES[name], measured, f"{place}.{name}")
        return cls(found)

    def to_data(self) -> dict[str, Any]:
        """Give what a file holds."""
        return {name: dict(measured) for name, measured in self.measures.items()}

    def adding(self, found: Mapping[str, Mapping[str, Any]]) -> "Evaluation":
        """Add measures, or put them in the place of those of the same name."""
        return Evaluation({**self.measures, **found})
