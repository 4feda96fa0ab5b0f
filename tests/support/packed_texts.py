"""Tokens in contexts for the tiny models, and their log-loss computed plainly."""

from typing import Any

import numpy as np
import torch

from monoglot.editor.text.tokens import Packed
from support import tiny


def packed(lengths: list[int], seed: int) -> Packed:
    generator = np.random.default_rng(seed)
    contexts = tuple(generator.integers(6, tiny.VOCABULARY, length) for length in lengths)
    return Packed("test", contexts, 0, sum(lengths), "")


TEXTS = {"xx": packed([9, 9, 9, 4], 1), "off": packed([7, 1], 2), "more": packed([12], 3)}


def plainly(model: Any, texts: dict[str, Packed]) -> dict[str, float]:
    """transformers' own loss, a context at a time."""
    found = {}
    for language, text in texts.items():
        nats, count = 0.0, 0
        for context in text.contexts:
            if len(context) > 1:
                ids = torch.from_numpy(context)[None]
                with torch.inference_mode():
                    nats += model(input_ids=ids, labels=ids).loss.item() * (len(context) - 1)
                count += len(context) - 1
        found[language] = nats / count
    return found
