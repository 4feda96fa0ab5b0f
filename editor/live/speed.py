"""How fast this machine would run a model: products of the model's own shapes, for about a second, without the model.

Reading text is many products at once, bound by arithmetic; writing it is one row at a time, bound by how fast the weights
come from memory. Both are measured on the matrix of one feed-forward network.
"""

import time
from dataclasses import dataclass
from typing import Any

from .load import choose_device

ROWS = 1024
SECONDS = 0.5  # for each of the two


@dataclass(frozen=True)
class Speed:
    """Operations a second in products of many rows, and bytes of weights a second in products of one."""

    operations: float
    weights: float


def measure_speed(hidden: int, width: int, *, device: str = "auto", dtype: str = "float32") -> Speed:
    """Measure on a device for about a second. A multiplication and an addition are two operations."""
    import torch

    where, kind = torch.device(choose_device(device)), getattr(torch, dtype)
    matrix = torch.ones(hidden, width, dtype=kind, device=where)
    many, one = (torch.ones(rows, hidden, dtype=kind, device=where) for rows in (ROWS, 1))
    with torch.inference_mode():
        return Speed(
            2 * ROWS * hidden * width * _each_second(many, matrix, where),
            matrix.numel() * matrix.element_size() * _each_second(one, matrix, where),
        )


def _each_second(rows: Any, matrix: Any, device: Any) -> float:
    """How many products a second, after one to warm up."""
    wait = _waiter(device)
    rows @ matrix
    wait()
    count, begun = 0, time.perf_counter()
    while not count or time.perf_counter() - begun < SECONDS:
        rows @ matrix
        wait()
        count += 1
    return count / (time.perf_counter() - begun)


def _waiter(device: Any) -> Any:
    """Return what waits until a device has done its work."""
    import torch

    return {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)
