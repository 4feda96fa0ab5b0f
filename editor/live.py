"""A checkpoint as a live transformers model, for statistics and for measuring.

On a GPU in the checkpoint's dtype, on a CPU in float32: bfloat16 arithmetic is slow there, and float32 holds every
float16 and bfloat16 weight exactly. No code from a checkpoint runs.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ModelError

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(device: str = "auto") -> str:
    """`auto` is CUDA where there is one, then Apple's MPS, then the CPU. Under torchrun each worker gets its own GPU."""
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if device in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    if device not in ("auto", "cpu"):
        raise ModelError(f"there is no {device} device here. Use --device auto.")
    return "cpu"


def load_model(folder: Path, *, device: str = "auto", dtype: str = "auto") -> Any:
    """The causal language model of a folder, in evaluation mode. Raises ModelError when transformers can't build it."""
    import torch
    import transformers

    where = choose_device(device)
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if dtype == "auto":
        dtype = "float32" if where == "cpu" else str(getattr(config, "dtype", None) or "float32").split(".")[-1]
    causal = type(config) in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    builder = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForImageTextToText
    try:
        with quiet():
            model, info = builder.from_pretrained(
                folder, dtype=getattr(torch, dtype), trust_remote_code=False, output_loading_info=True,
                use_safetensors=True,
            )  # fmt: skip
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"transformers cannot load {folder.name}: {reason}") from None
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{folder.name} lacks the weights of {missing[0]} ({len(missing)} missing in all).")
    return model.to(where).eval()


def load_tokenizer(folder: Path) -> Any:
    """Raises ModelError when the folder has no tokenizer that transformers can read."""
    import transformers

    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder.name} has no tokenizer that transformers can load: {reason}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes on stderr; its warnings that we handle ourselves are dropped."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
