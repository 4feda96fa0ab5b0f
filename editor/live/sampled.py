"""What a model writes after a prompt when each token is drawn: many answers to each prompt, with a seed.

Tokens are drawn from the model's own distribution, at a temperature and without a cut, so that what is possible at all may
come.
"""

from collections.abc import Sequence
from typing import Any

from ..errors import CorpusError
from ..models.hf import quiet
from ..progress import Progress
from .generate import BROKEN, ROWS
from .logits import LOGITS


def sampled(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    answers: int,
    *,
    tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Draw `answers` answers of at most `tokens` tokens, as evenly over the prompts as can be, without the prompts.

    Of a character that is cut in half at an answer's end nothing is left. Raises CorpusError for a prompt without tokens.
    """
    import torch

    size = max(1, min(ROWS, LOGITS // model.get_input_embeddings().weight.shape[0]))
    device = next(model.parameters()).device
    written: list[str] = []
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.inference_mode(), quiet():
        torch.manual_seed(seed)
        for number, prompt in enumerate(prompts):
            ids = torch.tensor([tokenizer(prompt, return_token_type_ids=False)["input_ids"]], device=device)  # (1, T)
            if not ids.numel():
                raise CorpusError(f"the prompt {prompt!r} has no tokens. Leave it out.")
            left = answers * (number + 1) // len(prompts) - answers * number // len(prompts)
            while left:
                count = min(size, left)
                output = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=True,
                    temperature=temperature, top_k=0, top_p=1.0, num_return_sequences=count, repetition_penalty=1.0,
                    pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
                )  # fmt: skip
                made = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
                written += [answer.rstrip(BROKEN) for answer in made]
                left -= count
                if progress:
                    progress("", len(written), answers)
    return written
