"""What tests of mixtures share: which tensors of a checkpoint differ, and what goes into the modules of experts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from monoglot.editor.live.modules import trunk


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def changed_parts(before: Path, after: Path) -> set[str]:
    """Names of the tensors that differ; of one with three axes, or a stacked bias, each expert's part by itself."""
    old, new = tensors_of(before), tensors_of(after)
    assert old.keys() == new.keys()
    found = set()
    for name, tensor in old.items():
        if torch.equal(tensor, new[name]):
            continue
        if (".experts." in name and not name.endswith(".weight")) or tensor.ndim == 3:
            found |= {f"{name}[{e}]" for e in range(len(tensor)) if not torch.equal(tensor[e], new[name][e])}
        else:
            found.add(name)
    return found


@contextmanager
def routing(model: Any) -> Iterator[dict[int, list[tuple[Any, Any, Any]]]]:
    """What goes into every module of experts: hidden states, the experts chosen, their weights."""
    seen: dict[int, list[tuple[Any, Any, Any]]] = {}
    handles = []
    modules = [
        module for module in trunk(model).modules() if hasattr(module, "num_experts") and hasattr(module, "down_proj")
    ]
    for number, module in enumerate(modules):

        def look(module: Any, inputs: Any, kwargs: Any, number: int = number) -> None:
            values = [*inputs, *kwargs.values()]
            seen.setdefault(number, []).append((values[0].clone(), values[1].clone(), values[2].clone()))

        handles.append(module.register_forward_pre_hook(look, with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
