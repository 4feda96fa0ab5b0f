"""Recording the moments of what the feed-forward networks read (see `inputs`).

They need memory: 8 · layers · d² bytes for the sums, as much again for a batch that is not yet added, and as much again
when they are saved: 0.2 GB in all for 18 layers of d = 640, 13 GB for 32 layers of d = 4096.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StatisticsError
from ..live.load import hooked
from .inputs import Float64
from .statistics import SUM_GRID

if TYPE_CHECKING:
    import torch

BLOCK = 1024  # tokens multiplied in float32 before they are added in float64


class Moments:
    """Adds up what goes into `modules`, batch by batch, into `second` (layers, d, d), `first` and `begin` (layers, d).

    A batch is multiplied where the model is: on a CPU in float64, elsewhere in float32 in blocks of BLOCK tokens whose
    products are added in float64. It is added here only when the whole pass has succeeded.
    """

    def __init__(
        self, modules: Sequence[Any], second: Float64, first: Float64, begin: Float64, own: Float64 | None = None
    ) -> None:
        self.modules, self.second, self.first, self.begin = modules, second, first, begin
        self.own = own  # of the language at hand, to which `first` is added as well
        self.number = 0  # of the first of them, for messages
        self._pending: dict[int, tuple[Float64, Float64, Float64]] = {}
        self._shape = (0, 0)
        self._skip = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = [module.register_forward_pre_hook(self._hook(layer)) for layer, module in enumerate(self.modules)]
        with hooked(handles):
            yield

    def start(self, batch: int, length: int, skip: int) -> None:
        self._shape, self._skip = (batch, length), skip

    def commit(self) -> None:
        """Take in what was added. Raises StatisticsError when an input was NaN or infinite."""
        for layer, (second, first, begin) in sorted(self._pending.items()):
            if not (np.isfinite(second).all() and np.isfinite(begin).all()):
                raise StatisticsError(
                    f"layer {self.number + layer} reads NaN or infinity. Try `dtype` float32; if it stays, the checkpoint "
                    "is broken."
                )
            self.second[layer] += second
            self.first[layer] += first
            if self.own is not None:
                self.own[layer] += first
            self.begin[layer] += begin
        self._pending.clear()

    def _hook(self, layer: int) -> Callable[[Any, tuple["torch.Tensor", ...]], None]:
        def record(module: Any, inputs: "tuple[torch.Tensor, ...]") -> None:
            contexts = inputs[0].detach().reshape(*self._shape, -1)  # (batch, length, d)
            counted = contexts[:, self._skip :].reshape(-1, contexts.shape[-1])
            begin = contexts[:, : self._skip].float().cpu().numpy().astype(np.float64).sum(axis=(0, 1))
            self._pending[layer] = (*_moments(counted), _on_grid(begin))

        return record


def _moments(x: "torch.Tensor") -> tuple[Float64, Float64]:
    """Σ x xᵀ and Σ x of x, (n, d), on the grid."""
    import torch

    if x.device.type == "cpu":
        # torch's product, not numpy's: threads of the latter would spin, and slow the layer that follows
        exact = x.double()
        return _on_grid((exact.T @ exact).numpy()), _on_grid(exact.sum(0).numpy())
    where = torch.device("cpu") if x.device.type == "mps" else x.device  # Apple's GPUs have no float64
    second = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=where)
    first = torch.zeros(x.shape[1], dtype=torch.float64, device=where)
    for block in torch.split(x.float(), BLOCK):
        second += (block.T @ block).to(where)
        first += block.sum(0).to(where)
    return _on_grid(second.cpu().numpy()), _on_grid(first.cpu().numpy())


def _on_grid(sums: Float64) -> Float64:
    sums *= SUM_GRID
    np.rint(sums, out=sums)
    sums /= SUM_GRID
    return sums
