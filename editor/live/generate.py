"""What a model writes after a prompt: greedy, with a mild repetition penalty, through transformers' own generate().

Prompts go in batches, the shorter ones padded on the left. The attention mask hides the padding from the model, but not
from the repetition penalty of every version of transformers, so a row is padded with its own first token, which it has
anyway: end-of-text tokens in its place would make a shorter prompt's answer go on for longer. A family whose recurrent state
takes padding for text gets prompts of one length at a time. So each answer is the one that the prompt alone would get, in
every family that monoglot knows.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ..errors import CorpusError, ModelError
from ..models.hf import quiet
from ..progress import Progress
from .logits import LOGITS

REPETITION_PENALTY = 1.1
UNMASKED = ("recurrent_gemma",)  # model types whose state goes on over padding
ROWS = 64  # prompts at once; bounds the key-value cache
BROKEN = "\ufffd"  # what is left of a character whose bytes are cut off


def continuations(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, tokens: int = 40, progress: Progress | None = None
) -> list[str]:
    """At most `tokens` new tokens after each prompt, in the order of `prompts`, without the prompt and special tokens.

    At most LOGITS numbers of logits are in memory. An answer is empty when the model ends at once; a character that is cut
    in half at an answer's end is left out. Raises CorpusError for a prompt without tokens, or too long for the model.
    """
    if not prompts:
        return []
    ids: list[list[int]] = tokenizer(list(prompts), return_token_type_ids=False)["input_ids"]
    _check(model, prompts, ids, tokens)
    order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    size = max(1, min(ROWS, LOGITS // model.get_input_embeddings().weight.shape[0]))
    groups = [order]
    if getattr(model.config, "model_type", None) in UNMASKED:
        groups = [list(alike) for _, alike in groupby(order, key=lambda at: len(ids[at]))]
    written, done = [""] * len(ids), 0
    for batch in (group[first : first + size] for group in groups for first in range(0, len(group), size)):
        for at, answer in zip(batch, _generate(model, tokenizer, [ids[at] for at in batch], tokens), strict=True):
            written[at] = answer
        done += len(batch)
        if progress:
            progress("", done, len(ids))
    return written


def in_chat(tokenizer: Any, prompt: str, system: str | None = None) -> str:
    """Put a prompt into the model's chat template, as a user's message that the model is to answer, after a system prompt.

    The beginning-of-text token is left out where the tokenizer puts one before every text anyway.

    Raises ModelError when the model has no chat template, or one that can't be filled in.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("the model has no chat template. Leave `chat` out.")
    try:
        first = [{"role": "system", "content": system}] if system else []
        text: str = tokenizer.apply_chat_template(
            [*first, {"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program, and raises what it likes
        raise ModelError(f"the model's chat template fails: {str(error).splitlines()[0]}. Leave `chat` out.") from None
    first = tokenizer("a")["input_ids"][0]
    return text.removeprefix(tokenizer.bos_token) if first == tokenizer.bos_token_id else text


def _check(model: Any, prompts: Sequence[str], ids: Sequence[Sequence[int]], tokens: int) -> None:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for prompt, own in zip(prompts, ids, strict=True):
        if not own:
            raise CorpusError(f"the prompt {prompt!r} has no tokens. Leave it out.")
        if positions and len(own) + tokens > positions:
            raise CorpusError(
                f"the prompt {prompt[:40]!r}… has {len(own)} tokens; with {tokens} new ones that is more than the "
                f"{positions} positions of the model. Shorten it."
            )


def _generate(model: Any, tokenizer: Any, ids: Sequence[Sequence[int]], tokens: int) -> list[str]:
    """Generate the answers to one batch of prompts, given as token ids."""
    import torch

    device, length = next(model.parameters()).device, max(map(len, ids))
    padded = torch.tensor([[own[0]] * (length - len(own)) + list(own) for own in ids], device=device)  # (B, T)
    mask = torch.tensor([[0] * (length - len(own)) + [1] * len(own) for own in ids], device=device)  # (B, T)
    with torch.inference_mode(), quiet():
        output = model.generate(
            input_ids=padded,
            attention_mask=mask,
            max_new_tokens=tokens,
            do_sample=False,
            repetition_penalty=REPETITION_PENALTY,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )
    answers: list[str] = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
    return [answer.rstrip(BROKEN) for answer in answers]
