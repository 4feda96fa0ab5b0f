"""What an edit does to a model: log-loss per language, of several variants on the same tokens.

    log-loss = −(1/n) Σ_t ln P(x_t | x_<t)      nats a token; perplexity = exp(log-loss)

The beginning-of-text token is context, not counted as a prediction's target.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .corpus import Packed
from .errors import RecipeError
from .families import FeedForward, activation_modules
from .hooks import random_plan, steered
from .neurons import Neurons
from .recipe import Base, Edit, Recipe, plan

if TYPE_CHECKING:
    import torch

LOGITS = 2**25  # numbers; 128 MiB in float32
Progress = Callable[[str, int, int], None]  # what, done, in all


@dataclass(frozen=True)
class Variant:
    """A model to measure: itself, or itself inside a context manager that hooks it."""

    name: str
    model: Any
    inside: Callable[[], AbstractContextManager[None]] = nullcontext


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
    """log_loss[variant][language] in nats, counted tokens per language, and difference[variant][language] of those variants
    that were to be compared with one."""

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
) -> Measured:
    """Log-loss of each variant on each language, and how far the logits of variant `to` are from those of each in `compare`.

    A few contexts at a time, so that at most LOGITS numbers per variant (or one context's) are in memory.
    """
    import torch

    log_loss: dict[str, dict[str, float]] = {variant.name: {} for variant in variants}
    difference: dict[str, dict[str, Difference]] = {name: {} for name in compare}
    tokens: dict[str, int] = {}
    steps, step = sum(len(packed.contexts) for packed in texts.values()) * len(variants), 0
    for language, packed in texts.items():
        sums = dict.fromkeys(log_loss, 0.0)
        tokens[language] = 0
        between = {name: Difference() for name in compare}
        for ids in batches(packed, variants[0].model.get_input_embeddings().weight.shape[0]):  # (B, T)
            tokens[language] += ids[:, 1:].numel()
            logits = {}
            for variant in variants:
                found = next_token_logits(variant, ids)  # (B·(T−1), V)
                targets = ids[:, 1:].flatten().to(found.device)
                sums[variant.name] += torch.nn.functional.cross_entropy(found, targets, reduction="sum").double().item()
                if compare and variant.name in (*compare, to):
                    logits[variant.name] = found.cpu()
                del found
                step += len(ids)
                if progress:
                    progress(language, step, steps)
            for name, one in between.items():
                one.add(logits[name], logits[to])
        for name, total in sums.items():
            log_loss[name][language] = total / max(1, tokens[language])
        for name, one in between.items():
            difference[name][language] = one
    return Measured(log_loss, tokens, difference)


def batches(packed: Packed, vocabulary: int) -> Iterator["torch.Tensor"]:
    """Contexts of one length, stacked: int64 (B, T). Those with nothing to predict are left out."""
    import torch

    for length, group in groupby(packed.contexts, key=len):
        contexts = list(group)
        size = max(1, LOGITS // (length * vocabulary))
        for at in range(0, len(contexts) if length > 1 else 0, size):
            yield torch.stack([torch.from_numpy(context) for context in contexts[at : at + size]])


def next_token_logits(variant: Variant, ids: "torch.Tensor") -> "torch.Tensor":
    """Logits of the predictions of ids[:, 1:], float32 (B·(T−1), V), for contexts (B, T)."""
    import torch

    device = next(variant.model.parameters()).device
    with torch.inference_mode(), variant.inside():
        logits = variant.model(input_ids=ids.to(device), use_cache=False).logits
    found: torch.Tensor = logits[:, :-1].flatten(0, 1).float()
    return found


@dataclass(frozen=True)
class Matrix:
    """change[deactivated][text]: change of log-loss in nats, by language; `random` is the control's row; `base` the
    log-loss itself; `tokens` what it was measured on."""

    change: dict[str, dict[str, float]]
    random: dict[str, float]
    base: dict[str, float]
    tokens: dict[str, int]


def perplexity_matrix(
    model: Any,
    feed_forward: FeedForward,
    neurons: Neurons,
    texts: Mapping[str, Packed],
    *,
    shared: str = "keep",
    progress: Progress | None = None,
) -> Matrix:
    """Deactivate each language in turn (by hooks) and measure every language's log-loss.

    The control deactivates random neurons, as many in each layer as the language with the most neurons has.
    """
    modules = activation_modules(model, feed_forward.family)
    plans = {}
    for language in neurons.languages:
        recipe = Recipe(Base("model"), (Edit(language, "deactivate"),), shared)
        with suppress(RecipeError):  # a language without neurons of its own has no row
            plans[language] = plan(recipe, neurons, layers=feed_forward.layers, width=feed_forward.width)
    largest = max(plans.values(), key=lambda one: one.size)
    hooked = {**plans, "random": random_plan(largest, feed_forward.width)}
    variants = [Variant("base", model)]
    variants += [Variant(f"off {name}", model, partial(steered, modules, steps)) for name, steps in hooked.items()]
    loss = measure(variants, texts, progress=progress)
    base = loss.log_loss["base"]
    rows = {name: {k: loss.log_loss[f"off {name}"][k] - base[k] for k in texts} for name in hooked}
    random = rows.pop("random")
    return Matrix(rows, random, base, loss.tokens)
