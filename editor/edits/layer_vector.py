"""A vector that is added after a layer, and by what: what the edit of the file shares with the hooks that check it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerVector:
    """A vector after a layer, in the number of the layer's block.

    `value` is what is wanted, `added` what goes into the network's output, both float64 (d,); `slot` the neuron that
    carries it, None where a bias does; `norm` the name of the norm's weight, which, `offset` added, is multiplied by `gain`.
    """

    layer: int
    block: int
    value: Float64
    added: Float64
    slot: int | None = None
    norm: str | None = None
    offset: float = 0.0
    gain: float = 1.0

    @property
    def exact(self) -> bool:
        return self.slot is None and self.norm is None
