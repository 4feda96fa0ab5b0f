"""A checkpoint as a live transformers model, for statistics and for measuring.

On a GPU in the checkpoint's dtype, on a CPU in float32: bfloat16 arithmetic is slow there, and float32 holds every
float16 and bfloat16 weight exactly. No code from a checkpoint runs.
"""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError, MonoglotError, MonoglotWarning
from ..files.checkpoint import read_checkpoint, read_config
from ..files.packed import KEYS as QUANTISATION_KEYS
from ..files.packed import Matrix, modules_of, quantisation_of
from ..files.packed.stored import FLOATS, Place
from ..models.families import TEXT_PREFIX, family_of, text_config
from ..models.feed_forward import unstacked
from ..models.hf import quiet
from ..models.quantised import network_of

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip  # dtypes of what is not packed, as torch names them


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
    if choose_device(device) == "cpu":
        return "float32"
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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"transformers {transformers.__version__} cannot load {folder.name}: {reason}") from None


def _builder(config: Any) -> Any:
    """Return the class that builds a config's model."""
    import transformers

    causal = type(config) in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    return transformers.AutoModelForCausalLM if causal else transformers.AutoModelForImageTextToText


def load_model(folder: Path, *, device: str = "auto", dtype: str = "auto") -> Any:
    """Load the language model of a folder, in evaluation mode; a multimodal one is built whole.

    Quantised weights are read as the numbers that they stand for, without their library and on any device: what is measured
    is the model that the file holds, not the rounding of one kernel.
    Raises ModelError when transformers can't build it or weights are missing. Warns when transformers leaves out biases
    that the checkpoint has: other runtimes may apply them, and would then run another model than the one measured here.
    """
    import torch
    import transformers

    where = choose_device(device)
    dtype = choose_dtype(folder, device, dtype)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            builder = _builder(config)
            floats = getattr(torch, dtype)
            if quantisation_of(read_config(folder, quantised=True)):
                for part in (config, config.get_text_config()):
                    for key in QUANTISATION_KEYS:
                        part.__dict__.pop(key, None)
                with torch.device("meta"):
                    kind = type(builder.from_config(config, trust_remote_code=False))
                model, info = kind.from_pretrained(
                    None, config=config, state_dict=dequantised(folder, floats), dtype=floats, output_loading_info=True
                )
            else:
                model, info = builder.from_pretrained(
                    folder, dtype=floats, trust_remote_code=False, output_loading_info=True, use_safetensors=True
                )
    except MonoglotError:
        raise
    except Exception as error:  # of many kinds, from a config that is malformed to a package that is not installed
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"transformers {transformers.__version__} cannot load {folder.name}: {reason}") from None
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{folder.name} lacks the weights of {missing[0]} ({len(missing)} missing in all).")
    if dropped := dropped_biases(model, info["unexpected_keys"]):
        warnings.warn(
            f"transformers ignores {len(dropped)} biases of {folder.name}, for example {dropped[0]}: its config does not "
            "ask for them. What is measured is the model without them; other runtimes may apply them.",
            MonoglotWarning,
            stacklevel=2,
        )
    if dtype == "float32":
        model.float()  # transformers 4 leaves the numbers of Apertus's activation function in bfloat16
    return model.to(where).eval()


def dequantised(folder: Path, dtype: Any) -> dict[str, Any]:
    """All weights of a quantised checkpoint as floats of `dtype`, by the names that an unquantised one has.

    Raises ModelError for a format that monoglot doesn't read, CheckpointError where config and tensors disagree.
    """
    import torch

    checkpoint = read_checkpoint(folder, quantised=True)
    quantisation = quantisation_of(checkpoint.config)
    packed: dict[str, Matrix] = {}
    stored: set[str] = set()
    for module, parts in modules_of(unstacked(checkpoint)).items() if quantisation else ():
        if quantisation and not _plain(parts):
            packed[module] = quantisation.matrix(module, parts)
            stored.update(name.partition("[")[0] for name in _stored(parts))
    state: dict[str, Any] = {}
    for shard, tensor in checkpoint.tensors():
        if tensor.name not in stored and tensor.dtype in TORCH:  # not by safetensors: older ones know no F8_E8M0
            data = np.fromfile(shard.path, np.uint8, tensor.end - tensor.begin, offset=tensor.begin)
            number = torch.from_numpy(data).view(getattr(torch, TORCH[tensor.dtype])).reshape(tensor.shape)
            state[tensor.name] = number.to(dtype) if number.is_floating_point() else number
    stacks: dict[str, dict[int, Any]] = {}
    for module, matrix in packed.items():
        with np.errstate(all="ignore"):
            number = torch.from_numpy(matrix.read(0, matrix.rows)).to(dtype)
        stack, _, expert = module.removesuffix("]").partition("[")
        if not expert:
            state[f"{module}.weight"] = number
            continue
        network = network_of(module, family_of(checkpoint.config))
        stacks.setdefault(stack, {})[int(expert)] = number.T if network and network.conv1d else number
    state |= {stack: torch.stack([each[1] for each in sorted(parts.items())]) for stack, parts in stacks.items()}
    return state


def _plain(parts: Mapping[str, Place]) -> bool:
    """Whether a module has a weight in floats and a bias at most."""
    return set(parts) <= {"weight", "bias"} and all(tensor.dtype in FLOATS for _, tensor in parts.values())


def _stored(parts: Mapping[str, Place]) -> list[str]:
    """Return the names of all that stands for a weight, and of what quantises its input."""
    return [tensor.name for kind, (_, tensor) in parts.items() if kind != "bias"]


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
