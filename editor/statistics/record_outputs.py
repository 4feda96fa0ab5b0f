"""Runs a model over text in each language and keeps what its output table is given (see `outputs`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorpusError, StatisticsError
from ..live.load import load_model
from ..live.logits import Variant, batches, hidden_states, token_losses
from ..live.streaming import AUTO, Streaming
from ..models.target import Target, check_unchanged
from ..progress import Progress
from ..text.corpus import Text
from ..text.tokens import Packed, read_texts
from .outputs import Outputs

Array = npt.NDArray[Any]

MEAN_TOKENS = 1024  # a language, that the mean is of
SAMPLE = 64  # positions a language, evenly spread over …
HELD_OUT_TOKENS = 512  # … as many tokens of held-out text
CONTEXT = 256  # tokens


def read_both(target: Target, texts: Mapping[str, Text]) -> tuple[dict[str, Packed], dict[str, Packed]]:
    """Read the text for the mean and the held-out text for the sample. Raises CorpusError when a language has none."""
    seen = read_texts(target, texts, tokens=MEAN_TOKENS, context=CONTEXT)
    held_out = read_texts(target, texts, tokens=HELD_OUT_TOKENS, context=CONTEXT, held_out=True)
    for packed in held_out.values():
        if packed.tokens < 2:
            raise CorpusError(
                f"{packed.language} has too few documents for one to be held out, and what the edit of a shared table "
                f"costs is measured on held-out text. Add documents in {packed.language}."
            )
    return seen, held_out


def record_outputs(
    target: Target,
    texts: Mapping[str, Text],
    *,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    progress: Progress | None = None,
) -> Outputs:
    """Record what the output table is given on each language's text, in the order of their codes.

    Raises CorpusError when a language has no held-out text, StatisticsError when the model puts out NaN, ModelError when it
    would have to run layer by layer.
    """
    streaming.require_whole(
        target.source.folder, "what a checkpoint with one table is fitted to", "Give it a second one, with `untie`",
        device=device, dtype=dtype,
    )  # fmt: skip
    seen, held_out = read_both(target, texts)
    model = Variant("base", load_model(target.source.folder, device=device, dtype=dtype))
    steps = 2 * len(seen)
    means, states, language, targets, losses = [], [], [], [], []
    for number, code in enumerate(sorted(seen)):
        rows = _states(model, seen[code])[0]
        means.append(rows.mean(axis=0))
        if progress:
            progress(code, 2 * number + 1, steps)
        found, following = _states(model, held_out[code])
        chosen = np.arange(min(SAMPLE, len(found))) * len(found) // min(SAMPLE, len(found))
        own, after = found[chosen].astype(np.float32), following[chosen]
        states.append(own)
        targets.append(after)
        language.append(np.full(len(own), number, np.int64))
        losses.append(_losses(model, own, after))
        if progress:
            progress(code, 2 * number + 2, steps)
    check_unchanged(target)
    sampled: list[Array] = [np.concatenate(part) for part in (states, language, targets, losses)]
    made = Outputs(np.mean(means, axis=0), *sampled)
    if not all(np.isfinite(array).all() for array in (made.mean, made.states, made.losses)):
        raise StatisticsError("the model puts out NaN or infinity. Try `dtype` float32; if it stays, it is broken.")
    return made


def _states(model: Variant, packed: Packed) -> tuple[Array, Array]:
    """Return hidden states, float64 (n, d), and the tokens that follow; the first position of each context is left out."""
    found, following = [], []
    for ids in batches(packed.contexts):
        rows = hidden_states(model, ids).reshape(len(ids), ids.shape[1] - 1, -1)
        found.append(rows[:, 1:].flatten(0, 1).double().cpu().numpy())
        following.append(ids[:, 2:].flatten().numpy())
    return np.concatenate(found), np.concatenate(following)


def _losses(model: Variant, states: Array, targets: Array) -> Array:
    import torch

    parameter = next(model.model.parameters())
    given = torch.from_numpy(states).to(parameter.device, parameter.dtype)
    found: Array = token_losses(model.model, given, torch.from_numpy(targets)).numpy()
    return found
