"""A vector that is added after a layer, and by what: what the edit of the file shares with the hooks that check it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerVector:
    """A vector after a layer, in the number of the layer's block.

    `gate` and `up` are the rows of a neuron that reads (see
    `statistics.readers`), `level` its t and `activated` act(t); without them the vector is added on every token.
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
    gate: Float64 | None = None
    up: Float64 | None = None
    level: float = 1.0
    activated: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether the file does what is wanted, up to rounding; what a reader answers is what is wanted of it."""
        return self.norm is None and not self.calibrated

    @property
    def calibrated(self) -> bool:
        """Whether a calibrated direction stands in for the constant 1."""
        return self.slot is not None and self.gate is None
