"""What a model's output table reads on text: final hidden states, and how high logits are there.

Contexts of the texts, and as many of tokens drawn at random, which are unlike any text. The states of every other document's
tokens are to fit to, those of held-out documents to measure on. Logits are wide, so they are made at a few positions only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..live.logits import Variant, batches, chunks, hidden_states, logits
from ..models.head import Head
from ..progress import Progress
from ..text.tokens import Packed

if TYPE_CHECKING:
    import torch

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

RANDOM, FIRST = "random tokens", "first token"  # kinds besides the languages
LOOKED_AT = 128  # positions of a kind, to fit to and to measure on, at which logits are made
NEAR = 1e-3  # relative: how far logits may be from the formula of the head


@dataclass(frozen=True)
class FinalStates:
    """Final hidden states: x (n, d), of which kind each is, and whether it is one to fit to.

    `reached` is ln Σ exp(logit) over the tokens that stay, in nats, `below` the same over those that are to go, as the model
    has them; NaN where no logits were made. `scale` is what a logit is multiplied with after the table.
    """

    x: Float32
    kinds: npt.NDArray[np.str_]
    fitted: Bool
    reached: Float64
    below: Float64
    scale: float

    def with_(self, others: "FinalStates") -> "FinalStates":
        """Return both, those of `others` behind its own."""
        return FinalStates(
            np.concatenate([self.x, others.x]),
            np.concatenate([self.kinds, others.kinds]),
            np.concatenate([self.fitted, others.fitted]),
            np.concatenate([self.reached, others.reached]),
            np.concatenate([self.below, others.below]),
            self.scale,
        )


def read_final_states(
    model: Any,
    head: Head,
    fitted: Mapping[str, Packed],
    unseen: Mapping[str, Packed],
    silenced: Int64,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> FinalStates:
    """Run the model over texts to fit to and unseen ones. `silenced` are the ids of the tokens that are to go.

    Raises ModelError where the model makes logits in another way than the output table with one factor and a soft cap.
    """
    draw = np.random.default_rng(seed)
    rows: list[tuple[Any, str, bool]] = []  # states, kind, to fit to
    parts = [(one, True) for one in fitted.values()] + [(one, False) for one in unseen.values()]
    parts += [(_noise(next(iter(fitted.values())), draw, head.rows), half) for half in (True, False)]
    steps = sum(len(packed.contexts) for packed, _ in parts)
    step = 0
    for packed, half in parts:
        for ids in batches(packed.contexts):  # (B, T)
            states = hidden_states(Variant("", model), ids).reshape(len(ids), -1, _width(model, head))
            rows.append((states[:, 0].float().cpu().numpy(), FIRST, half))
            rows.append((states[:, 1:].flatten(0, 1).float().cpu().numpy(), packed.language, half))
            step += len(ids)
            if progress:
                progress(packed.language, step, steps)
    x = np.concatenate([own for own, _, _ in rows])
    kinds = np.concatenate([np.full(len(own), kind) for own, kind, _ in rows])
    to_fit = np.concatenate([np.full(len(own), half) for own, _, half in rows])
    if not np.isfinite(x).all():
        raise ModelError(
            "the final hidden states hold NaN or infinity. Try `dtype` float32; else the checkpoint is broken."
        )
    scale = _scale(model, head, x)
    reached, below = np.full((2, len(x)), np.nan)
    for kind in dict.fromkeys(kinds.tolist()):
        for half in (True, False):
            places = np.flatnonzero((kinds == kind) & (to_fit == half))
            places = np.sort(draw.choice(places, min(LOOKED_AT, len(places)), replace=False))
            reached[places], below[places] = _reached(model, x[places], silenced)
    return FinalStates(x, kinds, to_fit, reached, below, scale)


def _noise(like: Packed, draw: np.random.Generator, rows: int) -> Packed:
    """Return contexts of random tokens, as long as a text's."""
    contexts = tuple(
        np.concatenate([context[: like.skip], draw.integers(0, rows, len(context) - like.skip)])
        for context in like.contexts[:1]
    )
    return Packed(RANDOM, contexts, like.skip, len(contexts[0]) - like.skip, "")


def _width(model: Any, head: Head) -> int:
    """Return the length of what the output layer reads. Raises ModelError when the table has another."""
    width = int(model.get_output_embeddings().weight.shape[1])
    if width != head.columns:
        raise ModelError(
            f"the output layer reads {width} numbers and {head.output[1].name} has {head.columns} columns: how logits are "
            "made is not known here, so tokens cannot be silenced."
        )
    return width


def _tensor(model: Any, x: Float32) -> "torch.Tensor":
    import torch

    weight = model.get_output_embeddings().weight
    return torch.from_numpy(x).to(weight.device, weight.dtype)


def _reached(model: Any, x: Float32, silenced: Int64) -> tuple[Float64, Float64]:
    """ln Σ exp(logit) over the tokens that stay, (n,), and over those that are to go."""
    import torch

    stay, go = [np.zeros(0)], [np.zeros(0)]
    for rows in chunks(model, len(x)):
        made = logits(model, _tensor(model, x[rows]))
        ids = torch.from_numpy(silenced).to(made.device)
        go.append(made.index_select(1, ids).logsumexp(-1).double().cpu().numpy())
        stay.append(made.index_fill(1, ids, -torch.inf).logsumexp(-1).double().cpu().numpy())
    return np.concatenate(stay), np.concatenate(go)


def _scale(model: Any, head: Head, x: Float32) -> float:
    """Measure what logits are multiplied with after the table. Raises ModelError when they are made in another way."""
    import torch

    seen: dict[str, torch.Tensor] = {}

    def look(module: Any, inputs: Sequence[Any], output: Any) -> None:
        seen["read"], seen["raw"] = inputs[0].detach()[0], output.detach()[0].double()

    some = _tensor(model, x[:: max(1, len(x) // 4)][:4])
    handle = model.get_output_embeddings().register_forward_hook(look)
    try:
        final = logits(model, some).double()
    finally:
        handle.remove()
    if "raw" not in seen or not torch.equal(seen["read"], some):
        raise ModelError(_UNKNOWN)
    raw = seen["raw"]
    undone = head.cap * torch.atanh((final / head.cap).clamp(-0.999999, 0.999999)) if head.cap else final
    inside = raw.abs() > raw.abs().mean()
    if head.cap:
        inside &= final.abs() < head.cap / 2
    scale = float((undone[inside] / raw[inside]).median()) if inside.any() else float("nan")
    again = scale * raw
    again = head.cap * torch.tanh(again / head.cap) if head.cap else again
    if not scale > 0 or not (again - final).abs().max() <= NEAR * final.abs().max():
        raise ModelError(_UNKNOWN)
    return scale


_UNKNOWN = (
    "this model does something to what its output table reads, or to the logits, that is not known here, so tokens cannot be "
    "silenced in it by their rows."
)


def lowered(values: Float64, scale: float, cap: float | None) -> Float64:
    """Return the final logits of what the output table gives."""
    made: Float64 = scale * values
    return made if cap is None else cap * np.tanh(made / cap)
