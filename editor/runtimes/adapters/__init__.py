"""Runtimes: each runs a checkpoint in its own way, in a process and, if asked, in a Python environment of its own.

A module for each says how it is installed, loads a checkpoint and answers prompts greedily. It runs where the runtime is
installed, which monoglot need not be, so this package imports nothing but the standard library before a runtime is loaded:

    NAME       what a person calls it
    PACKAGES   the distributions that provide it, any one of them
    NEEDS      other distributions that it takes here, all of them
    INSTALL    a line for the shell
    NOISE      nats: how far its log-probabilities may be from transformers' on the same float32 weights, and why
    NOISIER    where it rounds more than that: a family or an activation function, as config.json names it -> nats, and why
    load(folder, scratch)   a checkpoint, converted into `scratch` where the runtime reads a format of its own, ready to
                            answer: prompt, tokens -> answer (see `Answer`). In float32

The host's side is `process`, the other side `worker`.
"""

import importlib
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple  # noqa: UP035  # other environments have older Pythons

MODULES = {  # by what a person calls them
    "transformers": "transformers",
    "vllm": "vllm",
    "llama.cpp": "llama_cpp",
    "ctranslate2": "ctranslate2",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "mlx": "mlx",
    "mistralrs": "mistralrs",
}
NAMES = tuple(MODULES)
ALIASES = {"llamacpp": "llama.cpp", "llama-cpp": "llama.cpp", "llama_cpp": "llama.cpp", "mistral.rs": "mistralrs",
           "mlx-lm": "mlx", "ct2": "ctranslate2", "onnx": "onnxruntime"}  # fmt: skip

Prompt = Dict[str, Any]  # {"ids": token ids, "text": the same as text}  # noqa: UP006
# The tokens of a greedy answer, and the natural logarithm of each one's probability, None where the runtime doesn't tell
Answer = Tuple[List[int], List[Optional[float]]]  # noqa: UP006, UP045
Ask = Callable[[Prompt, int], Answer]


def module(name: str) -> ModuleType:
    """Import and return the module of a runtime; the runtime itself is imported only to load a checkpoint."""
    return importlib.import_module(f".{MODULES[name]}", __name__)
