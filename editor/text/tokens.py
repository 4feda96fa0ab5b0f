"""Text as token ids in contexts of one length, as a model reads it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorpusError, ModelError
from ..models.embedding import table_of
from ..models.families import text_config
from ..models.hf import load_tokenizer
from ..models.target import Target
from ..progress import shown
from .corpus import HELD_OUT_EVERY, Text

MINIMUM_TOKENS = 2_000

JOIN = "\n\n"


@dataclass(frozen=True)
class Packed:
    """Tokens of one language in contexts.

    `contexts` are int64 arrays of one length, the last one perhaps shorter; `skip` leading positions of each (the
    beginning-of-text token) are not counted; `tokens` are the counted ones; `sha256` is that of all token ids.
    """

    language: str
    contexts: tuple[npt.NDArray[np.int64], ...]
    skip: int
    tokens: int
    sha256: str


def pack(text: Text, tokenizer: Any, *, tokens: int, context: int, held_out: bool = False, after: int = 0) -> Packed:
    """Pack the first `tokens` tokens of a text, `after` so many, into contexts of `context` positions.

    `tokenizer` is a transformers tokenizer. Fewer tokens come back when the text has fewer.
    """
    bos = tokenizer.bos_token_id
    skip = 0 if bos is None else 1
    if context <= skip:
        raise CorpusError(f"a context of {context} positions has no room for text.")
    ids = np.fromiter(
        islice(_token_ids(text.part(held_out=held_out), tokenizer), after, after + tokens), dtype=np.int64
    )
    step = context - skip
    head = np.full(skip, -1 if bos is None else bos, dtype=np.int64)
    contexts = tuple(np.concatenate([head, ids[at : at + step]]) for at in range(0, len(ids), step))
    return Packed(text.language, contexts, skip, len(ids), hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest())


def _token_ids(documents: Iterable[str], tokenizer: Any) -> Iterator[int]:
    stream = iter(documents)
    while batch := [document + JOIN for document in islice(stream, 32)]:
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            yield from ids


def require(packed: Packed, minimum: int) -> None:
    """Raise CorpusError when a language has fewer than `minimum` tokens, saying how many more it needs."""
    if packed.tokens < minimum:
        raise CorpusError(
            f"{packed.language} has {packed.tokens:,} tokens of text, {minimum - packed.tokens:,} fewer than the "
            f"{minimum:,} that statistics need. Add text in {packed.language} (every {HELD_OUT_EVERY}th document is kept "
            "for measuring)."
        )


SHORTEST_CONTEXT = 16

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")  # config keys: how long a context may be


def fitting_context(target: Target, context: int) -> int:
    """`context`, or as many positions as the model has. Raises CorpusError when that is too short to say anything."""
    config = text_config(target.checkpoint.config)
    limit = next((config[key] for key in POSITIONS if isinstance(config.get(key), int) and config[key] > 0), context)
    if min(context, limit) < SHORTEST_CONTEXT:
        raise CorpusError(
            f"a context of {min(context, limit)} tokens is too short; {SHORTEST_CONTEXT} is the least. Set `context`."
        )
    return min(context, limit)


def read_texts(
    target: Target, texts: Mapping[str, Text], *, tokens: int, context: int, held_out: bool = False, after: int = 0,
    tokenizer: Any = None,
) -> dict[str, Packed]:  # fmt: skip
    """Tokenize each language's text with the model's own tokenizer, `context` positions at most.

    A context has fewer positions where the model has fewer. The first `after` tokens are passed over.
    """
    context = fitting_context(target, context)
    tokenizer = tokenizer or load_tokenizer(target.source.folder)
    packed = {}
    with shown("read text", "languages") as update:
        for number, (language, text) in enumerate(texts.items(), start=1):
            packed[language] = pack(text, tokenizer, tokens=tokens, context=context, held_out=held_out, after=after)
            update(language, number, len(texts))
    check_rows(target, packed)
    return packed


def check_rows(target: Target, texts: Mapping[str, Packed]) -> None:
    """Raise ModelError when the tokenizer gave an id, the beginning-of-text token's among them, that has no row."""
    table = table_of(target)
    for language, one in texts.items() if table else ():
        largest = max((int(context.max()) for context in one.contexts if len(context)), default=0)
        if table and largest >= table.shape[0]:
            raise ModelError(
                f"the tokenizer of {target.source.name} gives token {largest} in {language}, and {table.name} has "
                f"{table.shape[0]} rows only. They are not of the same model: download it again."
            )
