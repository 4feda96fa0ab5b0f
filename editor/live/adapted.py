"""A live model with an adapter: what a server computes from a base and a LoRA, without its library and on any device.

    y = W x + b   →   y + (lora_alpha / r) · B (A x)

for each module that the adapter names, as a forward hook, in the dtype of what the module gives. The experts of a mixture
that have no modules of their own are changed in place (see `adapted_experts`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError, ModelError
from ..files.checkpoint import parse_json, read_shard
from ..files.companions import ADAPTER as CONFIG
from ..files.companions import ADAPTER_WEIGHTS as WEIGHTS
from .adapted_experts import Stacks
from .load import load_model
from .stored import TORCH

PREFIX = "base_model.model."
INSIDE = "model.language_model."  # where a text tower lies in its wrapper; built alone, it lies in the model itself


def load_baked(folder: Path, base: Path, *, device: str = "auto", dtype: str = "auto") -> Any:
    """Load what was baked into `folder`: a checkpoint as it is, an adapter with its base. Raises ModelError."""
    if not (folder / CONFIG).is_file():
        return load_model(folder, device=device, dtype=dtype)
    return attach(load_model(base, device=device, dtype=dtype), folder)


def attach(model: Any, folder: Path) -> Any:
    """Add the adapter in `folder` to a live model, for good, and return it.

    Raises CheckpointError when its files are malformed, ModelError when the model has no such module.
    """
    config = parse_json((folder / CONFIG).read_bytes(), str(folder / CONFIG))
    matrices = _matrices(folder / WEIGHTS)
    modules = dict(model.named_modules())
    scale = config["lora_alpha"] / config["r"]
    stacks = Stacks(model, modules)
    for name in sorted({key.rpartition(".lora_")[0] for key in matrices}):
        path = name.removeprefix(PREFIX)
        module = modules.get(path) or modules.get(path.replace(INSIDE, "model.", 1)) or stacks.renamed(path)
        a, b = (matrices.get(f"{name}.lora_{side}.weight") for side in "AB")
        part = stacks.part(path) if module is None else None
        if (module is None and part is None) or a is None or b is None:
            raise ModelError(f"{folder} adds to {path}, which {type(model).__name__} doesn't have.")
        if module is None:
            part += (scale * (b.double() @ a.double())).to(part)
        else:
            module.register_forward_hook(_hook(a, b, scale))
    return model


def _matrices(path: Path) -> Mapping[str, Any]:
    import torch

    shard = read_shard(path)
    found = {}
    for tensor in shard.tensors:
        if tensor.dtype not in TORCH or len(tensor.shape) != 2:
            raise CheckpointError(f"{path}: {tensor.name} is no matrix of numbers. Bake the adapter again.")
        data = np.fromfile(path, np.uint8, tensor.end - tensor.begin, offset=tensor.begin)
        found[tensor.name] = torch.from_numpy(data).view(getattr(torch, TORCH[tensor.dtype])).reshape(tensor.shape)
    return found


def _hook(a: Any, b: Any, scale: float) -> Any:
    placed: dict[Any, tuple[Any, Any]] = {}

    def add(module: Any, inputs: Any, output: Any) -> Any:
        x = inputs[0]
        if x.device not in placed:
            placed[x.device] = a.to(x.device, x.dtype).T, b.to(x.device, x.dtype).T
        down, up = placed[x.device]
        return output + scale * ((x @ down) @ up)

    return add
