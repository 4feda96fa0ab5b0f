"""A checkpoint as a live transformers model, for statistics and for measuring.

On a GPU in the checkpoint's dtype, on a CPU in float32: bfloat16 arithmetic is slow there, and float32 holds every
float16 and bfloat16 weight exactly. No code from a checkpoint runs.
"""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ModelError, MonoglotError, MonoglotWarning, reason_of
from ..files.checkpoint import read_config
from ..files.packed import KEYS as QUANTISATION_KEYS
from ..files.packed import quantisation_of
from ..models.families import TEXT_PREFIX, text_config
from ..models.hf import quiet
from .spread import NOT_SPREAD, Spread, spread_model
from .stored import dequantised

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
        raise ModelError(f"there is no {device} device here. Use `device` auto.")
    return "cpu"


def choose_dtype(folder: Path, device: str = "auto", dtype: str = "auto") -> str:
    """`auto` is float32 on a CPU, and what the checkpoint's config says elsewhere."""
    if dtype != "auto":
        return dtype
    return "float32" if choose_device(device) == "cpu" else stored_dtype(folder)


def stored_dtype(folder: Path) -> str:
    """Return the dtype that a checkpoint's config says, float32 where it says none."""
    config = read_config(folder, quantised=True)
    text = text_config(config)
    keys = ((part, key) for part in (text, config) for key in ("dtype", "torch_dtype"))
    stored = next((str(part[key]).removeprefix("torch.") for part, key in keys if part.get(key)), "float32")
    return stored if stored in DTYPES and stored != "auto" else "float32"


def without_weights(folder: Path) -> Any:
    """Build the model of a folder without weights, to count them. Raises ModelError when transformers can't build it."""
    import torch
    import transformers

    try:
        with quiet(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            for part in (config, config.get_text_config()):
                for key in QUANTISATION_KEYS:
                    part.__dict__.pop(key, None)
            return _builder(config).from_config(config, trust_remote_code=False)
    except Exception as error:  # of many kinds, as below
        reason = reason_of(error)
        raise ModelError(f"transformers {transformers.__version__} cannot load {folder.name}: {reason}") from None


def _builder(config: Any) -> Any:
    """Return the class that builds a config's model."""
    import transformers

    causal = type(config) in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    return transformers.AutoModelForCausalLM if causal else transformers.AutoModelForImageTextToText


def load_model(folder: Path, *, device: str = "auto", dtype: str = "auto", spread: Spread = NOT_SPREAD) -> Any:
    """Load the language model of a folder, in evaluation mode; a multimodal one is built whole.

    `spread` lays it over several devices.

    Quantised weights are read as the numbers that they stand for, without their library and on any device: what is measured
    is the model that the file holds, not the rounding of one kernel.
    Raises ModelError when transformers can't build it or weights are missing. Warns when transformers leaves out biases
    that the checkpoint has: other runtimes may apply them, and would then run another model than the one measured here.
    """
    import torch

    where = choose_device(device)
    dtype = choose_dtype(folder, device, dtype)
    with built(folder):
        config, builder, quantised = config_of(folder)
        floats = getattr(torch, dtype)
        if spread:
            model, info = spread_model(builder, folder, floats, spread, quantised=quantised)
        elif quantised:
            with torch.device("meta"):
                kind = type(builder.from_config(config, trust_remote_code=False))
            model, info = kind.from_pretrained(
                None, config=config, state_dict=dequantised(folder, floats), dtype=floats, output_loading_info=True
            )
        else:
            model, info = builder.from_pretrained(
                folder, dtype=floats, trust_remote_code=False, output_loading_info=True, use_safetensors=True
            )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{folder.name} lacks the weights of {missing[0]} ({len(missing)} missing in all).")
    warn_of_dropped(folder, model, info["unexpected_keys"])
    if spread:
        return model.eval()
    if dtype == "float32":
        model.float()  # transformers 4 leaves the numbers of Apertus's activation function in bfloat16
    return model.to(where).eval()


@contextlib.contextmanager
def built(folder: Path) -> Iterator[None]:
    """Keep transformers quiet while it builds a folder's model, and raise ModelError when it can't."""
    import transformers

    try:
        with quiet():
            yield
    except MonoglotError:
        raise
    except Exception as error:  # of many kinds, from a config that is malformed to a package that is not installed
        reason = reason_of(error)
        raise ModelError(f"transformers {transformers.__version__} cannot load {folder.name}: {reason}") from None


def config_of(folder: Path) -> tuple[Any, Any, bool]:
    """Return a folder's config, the class of transformers that builds its model, and whether its weights are quantised.

    The config of a quantised model is that of the same model in floats.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    causal = type(config) in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    builder = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForImageTextToText
    quantised = quantisation_of(read_config(folder, quantised=True)) is not None
    for part in (config, config.get_text_config()) if quantised else ():
        for key in QUANTISATION_KEYS:
            part.__dict__.pop(key, None)
    return config, builder, quantised


def warn_of_dropped(folder: Path, model: Any, unexpected: Iterable[str]) -> None:
    """Warn (MonoglotWarning) of the biases among the tensors that have no place in a model."""
    if dropped := dropped_biases(model, unexpected):
        warnings.warn(
            f"transformers ignores {len(dropped)} biases of {folder.name}, for example {dropped[0]}: its config does not "
            "ask for them. What is measured is the model without them; other runtimes may apply them.",
            MonoglotWarning,
            stacklevel=3,
        )


def dropped_biases(model: Any, unexpected: Iterable[str]) -> list[str]:
    """Return the tensors without a place in `model` that are the bias of one of its projections.

    Other tensors without a place are buffers of old versions, such as the causal mask `attn.bias` of GPT-2, or parts that are
    not used here.
    """
    weights = [name for name, _ in model.named_parameters()]
    biases = sorted(name for name in unexpected if name.endswith(".bias"))
    return [
        name for name in biases
        if any(weight.endswith(TEXT_PREFIX.sub("", name.removesuffix("bias") + "weight", count=1)) for weight in weights)
    ]  # fmt: skip


@contextlib.contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Remove the hooks, of which these are the handles, when the block ends."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
