"""From a model and a corpus to statistics: the first step of everything."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from .bake import Target
from .corpus import MINIMUM_TOKENS, Packed, Text, mislabelled, pack, require
from .errors import CorpusError, MonoglotWarning
from .families import activation_modules
from .live import load_model, load_tokenizer
from .statistics import ModelInfo, Progress, Statistics, collect

TOKENS = 16_384  # a language
CONTEXT = 512
MISLABELLED_SHARE = 0.1
SHORTEST_CONTEXT = 16


def model_info(target: Target) -> ModelInfo:
    feed_forward = target.feed_forward
    return ModelInfo(
        target.source.name,
        target.source.revision,
        feed_forward.model_type,
        feed_forward.layers,
        feed_forward.width,
        target.fingerprint,
    )


def read_texts(
    target: Target, texts: Mapping[str, Text], *, tokens: int, context: int, held_out: bool = False
) -> dict[str, Packed]:
    """Tokenize each language's text with the model's own tokenizer, `context` positions at most (fewer where the model
    has fewer). Warns of text that is not in the language of its label."""
    limit = target.checkpoint.config.get("max_position_embeddings") or target.checkpoint.config.get("n_positions")
    if isinstance(limit, int) and limit > 0:
        context = min(context, limit)
    if context < SHORTEST_CONTEXT:
        raise CorpusError(f"a context of {context} tokens is too short; {SHORTEST_CONTEXT} is the least.")
    tokenizer = load_tokenizer(target.source.folder)
    return {
        language: pack(text, tokenizer, tokens=tokens, context=context, held_out=held_out)
        for language, text in texts.items()
    }


def warn_of_mislabelled(texts: Mapping[str, Text]) -> None:
    for language, text in texts.items():
        share, guess = mislabelled(text)
        if share >= MISLABELLED_SHARE:
            warnings.warn(
                f"{share:.0%} of the {language} documents ({text.origin}) seem to be in another language, mostly {guess}. "
                "Neurons will be found for what the text is, not for what it is called.",
                MonoglotWarning,
                stacklevel=2,
            )


def detect(
    target: Target,
    texts: Mapping[str, Text],
    *,
    tokens: int = TOKENS,
    context: int = CONTEXT,
    minimum: int = MINIMUM_TOKENS,
    batch_size: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Statistics of `target` on at most `tokens` tokens a language.

    Raises CorpusError when a language has fewer than `minimum` tokens, ModelError when the model can't be built. Warns
    (MonoglotWarning) of text in another language than its label.
    """
    warn_of_mislabelled(texts)
    packed = read_texts(target, texts, tokens=tokens, context=context)
    for one in packed.values():
        require(one, min(minimum, tokens))
    model = load_model(target.source.folder, device=device, dtype=dtype)
    first = next(model.parameters())
    settings = {"context": context, "dtype": str(first.dtype).split(".")[-1]}
    return collect(
        model,
        activation_modules(model, target.feed_forward.family),
        model_info(target),
        packed,
        batch_size=batch_size,
        settings=settings,
        resume_file=resume_file,
        progress=progress,
    )
