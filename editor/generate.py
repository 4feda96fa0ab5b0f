"""What a model writes after a prompt: greedy, with a mild repetition penalty, through transformers' own generate()."""

from collections.abc import Sequence
from typing import Any

from .live import quiet

REPETITION_PENALTY = 1.1


def continuations(model: Any, tokenizer: Any, prompts: Sequence[str], *, tokens: int = 40) -> list[str]:
    """At most `tokens` new tokens after each prompt, without the prompt and special tokens."""
    import torch

    device = next(model.parameters()).device
    written = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).to(device)
        with torch.inference_mode(), quiet():
            output = model.generate(
                **ids,
                max_new_tokens=tokens,
                do_sample=False,
                repetition_penalty=REPETITION_PENALTY,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            )
        written.append(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    return written
