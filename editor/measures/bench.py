"""What candidates are tried on: the base, loaded once, what candidates are made of, and what they are asked.

Every candidate is hung on the same model as hooks, and taken off again. Where no dtype is asked for, the model runs in the
one that is fastest here.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..edits.applied import applied
from ..edits.calibration import Calibration
from ..edits.carriers import Carried, carried
from ..edits.recipe import Recipe
from ..edits.request import Request
from ..edits.silence import Silence
from ..edits.silencing import prepare
from ..edits.token_hooks import silenced
from ..errors import MonoglotWarning
from ..live.fast import fastest
from ..live.load import load_model
from ..live.log_loss import measure
from ..live.logits import Variant
from ..live.modules import activation_modules
from ..models.hf import load_tokenizer
from ..models.target import Target
from ..neurons import neurons as neurons_file
from ..neurons.find import find
from ..neurons.neurons import Neurons
from ..progress import NOBODY, Listener
from ..statistics.statistics import Statistics
from ..statistics.vocabulary import Vocabulary
from ..text.corpus import Text
from ..text.prompts import Prompts, passages, technical_prompts
from .answers import Answers, judged
from .kinds import Candidate
from .off import unseen
from .quality import Quality, quality
from .search import prompts_of

TOKENS = 24  # an answer
OWN_TOKENS = 256  # of the language's own text
REAL = 8  # texts
OF_A_KIND = 12  # prompts in each language


@dataclass
class Bench:
    """The base, what candidates are made of, and what they are asked.

    `vocabulary` is None where the model's tokens cannot be moved, `calibration` where constants need none; `silence` is that
    of scripts which no candidate is to write.
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
    silence: Silence | None = None
    listener: Listener = NOBODY
    sets: dict[float, Neurons] = field(default_factory=dict)
    quiet: dict[tuple[str, ...], Silence] = field(default_factory=dict)

    @property
    def language(self) -> str:
        return self.request.activate[0]

    @cached_property
    def runs_in(self) -> str:
        """The dtype that the model runs in: the one that answers come fastest in."""
        return fastest(self.target.source.folder, self.device, self.dtype)

    @cached_property
    def model(self) -> Any:
        return load_model(self.target.source.folder, device=self.device, dtype=self.runs_in)

    @cached_property
    def modules(self) -> list[Any]:
        return activation_modules(self.model, self.target.feed_forward.family)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.target.source.folder)

    @cached_property
    def real(self) -> Quality:
        return quality(self.model, self.tokenizer, passages(self.language)[:REAL], tokens=TOKENS)

    @cached_property
    def own_text(self) -> Any:
        packed, _ = unseen(self.target, {self.language: self.texts[self.language]}, self.after, tokens=OWN_TOKENS)
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
        strength = None if request.strength is None else float(request.strength)
        recipe = request.recipe(self.target, neurons.languages, strength, counted=counted)
        silence = self.silence_of(request)
        return carried(self.target, recipe, neurons, self.calibration, self.vocabulary, silence)

    def silence_of(self, request: Request) -> Silence | None:
        """Return the tokens that a request makes less likely or silences, and how; made once for the same scripts and sets.

        Raises what `prepare` raises.
        """
        scripts = request.scripts()
        names = tuple(edit.script for edit in scripts)
        if not names or (self.silence and self.silence.scripts == names):
            return self.silence
        if names not in self.quiet:
            recipe = Recipe(self.target.base, (), scripts=scripts, except_chars=request.spared)
            self.quiet[names] = prepare(
                self.target, self.texts, recipe, lose=request.lose, device=self.device, dtype=self.dtype,
                listener=self.listener,
            )  # fmt: skip
        return self.quiet[names]

    @contextmanager
    def hooked(self, what: Carried) -> Iterator[None]:
        """Put it on the base, exactly as it is asked for."""
        tokens = what.tokens
        moved = tokens.asked or tokens.redirection if tokens else None
        one_table = tokens is not None and tokens.one_table and tokens.asked is None
        head = self.model.get_output_embeddings() if one_table else None
        with ExitStack() as stack:
            if silent := what.silenced:
                stack.enter_context(silenced(self.model, silent.silence, silent.scripts, tied=silent.tied))
            stack.enter_context(
                applied(self.model, self.target, self.modules, what.plan, moved, head=head, vectors=what.vectors)
            )
            yield

    def asked(self, first: int, last: int) -> list[str]:
        """Return the prompts number `first` to `last` of each other language."""
        others = [own for code, own in self.prompts.items() if code != self.language]
        return [prompt for at in range(first, last) for own in others for prompt in own[at : at + 1]]

    def judged(self, texts: Sequence[str], real: float | None) -> Answers:
        """Judge answers, `real` being the perplexity of real text."""
        return judged(self.model, self.tokenizer, texts, [self.language], real)


def both_kinds(request: Request) -> Prompts:
    """Give what candidates are asked, by language: technical and everyday beginnings in turns, or a person's own prompts.

    Technical ones invite lists, code and digits, which a model that is steered falls into.
    """
    everyday = prompts_of(request, OF_A_KIND)
    if request.prompts:
        return everyday
    technical = technical_prompts()
    return {
        language: [one for both in zip(technical[language], own, strict=True) for one in both]
        for language, own in everyday.items()
    }
