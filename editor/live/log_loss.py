"""Log-loss of several variants of a model on the same text, and the differences between their logits."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..progress import Progress
from ..text.tokens import Packed
from .logits import Variant, batches, chunks, hidden_states, logits, losses, token_losses
from .streamed import streamed
from .streaming import AUTO, Streaming

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from .layered import Layered


@dataclass
class Difference:
    """How far variant b's next-token distributions are from a's, over all positions measured.

    `max_logit` is the largest absolute difference of a logit, `kl` the mean KL(a ‖ b) in nats, `same_top` the share of
    positions with the same most likely token; `scale` the largest absolute logit of a.
    """

    max_logit: float = 0.0
    kl: float = 0.0
    same_top: float = 0.0
    scale: float = 0.0
    positions: int = 0

    def add(self, a: "torch.Tensor", b: "torch.Tensor") -> None:
        """Add logits (positions, vocabulary), float32."""
        import torch

        n, kl, same = len(a), 0.0, float(len(a))
        low, high = torch.aminmax(a)
        self.scale = max(self.scale, -low.item(), high.item())
        if not torch.equal(a, b):  # equal to the bit is the usual case, and cheap to see
            log_a, log_b = a.log_softmax(-1), b.log_softmax(-1)
            kl = (log_a.exp() * (log_a - log_b)).sum(-1).double().sum().item()
            same = (a.argmax(-1) == b.argmax(-1)).sum().item()
            difference = (a - b).abs().max().item()
            self.max_logit = difference if difference != difference else max(self.max_logit, difference)  # NaN stays
        whole = self.positions + n
        self.kl = (self.kl * self.positions + kl) / whole
        self.same_top = (self.same_top * self.positions + same) / whole
        self.positions = whole


@dataclass
class Unwritten:
    """What becomes of tokens that can't be written: their logits in variants a and b, apart from all others.

    The largest absolute difference of such a logit, the largest absolute logit of a, and the logarithm of the highest
    probability that all of them together have in b at any position, in nats. `left_out` counts tokens of the text that are
    such ones, which no log-loss is measured of.
    """

    max_logit: float = 0.0
    scale: float = 0.0
    highest: float = -math.inf
    left_out: int = 0

    def add(self, a: "torch.Tensor", b: "torch.Tensor", rest: "torch.Tensor") -> None:
        """Add logits of these tokens (positions, n), and those of all others in b, float32."""
        difference = (a - b).abs().max().item()
        self.max_logit = difference if difference != difference else max(self.max_logit, difference)  # NaN stays
        self.scale = max(self.scale, a.abs().max().item())
        together = (b.double().logsumexp(-1) - rest.double().logsumexp(-1)).max().item()
        self.highest = max(self.highest, together)


@dataclass(frozen=True)
class Measured:
    """Log-losses and differences of variants.

    `log_loss[variant][language]` is in nats, `tokens[language]` counts tokens. `difference[variant][language]` is there for
    the variants that were to be compared with one; `unwritten[variant][language]` where some tokens can't be written.
    """

    log_loss: dict[str, dict[str, float]]
    tokens: dict[str, int]
    difference: dict[str, dict[str, Difference]]
    unwritten: dict[str, dict[str, Unwritten]] = field(default_factory=dict)


def measure(
    variants: Sequence[Variant],
    texts: Mapping[str, Packed],
    *,
    compare: Sequence[str] = (),
    to: str = "",
    silenced: "npt.NDArray[np.int64] | None" = None,
    progress: Progress | None = None,
    layered: "Sequence[Layered]" = (),
    streaming: Streaming = AUTO,
) -> Measured:
    """Log-loss of each variant on each language, and how far the logits of variant `to` are from those of each in `compare`.

    At most `logits.LOGITS` numbers per variant that is compared (or one row) are in memory. `layered` are the models of the
    variants where these run layer by layer, as `streaming` says (see `streamed`). `silenced`
    are tokens that `to` can't write: no log-loss is of them, and their logits are compared apart.
    """
    if not layered:
        return _measured(
            variants, texts, compare, to, silenced, progress, lambda variant, ids, batch: hidden_states(variant, ids)
        )
    ids = [batch for packed in texts.values() for batch in batches(packed.contexts)]
    with streamed(variants, layered, ids, streaming, progress) as found:
        return _measured(
            variants, texts, compare, to, silenced, None, lambda variant, ids, batch: found.states(variant.name, batch)
        )


def _measured(
    variants: Sequence[Variant],
    texts: Mapping[str, Packed],
    compare: Sequence[str],
    to: str,
    silenced: "npt.NDArray[np.int64] | None",
    progress: Progress | None,
    states_of: "Callable[[Variant, torch.Tensor, int], torch.Tensor]",
) -> Measured:
    """Measure what `measure` does; `states_of` gives the hidden states of a variant on a batch, by its number."""
    log_loss: dict[str, dict[str, float]] = {variant.name: {} for variant in variants}
    difference: dict[str, dict[str, Difference]] = {name: {} for name in compare}
    unwritten: dict[str, dict[str, Unwritten]] = {name: {} for name in (compare if silenced is not None else ())}
    tokens: dict[str, int] = {}
    contexts = sum(len(context) > 1 for packed in texts.values() for context in packed.contexts)
    steps, step, number = contexts * len(variants), 0, 0
    for language, packed in texts.items():
        sums = dict.fromkeys(log_loss, 0.0)
        tokens[language] = 0
        between = {name: Difference() for name in compare}
        apart = {name: Unwritten() for name in unwritten}
        for ids in batches(packed.contexts):  # (B, T)
            targets = ids[:, 1:].flatten()
            counted = _written(targets, silenced)
            tokens[language] += int(counted.sum())
            for each in apart.values():
                each.left_out += int((~counted).sum())
            kept = {}  # hidden states of those whose logits are compared
            for variant in variants:
                states = states_of(variant, ids, number)  # (B·(T−1), d)
                if compare and variant.name in (*compare, to):
                    kept[variant.name] = variant, states
                else:
                    with variant.inside():
                        sums[variant.name] += token_losses(variant.model, states, targets)[counted].sum().item()
                step += len(ids)
                if progress:
                    progress(language, step, steps)
            number += 1
            for rows in chunks(variants[0].model, len(targets)) if kept else ():
                found = {name: _logits(variant, states[rows]) for name, (variant, states) in kept.items()}
                for name, own in found.items():
                    sums[name] += losses(own, targets[rows])[counted[rows]].sum().item()
                split = {name: _split(own.cpu(), silenced) for name, own in found.items()}
                for name, one in between.items():
                    one.add(split[name][0], split[to][0])
                for name, each in apart.items():
                    each.add(split[name][1], split[to][1], split[to][0])
        for name, total in sums.items():
            log_loss[name][language] = total / max(1, tokens[language])
        for name, one in between.items():
            difference[name][language] = one
        for name, each in apart.items():
            unwritten[name][language] = each
    return Measured(log_loss, tokens, difference, unwritten)


def _logits(variant: Variant, states: "torch.Tensor") -> "torch.Tensor":
    """Return a variant's logits: a hook may be in its output layer."""
    with variant.inside():
        return logits(variant.model, states)


def _written(targets: "torch.Tensor", silenced: "npt.NDArray[np.int64] | None") -> "torch.Tensor":
    """Tell which targets can be written, bool (n,)."""
    import torch

    if silenced is None:
        return torch.ones(len(targets), dtype=torch.bool)
    return ~torch.isin(targets, torch.from_numpy(silenced))


def _split(rows: "torch.Tensor", silenced: "npt.NDArray[np.int64] | None") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return logits of the tokens that can be written, and of those that can't."""
    import torch

    if silenced is None:
        return rows, rows[:, :0]
    gone = torch.zeros(rows.shape[1], dtype=torch.bool)
    gone[torch.from_numpy(silenced)] = True
    return rows[:, ~gone], rows[:, gone]
