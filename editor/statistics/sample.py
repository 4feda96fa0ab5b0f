"""The sample of what the feed-forward networks read on held-out text (see `inputs`)."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CorpusError, StatisticsError
from ..live.modules import trunk
from ..text.tokens import Packed
from .inputs import Float32, Part, Sample

if TYPE_CHECKING:
    import torch

SAMPLE = 256  # tokens a language
HELD_OUT_TOKENS = 4 * SAMPLE  # what they are taken from, evenly


def take_sample(model: Any, modules: Sequence[Any], texts: Mapping[str, Packed], tokenizer: Any) -> Sample:
    """Run the trunk over held-out text and keep what goes into `modules` at SAMPLE tokens a language, evenly spread.

    Raises CorpusError when a language has no held-out text.
    """
    import torch

    decoder, device = trunk(model), next(model.parameters()).device
    found: list[list[Float32]] = [[] for _ in modules]
    rows: list[int] = []  # positions of a context to keep

    def hook(layer: int) -> Callable[[Any, "tuple[torch.Tensor, ...]"], None]:
        def keep(module: Any, inputs: "tuple[torch.Tensor, ...]") -> None:
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1])[rows]
            found[layer].append(x.float().cpu().numpy())

        return keep

    tokens: list[int] = []
    positions: list[int] = []
    parts = []
    handles = [module.register_forward_pre_hook(hook(layer)) for layer, module in enumerate(modules)]
    try:
        for language, packed in sorted(texts.items()):
            require_held_out(packed)
            n = min(SAMPLE, packed.tokens)
            chosen = iter((np.arange(n) * packed.tokens // n).tolist())  # of the counted tokens
            following, seen = next(chosen), 0
            for context in packed.contexts:
                rows.clear()
                counted = len(context) - packed.skip
                while following < seen + counted:
                    rows.append(following - seen + packed.skip)
                    following = next(chosen, packed.tokens)
                seen += counted
                if rows:
                    with torch.inference_mode():
                        decoder(input_ids=torch.from_numpy(context)[None].to(device), use_cache=False)
                    tokens += context[rows].tolist()
                    positions += rows
            parts.append(Part(language, packed.sha256, n))
    finally:
        for handle in handles:
            handle.remove()
    kinds = tuple(
        "first token" if position == 0 else kind_of(tokenizer.decode([token]))
        for token, position in zip(tokens, positions, strict=True)
    )
    x = [np.concatenate(layer) for layer in found]
    if not all(np.isfinite(layer).all() for layer in x):
        raise StatisticsError(
            "a layer reads NaN or infinity. Try `dtype` float32; if it stays, the checkpoint is broken."
        )
    return Sample(x, np.asarray(tokens, np.int64), np.asarray(positions, np.int64), kinds, tuple(parts))


def require_held_out(packed: Packed) -> None:
    if not packed.tokens:
        raise CorpusError(
            f"{packed.language} has too few documents for one to be held out, and calibration is measured on held-out "
            f"text. Add text in {packed.language}, or leave `calibrate` out."
        )


def kind_of(text: str) -> str:
    """Return one of KINDS for what a token decodes to.

    "other" are special tokens, symbols mixed with digits, and parts of characters.
    """
    if text and not text.strip():
        return "white space"
    categories = {unicodedata.category(character) for character in text.strip()}
    if not categories or "\N{REPLACEMENT CHARACTER}" in text:
        return "other"
    if any(category[0] == "L" for category in categories):
        return "letters"
    for kind, first in (("letters", "LM"), ("digits", "N"), ("punctuation", "PS")):
        if all(category[0] in first for category in categories):
            return kind
    return "other"
