"""Log-loss of several variants of a model on the same text, and the differences between their logits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..progress import Progress
from ..text.tokens import Packed
from .logits import Variant, batches, chunks, hidden_states, logits, losses, token_losses
from .streamed import streamed
from .streaming import AUTO, Streaming

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class Measured:
    """Log-losses and differences of variants.

    `log_loss[variant][language]` is in nats, `tokens[language]` counts tokens. `difference[variant][language]` is there for
    the variants that were to be compared with one.
    """

    log_loss: dict[str, dict[str, float]]
    tokens: dict[str, int]
    difference: dict[str, dict[str, Difference]]


def measure(
    variants: Sequence[Variant],
    texts: Mapping[str, Packed],
    *,
    compare: Sequence[str] = (),
    to: str = "",
    progress: Progress | None = None,
    layered: "Sequence[Layered]" = (),
    streaming: Streaming = AUTO,
) -> Measured:
    """Log-loss of each variant on each language, and how far the logits of variant `to` are from those of each in `compare`.

    At most `logits.LOGITS` numbers per variant that is compared (or one row) are in memory. `layered` are the models of the
    variants where these run layer by layer, as `streaming` says (see `streamed`).
    """
    if not layered:
        return _measured(
            variants, texts, compare, to, progress, lambda variant, ids, batch: hidden_states(variant, ids)
        )
    ids = [batch for packed in texts.values() for batch in batches(packed.contexts)]
    with streamed(variants, layered, ids, streaming, progress) as found:
        return _measured(
            variants, texts, compare, to, None, lambda variant, ids, batch: found.states(variant.name, batch)
        )


def _measured(
    variants: Sequence[Variant],
    texts: Mapping[str, Packed],
    compare: Sequence[str],
    to: str,
    progress: Progress | None,
    states_of: "Callable[[Variant, torch.Tensor, int], torch.Tensor]",
) -> Measured:
    """Measure what `measure` does; `states_of` gives the hidden states of a variant on a batch, by its number."""
    log_loss: dict[str, dict[str, float]] = {variant.name: {} for variant in variants}
    difference: dict[str, dict[str, Difference]] = {name: {} for name in compare}
    tokens: dict[str, int] = {}
    contexts = sum(len(context) > 1 for packed in texts.values() for context in packed.contexts)
    steps, step, number = contexts * len(variants), 0, 0
    for language, packed in texts.items():
        sums = dict.fromkeys(log_loss, 0.0)
        tokens[language] = 0
        between = {name: Difference() for name in compare}
        for ids in batches(packed.contexts):  # (B, T)
            targets = ids[:, 1:].flatten()
            tokens[language] += len(targets)
            kept = {}  # hidden states of those whose logits are compared
            for variant in variants:
                states = states_of(variant, ids, number)  # (B·(T−1), d)
                if compare and variant.name in (*compare, to):
                    kept[variant.name] = variant, states
                else:
                    with variant.inside():
                        sums[variant.name] += token_losses(variant.model, states, targets).sum().item()
                step += len(ids)
                if progress:
                    progress(language, step, steps)
            number += 1
            for rows in chunks(variants[0].model, len(targets)) if kept else ():
                found = {name: _logits(variant, states[rows]) for name, (variant, states) in kept.items()}
                for name, own in found.items():
                    sums[name] += losses(own, targets[rows]).sum().item()
                for name, one in between.items():
                    one.add(found[name].cpu(), found[to].cpu())
        for name, total in sums.items():
            log_loss[name][language] = total / max(1, tokens[language])
        for name, one in between.items():
            difference[name][language] = one
    return Measured(log_loss, tokens, difference)


def _logits(variant: Variant, states: "torch.Tensor") -> "torch.Tensor":
    """Return the logits of hidden states; a variant may change the head too."""
    with variant.inside():
        return logits(variant.model, states)
