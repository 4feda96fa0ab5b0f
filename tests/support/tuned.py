"""Copies of tiny models in which parameters were tuned."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target

Saved = Callable[..., Path]


def opened(folder: Path) -> Target:
    return open_target(resolve(str(folder)))


def tune(folder: Path, out: Path, seed: int, change: Callable[[str, torch.Tensor], torch.Tensor] | None = None) -> Path:
    """A copy whose every tensor is changed: by noise, much for some rows and columns and not at all for others."""
    out = Path(shutil.copytree(folder, out))
    generator = torch.Generator().manual_seed(seed)

    def noise(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.ndim:
            return tensor
        amounts = [torch.tensor([0.0, 1e-4, 0.1])[torch.randint(3, (n,), generator=generator)] for n in tensor.shape]
        much = amounts[0] if tensor.ndim == 1 else amounts[0].reshape(-1, *[1] * (tensor.ndim - 1)) * amounts[-1] * 10
        return tensor + much * torch.randn(tensor.shape, generator=generator)

    for path in out.glob("*.safetensors"):
        tensors = {name: (change or noise)(name, tensor).to(tensor.dtype) for name, tensor in load_file(path).items()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    return out


PARTS = {
    "llama": {"mlp.gate_proj.weight": 0, "mlp.up_proj.weight": 0, "mlp.down_proj.weight": 1},
    "gpt2": {"mlp.c_fc.weight": 1, "mlp.c_fc.bias": 0, "mlp.c_proj.weight": 0},
    "phi3": {"mlp.gate_up_proj.weight": 0, "mlp.down_proj.weight": 1},
    "opt": {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 1},
}  # axis of the neurons
