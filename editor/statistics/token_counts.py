"""From text and the embedding table to a vocabulary, without a forward pass.

Control tokens, and those that stand for an image or a sound, are not counted, so they are never edited.

A token that no text uses has the shares of its script: of all Chinese characters in the texts, say, 0.7 are in Chinese and
0.3 in Japanese. Without that, text of another kind than what was counted would keep half of its tokens. Latin script says
nothing about the language, so its unused tokens have no shares and stay where they are, as do those of a script that the
texts hardly use.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from ..models.embedding import Embedding, open_embedding
from ..models.hf import load_tokenizer
from ..models.identity import ModelInfo
from ..models.target import Target, model_info
from ..text.corpus import Text
from ..text.scripts import LATIN, script_of
from ..text.tokens import MINIMUM_TOKENS, Packed
from .detect import COUNTED, prepare
from .language_sums import TokenCounts, count_tokens
from .vocabulary import Float64, Int64, Vocabulary

TOKENS = COUNTED  # a language; they are only counted, so more cost little
CONTEXT = 512  # tokens; counts do not depend on it
BLOCK = 1024  # rows of the table that are in memory at once
PLACEHOLDER = re.compile(
    r"((image|video|audio|vision|boi|eoi|boa|eoa|img|im)_)+((start|end|break|seq)_)?token_(id|index)"
)
FEWEST_OF_A_SCRIPT = 100  # tokens in a script that its shares can be told from


def learn(target: Target, texts: Mapping[str, Text], *, tokens: int, minimum: int = MINIMUM_TOKENS) -> Vocabulary:
    """Count the tokens of each language's text, at most `tokens` of each, with the model's own tokenizer.

    Raises CorpusError when a language has fewer than `minimum`, ModelError when the model has no table that can be edited
    or no tokenizer. Warns (MonoglotWarning) of text in another language than its label.
    """
    table, tokenizer = open_embedding(target), load_tokenizer(target.source.folder)
    packed = prepare(target, texts, tokens=tokens, context=CONTEXT, minimum=minimum)
    counted = {language: count_tokens(one) for language, one in packed.items()}
    return _vocabulary(model_info(target), table, counted, _control(target, tokenizer), written(tokenizer))


def vocabulary_of(target: Target, counted: Mapping[str, TokenCounts]) -> Vocabulary:
    """Make the vocabulary of texts whose tokens were counted before. Raises what `learn` raises of a model."""
    table, tokenizer = open_embedding(target), load_tokenizer(target.source.folder)
    return _vocabulary(model_info(target), table, counted, _control(target, tokenizer), written(tokenizer))


def _control(target: Target, tokenizer: Any) -> set[int]:
    return control_tokens(tokenizer) | placeholders(target.checkpoint.config)


def count(
    model: ModelInfo, table: Embedding, texts: Mapping[str, Packed], control: Collection[int], written: Sequence[str]
) -> Vocabulary:
    """Count the tokens of each language's text. `control` are the ids that are no text, `written` what each id stands for.

    Raises ModelError when the tokenizer gives an id that the table has no row for.
    """
    return _vocabulary(model, table, {k: count_tokens(one) for k, one in texts.items()}, control, written)


def _vocabulary(
    model: ModelInfo, table: Embedding, counted: Mapping[str, TokenCounts], control: Collection[int],
    written: Sequence[str],
) -> Vocabulary:  # fmt: skip
    ids, counts, centres = {}, {}, {}
    for language in sorted(counted):  # so that the order in which text was named does not matter
        text = ~np.isin(counted[language].ids, list(control))
        own, often = counted[language].ids[text], counted[language].counts[text]
        if len(own) and own[-1] >= table.rows:
            raise ModelError(
                f"the tokenizer of {model.name} gives token {own[-1]} in {language}, and {table.tensor.name} has "
                f"{table.rows} rows only. They are not of the same model: download it again."
            )
        ids[language], counts[language] = own, often
        centres[language] = _centre(table, own, often)
    digests = {language: counted[language].sha256 for language in ids}
    by_script = _by_script(ids, counts, control, written, table.rows)
    return Vocabulary(model, table.rows, ids, counts, centres, digests, *by_script)


def _by_script(
    ids: Mapping[str, Int64], counts: Mapping[str, Int64], control: Collection[int], written: Sequence[str], rows: int
) -> tuple[Int64, Int64, tuple[str, ...], Float64]:
    """Return the tokens that no text uses and whose script some text does; their scripts; what is known of these."""
    names = np.array([script_of(text) for text in written[:rows]])
    scripts, found = [], []
    for script in sorted({*names.tolist()} - {"", LATIN}):
        inside = {k: counts[k][names[np.minimum(ids[k], len(names) - 1)] == script].sum() for k in ids}
        if sum(inside.values()) >= FEWEST_OF_A_SCRIPT:
            shares = np.array([inside[k] / counts[k].sum() for k in ids])
            scripts.append(script)
            found.append(shares / sum(shares.tolist()))
    used = np.unique(np.concatenate([*ids.values(), np.array(list(control), np.int64)]))
    unused = np.setdiff1d(np.flatnonzero(np.isin(names, scripts)), used)
    numbers = np.array([scripts.index(name) for name in names[unused].tolist()], np.int64)
    return unused, numbers, tuple(scripts), np.array(found).reshape(len(scripts), len(ids))


def written(tokenizer: Any) -> list[str]:
    """Return what each of a tokenizer's tokens stands for; a part of a character is no letter."""
    texts: list[str] = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    return texts


def _centre(table: Embedding, ids: Int64, counts: Int64) -> Float64:
    total = np.zeros(table.hidden)
    for at in range(0, len(ids), BLOCK):
        part = slice(at, at + BLOCK)
        total += (counts[part][:, None] * table.read(ids[part])).sum(axis=0)
    centre: Float64 = total / counts.sum()
    return centre


def placeholders(config: Mapping[str, Any]) -> set[int]:
    """Return the ids that stand for an image, a sound or a video, or for where one begins and ends, as a config names them.

    A tokenizer need not call them special.
    """
    return {value for key, value in config.items() if PLACEHOLDER.fullmatch(key) and type(value) is int}


def control_tokens(tokenizer: Any) -> set[int]:
    """Return the ids of a tokenizer's tokens that are no text: its special ones."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
