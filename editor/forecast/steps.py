"""A forecast: the steps of a command, with the time, memory and disk that each is expected to take."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.output import absolute


@dataclass(frozen=True)
class Step:
    """What a step does, in words; about how many seconds it takes, and bytes of memory. `most` says that it may take less."""

    name: str
    what: str
    seconds: float
    memory: float
    most: bool = False


@dataclass(frozen=True)
class Forecast:
    """What a command would do to `model`, whose files have `weights` bytes.

    `tokens` are those that are read of each language, to find neurons and then to measure. `disk` is by place: bytes that are
    written there, and bytes that are free. `available` is the memory that is free now on the device that the model runs on,
    None where that is not known; `dtype` is None where it does not run.
    """

    model: str
    weights: int
    tokens: Mapping[str, int]
    steps: tuple[Step, ...]
    disk: Mapping[str, tuple[int, int]]
    device: str
    dtype: str | None
    available: int | None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def memory(self) -> float:
        return max((step.memory for step in self.steps), default=0.0)

    @property
    def problems(self) -> list[str]:
        """What there is too little of."""
        found = [
            f"{place} has {free / 1e9:.2f} GB free, {need / 1e9:.2f} GB are needed."
            for place, (need, free) in self.disk.items()
            if need > free
        ]
        if self.available is not None and self.memory > self.available:
            found.append(f"{self.available / 1e9:.1f} GB of memory are free, {self.memory / 1e9:.1f} GB are needed.")
        return found

    def to_data(self) -> dict[str, Any]:
        """Return it as the command prints it with --json."""
        return {
            "model": self.model,
            "weights": self.weights,
            "device": self.device,
            "dtype": self.dtype,
            "tokens": dict(self.tokens),
            "steps": [
                {"step": step.name, "what": step.what, "seconds": round(step.seconds, 1), "at_most": step.most,
                 "memory": round(step.memory)}
                for step in self.steps
            ],
            "seconds": round(self.seconds, 1),
            "memory": {"needed": round(self.memory), "free": self.available},
            "disk": {place: {"needed": need, "free": free} for place, (need, free) in self.disk.items()},
            "notes": list(self.notes),
            "problems": self.problems,
        }  # fmt: skip


def with_free(needs: Mapping[Path, int]) -> dict[str, tuple[int, int]]:
    """Put beside the bytes that each place needs those that are free there."""
    found = {}
    for place, need in needs.items():
        folder = absolute(place).parent
        while not folder.is_dir():
            folder = folder.parent
        found[str(place)] = (need, shutil.disk_usage(folder).free)
    return found


def free_memory(device: str) -> int | None:
    """Return the bytes of memory that a device has free now, None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
