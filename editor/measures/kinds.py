"""The kinds of edits that a search for a language to answer in tries: a table, so that another kind is a row.

neurons      a constant is added to the language's neurons, those of the others are held at what they are on its text
redirect     the tokens of all other languages are moved to its own
vector       the language's vector is added to every token, at the embedding or after a layer
quieter      the tokens are moved, and digits, signs, mark-up and spaces are made less likely (see `token_sets`)
both         the tokens are moved, and a constant is added, a smaller one
pushed       the tokens are moved, and the vector is added at the embedding, a smaller one
readers      in a layer, one neuron for each other language, fitted to fire on it, moves what it says to the language
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from ..edits.recipe import EMBEDDING, REDIRECT_STRENGTH, VECTOR
from ..edits.request import OTHERS, Request
from ..text.token_sets import SETS

Ask = Callable[[Request, float, int], Request]  # what was requested, strength, number of layers


@dataclass(frozen=True)
class Kind:
    """One kind: how it is called and asked for, and at which strengths and rates of neurons, the likeliest ones first.

    A rate is the share of all neurons that are found; without any, no neurons are edited.
    """

    name: str
    words: str
    ask: Ask
    strengths: tuple[float, ...]
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A kind at one strength, with the neurons of one rate."""

    kind: Kind
    strength: float
    rate: float | None

    @property
    def name(self) -> str:
        """The candidate in words."""
        of = f" of {self.rate:.0%} of the neurons" if self.rate else ""
        return f"{self.kind.words.format(strength=f'{self.strength:g}', of=of)}"

    def request(self, request: Request, layers: int) -> Request:
        """Return what was requested of a model with so many layers, done this way."""
        return self.kind.ask(replace(request, choose=False), self.strength, layers)


def _neurons(request: Request, strength: float, layers: int) -> Request:
    return replace(request, hold=(OTHERS,), strength=strength)


def _redirect(request: Request, strength: float, layers: int) -> Request:
    return replace(request, activate=(), redirect=((OTHERS, request.activate[0]),), strength=strength)


def _quieter(request: Request, strength: float, layers: int) -> Request:
    less = ((name, strength) for name in SETS)
    return replace(_redirect(request, REDIRECT_STRENGTH, layers), quieten=(*request.quieten, *less))


def _both(request: Request, strength: float, layers: int) -> Request:
    return replace(request, redirect=((OTHERS, request.activate[0]),), strength=strength)


def _vector(request: Request, strength: float, layers: int) -> Request:
    return replace(request, op=VECTOR, point=EMBEDDING, strength=strength)


def _pushed(request: Request, strength: float, layers: int) -> Request:
    return replace(_vector(request, strength, layers), redirect=((OTHERS, request.activate[0]),))


def _vector_inside(share: Fraction) -> Ask:
    def ask(request: Request, strength: float, layers: int) -> Request:
        return replace(request, op=VECTOR, point=int(layers * share), strength=strength)

    return ask


def _readers(share: Fraction) -> Ask:
    def ask(request: Request, strength: float, layers: int) -> Request:
        return replace(_redirect(request, strength, layers), point=int(layers * share))

    return ask


SIXTH, THIRD, HALF, TWO_THIRDS = Fraction(1, 6), Fraction(1, 3), Fraction(1, 2), Fraction(2, 3)  # of the depth
READ_AT = {"⅙": SIXTH, "⅓": THIRD, "½": HALF}
INSIDE = "its vector × {{strength}} added after the layer at {} of the depth"
KINDS = (
    Kind("redirect", "tokens of the others redirected × {strength}", _redirect, (1.5, 1.0, 2.0)),
    Kind("neurons", "{strength} × the mean added{of}, the others held", _neurons, (0.5, 0.25, 1.0), (0.05, 0.02)),
    Kind(
        "both", f"tokens redirected × {REDIRECT_STRENGTH:g}, and {{strength}} × the mean added{{of}}", _both,
        (0.25, 0.5), (0.02,),
    ),
    Kind("vector", "its vector × {strength} added at the embedding", _vector, (1.5, 2.0)),
    Kind(
        "redirect, quieter",
        f"tokens redirected × {REDIRECT_STRENGTH:g}, digits, signs, mark-up and spaces {{strength}} nats less likely",
        _quieter, (2.0, 3.0),
    ),
    Kind("vector inside", INSIDE.format("½"), _vector_inside(HALF), (2.0,)),
    Kind(
        "redirect and vector", f"tokens redirected × {REDIRECT_STRENGTH:g}, and its vector × {{strength}} at the embedding",
        _pushed, (0.5,),
    ),
    Kind("vector inside, ⅓", INSIDE.format("⅓"), _vector_inside(THIRD), (2.0,)),
    Kind("vector inside, ⅔", INSIDE.format("⅔"), _vector_inside(TWO_THIRDS), (2.0,)),
    *(
        Kind(
            f"readers, {words}", f"the others redirected × {{strength}} by readers at {words} of the depth",
            _readers(share), (1.5,),
        )
        for words, share in READ_AT.items()
    ),
)  # fmt: skip


def read_at(layers: int) -> list[int]:
    """Name the layers that a search tries readers at, of a model with so many."""
    return sorted({int(layers * share) for share in READ_AT.values()})


def candidates(kinds: tuple[Kind, ...] = KINDS, *, few: bool = False) -> Iterator[Candidate]:
    """Yield the candidates, the likeliest of each kind first; `few` are these alone."""
    whole = [
        [Candidate(kind, strength, rate) for rate in kind.rates or (None,) for strength in kind.strengths]
        for kind in kinds
    ]
    yield from (own[0] for own in whole)
    if not few:
        yield from (one for own in whole for one in own[1:])
