"""How much memory there is, and whether a model fits in it."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, MonoglotWarning
from .load import choose_device, choose_dtype
from .stored import stored

if TYPE_CHECKING:
    from .layered import Layered

RESERVE = 0.9  # of what is free: the rest is for the work itself
WORK = (
    24  # numbers of a layer's size that a token takes while a layer runs, about: what its parts make one after another
)


def available() -> int:
    """Return the bytes of memory that this process may still take: what is free, or what its control group leaves it."""
    free = [_free()]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free.append(int(Path("/sys/fs/cgroup", limit).read_text()) - int(Path("/sys/fs/cgroup", used).read_text()))
        except (OSError, ValueError):  # no such group, or no limit
            continue
    return max(0, min(free))


def _free() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # not Linux: all there is


def resident() -> int:
    """Return the bytes that this process takes now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def fits(
    folder: Path, *, device: str = "auto", dtype: str = "auto", memory: int | None = None, models: int = 1
) -> bool:
    """Whether a folder's model, or so many, fit in memory, whole, in the arithmetic of the run; on a GPU in its memory."""
    size = models * size_of(folder, device=device, dtype=dtype)
    return size < RESERVE * room(choose_device(device), memory)


def size_of(folder: Path, *, device: str = "auto", dtype: str = "auto") -> int:
    """Return the bytes that a folder's model takes whole, in the arithmetic of the run."""
    import torch

    width = getattr(torch, choose_dtype(folder, device, dtype)).itemsize
    return sum(one.numbers * (width if one.floating else 8) for one in stored(folder).values())


def room(device: str, memory: int | None = None) -> int:
    """Return the bytes that are free for a model, on a GPU those of its memory; on a CPU of `memory`, if that is set."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return available() if memory is None else memory - resident()


def warn_of_size(folder: Path, *, device: str = "auto", dtype: str = "auto", models: int = 1) -> None:
    """Warn (MonoglotWarning) where a folder's model, or so many, would not fit in memory whole, before it is loaded."""
    if fits(folder, device=device, dtype=dtype, models=models):
        return
    size, free = models * size_of(folder, device=device, dtype=dtype), room(choose_device(device))
    count = "" if models == 1 else f" {models} times"
    warnings.warn(
        f"{folder.name}{count} takes {in_words(size)} in memory, and {in_words(free)} are free: this may be slow, or the "
        "system may end it. Free memory, or run it on a machine with more.",
        MonoglotWarning,
        stacklevel=2,
    )


def plan_layers(layered: "Layered", tokens: int, memory: int | None) -> tuple[bool, int]:
    """Return whether the next layer may be read while one computes, and the bytes that are left for hidden states.

    `tokens` are those of a batch; `memory` is what the process may take in all, None what is available. Raises ModelError
    when there is no room for one layer.
    """
    import torch

    left = available() if memory is None else memory - resident()
    skeleton = layered.skeleton
    largest, work = max(layered.sizes), _work(layered, tokens)
    room = left
    if skeleton.device.type == "cuda":
        room = int(RESERVE * torch.cuda.mem_get_info(skeleton.device)[0])
    if largest + work > room:
        raise ModelError(
            f"there is no room for one layer: it takes {in_words(largest)}, and a batch of {tokens:,} tokens about "
            f"{in_words(work)} beside it; {in_words(room)} are left. Give more `memory`, or a smaller `batch_size` or "
            "`context`."
        )
    ahead = 2 * largest + work <= room
    if skeleton.device.type != "cuda":
        left -= (1 + ahead) * largest + work
    return ahead, max(0, left)


def _work(layered: "Layered", tokens: int) -> int:
    """Return the bytes that a batch takes while a layer runs, about."""
    config: Any = layered.skeleton.model.config.get_text_config()
    hidden = getattr(config, "hidden_size", 1)
    item: int = layered.skeleton.floats.itemsize
    return tokens * WORK * int(hidden) * item


def in_words(size: int) -> str:
    """Write a number of bytes for a person."""
    size = max(0, size)
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size:,} bytes"
