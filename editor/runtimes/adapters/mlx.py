"""MLX by mlx-lm: on Apple's GPUs, elsewhere on the CPU."""

from pathlib import Path
from typing import List, Optional  # noqa: UP035  # other environments have older Pythons

from . import Answer, Ask, Prompt

NAME = "mlx"
PACKAGES = ("mlx",)
NEEDS = ("mlx-lm",)
INSTALL = 'pip install mlx-lm  # on Linux: pip install "mlx[cpu]" mlx-lm'
NOISE = 3e-3  # float32 sums in another order, and functions of fewer digits in GELU: 9e-4 seen
NOISIER = {"gemma3_text": 5e-2}  # the embeddings' factor √d is rounded to bfloat16: 2e-2 seen, 9e-4 where it is not


def load(folder: Path, scratch: Path) -> Ask:
    import mlx.core as mx
    from mlx_lm import load as load_model
    from mlx_lm.generate import generate_step

    model, tokenizer = load_model(str(folder))
    model.set_dtype(mx.float32)
    ends = set(tokenizer.eos_token_ids)

    def ask(prompt: Prompt, tokens: int) -> Answer:
        chosen: List[int] = []  # noqa: UP006
        probabilities: List[Optional[float]] = []  # noqa: UP006, UP045
        for token, logprobs in generate_step(mx.array(prompt["ids"]), model, max_tokens=tokens):
            chosen.append(int(token))
            probabilities.append(float(logprobs[int(token)]))
            if int(token) in ends:
                break
        return chosen, probabilities

    return ask
