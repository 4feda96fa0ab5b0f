"""Recording the residual stream, and the size of what the feed-forward networks add to it (see `language_sums`)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, StatisticsError
from ..live.load import hooked
from ..live.modules import output_modules
from ..models.families import Family
from .language_sums import Float64
from .statistics import SUM_GRID

if TYPE_CHECKING:
    import torch


class ResidualSums:
    """Adds up what `layers` put out, by number, and what the first of all is given, batch by batch.

    They go into `residual`, (all layers + 1, d), whose first row is the embedding's; the root mean squares of what `outputs`
    put out, by layer too, into `size`, (all layers,), where there is such an array. Only `commit` adds.
    """

    def __init__(
        self, layers: Mapping[int, Any], outputs: Mapping[int, Any], residual: Float64, size: Float64 | None
    ) -> None:
        self.layers, self.outputs = layers, outputs if size is not None else {}
        self.residual, self.size = residual, size
        self._rows: dict[int, Float64] = {}
        self._sizes: dict[int, float] = {}
        self._shape = (0, 0)
        self._skip = 1

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._after(number)) for number, module in self.layers.items()]
        if 0 in self.layers:
            handles.append(self.layers[0].register_forward_pre_hook(self._before, with_kwargs=True))
        handles += [module.register_forward_hook(self._written(number)) for number, module in self.outputs.items()]
        with hooked(handles):
            yield

    def start(self, batch: int, length: int, skip: int) -> None:
        """Before a forward pass: the first position of a context is like no other, so it is left out in any case."""
        self._shape, self._skip = (batch, length), max(skip, 1)
        self._rows.clear()
        self._sizes.clear()

    def commit(self) -> None:
        """Add the pass, rounded to the grid. Raises StatisticsError when there was NaN or infinity."""
        for row, own in sorted(self._rows.items()):
            if not np.isfinite(own).all():
                raise StatisticsError(
                    f"{f'layer {row - 1}' if row else 'the embedding'} puts out NaN or infinity. Try `dtype` float32; if it "
                    "stays, the checkpoint is broken."
                )
            self.residual[row] += np.rint(own * SUM_GRID) / SUM_GRID
        for layer, size in self._sizes.items():
            if self.size is not None:
                self.size[layer] += np.rint(size * SUM_GRID) / SUM_GRID

    def _counted(self, states: "torch.Tensor") -> "torch.Tensor":
        """Return the counted rows, (batch, counted, d): where there are several streams side by side, those of the first."""
        states = states.detach()
        states = states if states.dim() < 4 else states[0]
        return states.reshape(*self._shape, states.shape[-1])[:, self._skip :]

    def _sum(self, states: "torch.Tensor") -> Float64:
        rows = self._counted(states)
        if rows.device.type == "mps":  # Apple's GPUs have no float64
            rows = rows.cpu()
        return rows.double().sum((0, 1)).cpu().numpy()

    def _before(self, module: Any, inputs: Any, named: Any) -> None:
        self._rows[0] = self._sum(inputs[0] if inputs else named["hidden_states"])

    def _after(self, layer: int) -> Callable[[Any, Any, Any], None]:
        def record(module: Any, inputs: Any, output: Any) -> None:
            self._rows[layer + 1] = self._sum(output[0] if isinstance(output, tuple) else output)

        return record

    def _written(self, layer: int) -> Callable[[Any, Any, "torch.Tensor"], None]:
        def record(module: Any, inputs: Any, output: "torch.Tensor") -> None:
            self._sizes[layer] = float(self._counted(output).float().square().mean(-1).sqrt().double().sum().item())

        return record


def outputs_by_layer(model: Any, family: Family, layers: int) -> dict[int, Any]:
    """Return the output projection of each layer's network; none where some layer has no such network of its own."""
    try:
        found = output_modules(model, family)
    except ModelError:
        return {}
    return dict(enumerate(found)) if len(found) == layers else {}
