"""What a model expects of a text's next tokens, in as little memory as a few rows of the output layer take.

The decoder runs over whole contexts and gives hidden states, (B, T, d), which are small. Logits are wide: those of one
context of 512 tokens take 0.5 GB where the vocabulary has 262,144 entries. So the model's own head (the output layer, and
what some families do to its result: scaling, a soft cap) is run on a few rows at a time, at most LOGITS numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .modules import trunk

if TYPE_CHECKING:
    import torch

LOGITS = 2**25  # numbers; 128 MiB in float32
BATCH_TOKENS = 2048  # that go through the decoder at once, or one context


@dataclass(frozen=True)
class Variant:
    """A model to measure: itself, or itself inside a context manager that hooks it."""

    name: str
    model: Any
    inside: Callable[[], AbstractContextManager[None]] = nullcontext


def batches(contexts: Sequence[npt.NDArray[np.int64]]) -> Iterator["torch.Tensor"]:
    """Neighbouring contexts of one length, stacked: int64 (B, T). Those with nothing to predict are left out."""
    import torch

    for length, group in groupby(contexts, key=len):
        rows = list(group)
        size = max(1, BATCH_TOKENS // max(1, length))
        for at in range(0, len(rows) if length > 1 else 0, size):
            yield torch.stack([torch.from_numpy(row) for row in rows[at : at + size]])


def hidden_states(variant: Variant, ids: "torch.Tensor") -> "torch.Tensor":
    """Return what the head is given to predict ids[:, 1:] of contexts (B, T): (B·(T−1), d), in the model's dtype."""
    import torch

    device = next(variant.model.parameters()).device
    with torch.inference_mode(), variant.inside():
        states: torch.Tensor = trunk(variant.model)(input_ids=ids.to(device), use_cache=False)[0]
    return states[:, :-1].flatten(0, 1)


def chunks(model: Any, rows: int) -> Iterator[slice]:
    """`rows` cut so that the logits of a piece are at most LOGITS numbers (or one row)."""
    size = max(1, LOGITS // model.get_input_embeddings().weight.shape[0])
    for at in range(0, rows, size):
        yield slice(at, min(at + size, rows))


def logits(model: Any, states: "torch.Tensor") -> "torch.Tensor":
    """Return the logits that the model's head makes of hidden states (n, d): float32 (n, V)."""
    import torch

    with torch.inference_mode(), _decoder_gives(model, states[None]):
        found = model(input_ids=torch.zeros((1, len(states)), dtype=torch.int64, device=states.device), use_cache=False)
    rows: torch.Tensor = found.logits[0].float()
    return rows


@contextmanager
def _decoder_gives(model: Any, states: "torch.Tensor") -> Iterator[None]:
    """Make the decoder answer with `states` without running: a call of the model then runs its head alone."""
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    class States(BaseModelOutputWithPastAndCrossAttentions):  # type: ignore[misc]
        """Hidden states alone, whatever else a family's head looks at."""

        def __getattr__(self, name: str) -> None:
            if name.startswith("_"):
                raise AttributeError(name)

    decoder = trunk(model)
    own = decoder.__dict__.get("forward")
    decoder.forward = lambda *_, **__: States(last_hidden_state=states)
    try:
        yield
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own


def losses(rows: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """−ln P(target) of each row of logits (n, V) in nats: float64 (n,), on the CPU. `targets` are token ids (n,)."""
    import torch

    found: torch.Tensor = torch.nn.functional.cross_entropy(rows, targets.to(rows.device), reduction="none")
    return found.cpu().double()


def token_losses(model: Any, states: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Return the losses of `targets` from hidden states (n, d), at least one."""
    import torch

    pieces = [losses(logits(model, states[rows]), targets[rows]) for rows in chunks(model, len(states))]
    return torch.cat(pieces)
