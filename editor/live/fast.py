"""The dtype that a model answers fastest in on this machine, for a search that lets it answer many times.

On a CPU a model runs in float32, which holds every bfloat16 weight exactly. But a token's time goes by what is read of the
weights, and a CPU that multiplies bfloat16 numbers itself reads half of it: two to three times as fast. One that doesn't is
much slower. So both are timed on a small product.
"""

import time
from pathlib import Path

from .load import choose_device, choose_dtype, stored_dtype

ROWS, WIDTH, COLUMNS = 8, 1024, 4096
TIMES = 5  # the fastest counts
MARGIN = 1.3  # as many times as fast is worth its rounding


def fastest(folder: Path, device: str = "auto", dtype: str = "auto") -> str:
    """Return the dtype to run a folder's model in: what was asked for, else the faster one on a CPU."""
    usual = choose_dtype(folder, device, dtype)
    if dtype != "auto" or choose_device(device) != "cpu" or stored_dtype(folder) != "bfloat16":
        return usual
    return "bfloat16" if MARGIN * seconds("bfloat16") < seconds("float32") else usual


def seconds(dtype: str) -> float:
    """Time one small product in a dtype."""
    import torch

    floats = getattr(torch, dtype)
    x, w = torch.ones(ROWS, WIDTH, dtype=floats), torch.ones(COLUMNS, WIDTH, dtype=floats)
    found = []
    with torch.inference_mode():
        for _ in range(TIMES):
            began = time.perf_counter()
            torch.nn.functional.linear(x, w)
            found.append(time.perf_counter() - began)
    return min(found)
