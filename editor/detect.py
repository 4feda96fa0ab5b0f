"""From a model and a corpus to statistics: the first step of everything."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from .bake import Target
from .corpus import MINIMUM_TOKENS, Packed, Text, mislabelled, pack, require
from .errors import CorpusError, MonoglotWarning
from .families import activation_modules, text_config
from .live import choose_dtype, load_model, load_tokenizer
from .statistics import ModelInfo, Progress, Statistics, collect

TOKENS = 16_384  # a language
CONTEXT = 512
MISLABELLED_SHARE = 0.1
SHORTEST_CONTEXT = 16
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")  # config keys: how long a context may be


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


def fitting_context(target: Target, context: int) -> int:
    """`context`, or as many positions as the model has. Raises CorpusError when that is too short to say anything."""
    config = text_config(target.checkpoint.config)
    limit = next((config[key] for key in POSITIONS if isinstance(config.get(key), int) and config[key] > 0), context)
    if min(context, limit) < SHORTEST_CONTEXT:
        raise CorpusError(
            f"a context of {min(context, limit)} tokens is too short; {SHORTEST_CONTEXT} is the least. Set --context."
        )
    return min(context, limit)


def read_texts(
    target: Target, texts: Mapping[str, Text], *, tokens: int, context: int, held_out: bool = False
) -> dict[str, Packed]:
    """Tokenize each language's text with the model's own tokenizer, `context` positions at most (fewer where the model
    has fewer). Warns of text that is not in the language of its label."""
    context = fitting_context(target, context)
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
    reuse: Statistics | None = None,
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Statistics of `target` on at most `tokens` tokens a language.

    `reuse` is returned as it is when it was made of the same model, text and settings.
    Raises CorpusError when a language has fewer than `minimum` tokens, ModelError when the model can't be built,
    StatisticsError when it puts out NaN. Warns (MonoglotWarning) of text in another language than its label.
    """
    packed = prepare(target, texts, tokens=tokens, context=context, minimum=minimum)
    return record(
        target, packed, context=context, batch_size=batch_size, device=device, dtype=dtype, reuse=reuse,
        resume_file=resume_file, progress=progress,
    )  # fmt: skip


def prepare(
    target: Target, texts: Mapping[str, Text], *, tokens: int, context: int, minimum: int = MINIMUM_TOKENS
) -> dict[str, Packed]:
    """The first half of `detect`: everything that can be wrong with the text is said before the model is built."""
    warn_of_mislabelled(texts)
    packed = read_texts(target, texts, tokens=tokens, context=context)
    for one in packed.values():
        require(one, min(minimum, tokens))
    return packed


def record(
    target: Target,
    packed: Mapping[str, Packed],
    *,
    context: int,
    batch_size: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    reuse: Statistics | None = None,
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """The second half of `detect`: run the model over what `prepare` returned."""
    settings = {"context": fitting_context(target, context), "dtype": choose_dtype(target.source.folder, device, dtype)}
    texts = {language: (one.sha256,) for language, one in packed.items()}
    if reuse and (reuse.model.fingerprint, reuse.texts, reuse.settings) == (target.fingerprint, texts, settings):
        return reuse
    model = load_model(target.source.folder, device=device, dtype=dtype)
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
