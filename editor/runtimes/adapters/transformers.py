"""transformers, of whatever version: the one that monoglot itself runs on gives the reference."""

from pathlib import Path

from . import Ask
from .greedy import by_generate

NAME = "transformers"
PACKAGES = ("transformers",)
NEEDS = ("torch",)
INSTALL = "pip install torch transformers"
NOISE = 1e-3  # the same arithmetic, in the order of another version's kernels: 1e-5 seen


def load(folder: Path, scratch: Path) -> Ask:
    import torch
    from transformers import AutoModelForCausalLM

    return by_generate(AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval())
