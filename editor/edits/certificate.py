"""The certificate: what `verify` measured of a checkpoint, as it stands in the manifest.

    {"bytes": {passed, edited_tensors, changed_columns, identical_tensors, problems},
     "logits": {passed, bound, problems, by_language: {"en": {positions, max_logit, largest_logit, kl, same_top}}},
     "approximation": {by_language, log_loss_exact, activation: {all, worst_layer, first_token}},
     "effect": {tokens, log_loss: {"base": {"en": 3.1}, "this model": …, "random neurons": …}},
     "cut": {left_out: {"zh": 3}, by_language: {…}, log_loss: {"en": 3.1}}}

`logits` and `effect` are there once a model was run, `approximation` where a direction stands in for the constant 1, or one
table for two, `cut` where an adapter left out neurons for its rank.
"""

from dataclasses import dataclass, replace
from typing import Any

from ..files import schema
from ..files.schema import Count, Figure
from ..text.languages import Code


@dataclass(frozen=True)
class BytesProof:
    """The comparison with the base byte by byte."""

    passed: bool
    edited_tensors: Count
    changed_columns: Count
    identical_tensors: Count
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """The agreement of two models' logits on text in one language.

    It has the number of positions, the largest difference of a logit, the largest logit, the mean KL in nats, and the
    share of positions with the same top token.
    """

    positions: Count
    max_logit: Figure
    largest_logit: Figure
    kl: Figure
    same_top: Figure


@dataclass(frozen=True)
class Unwritten:
    """Silenced tokens on text in one language.

    The largest difference of their logits from the hooked base's, the logarithm of the highest probability that all of them
    together had at a position, and how many tokens of the text are such ones.
    """

    max_logit: Figure
    highest: Figure
    tokens: Count


@dataclass(frozen=True)
class LogitsProof:
    """The comparison with the base under hooks.

    `bound` is the largest difference that rounding explains, as a share of the largest logit. `silenced` is there where
    tokens are.
    """

    passed: bool
    bound: Figure
    problems: tuple[str, ...]
    by_language: dict[Code, Agreement]
    silenced: dict[Code, Unwritten] | None = None


@dataclass(frozen=True)
class Deviation:
    """How far activations are from the constant that they should be, relatively."""

    all: Figure
    worst_layer: Figure
    first_token: Figure


@dataclass(frozen=True)
class Approximation:
    """The distance of a checkpoint from the base with the exact constants and a second table.

    `activation` is there where constants are calibrated.
    """

    by_language: dict[Code, Agreement]
    log_loss_exact: dict[Code, Figure]
    activation: Deviation | None


@dataclass(frozen=True)
class Effect:
    """Log-loss in nats by model and language, on held-out text of so many tokens."""

    tokens: dict[Code, Count]
    log_loss: dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Cut:
    """What an adapter lost to a highest rank.

    It has how many neurons of each language were left out, how the base with the adapter agrees with the base under hooks on
    all neurons, and the log-loss of the latter.
    """

    left_out: dict[Code, Count]
    by_language: dict[Code, Agreement]
    log_loss: dict[Code, Figure]


@dataclass(frozen=True)
class Certificate:
    """All that was proved of a checkpoint; None is what was not looked at."""

    bytes: BytesProof
    logits: LogitsProof | None = None
    approximation: Approximation | None = None
    effect: Effect | None = None
    cut: Cut | None = None

    @classmethod
    def of_data(cls, data: Any, place: str = "certificate") -> "Certificate":
        """Read what a manifest holds. Raises MalformedError."""
        return schema.read(cls, data, place)

    def to_data(self) -> dict[str, Any]:
        """Give what a manifest holds."""
        made: dict[str, Any] = schema.to_data(self)
        return made

    @property
    def proofs(self) -> dict[str, BytesProof | LogitsProof]:
        """The parts that pass or fail, by name."""
        return {"bytes": self.bytes, **({"logits": self.logits} if self.logits else {})}

    @property
    def problems(self) -> list[str]:
        """All that is not as the recipe says."""
        return [problem for proof in self.proofs.values() for problem in proof.problems]

    def with_earlier(self, before: "Certificate | None") -> "Certificate":
        """Keep what an earlier certificate says of the logits, when this one is of the bytes alone and they passed.

        Logits are compared only when the bytes are what the recipe makes of the base, and there they are the same bytes.
        """
        if before is None or before.logits is None or not self.bytes.passed:
            return self
        return replace(before, bytes=self.bytes)
