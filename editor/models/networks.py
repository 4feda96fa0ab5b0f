"""How one feed-forward network lies in a file: the names of its projections, and where a neuron is in each.

Names are relative to the layer. A neuron's column of the output projection W_out is

    Linear   weight (d, d_ff): column j         Conv1D, or transposed   weight (d_ff, d): row j

The experts of a mixture are networks of one layer. Each has tensors of its own (`{}` stands for its number), or all are
stacked in one, their number first. A stacked tensor is read as its slabs, one an expert, called `name[17]`: their bytes lie
one after another, so a slab is a tensor like any other, and nothing that edits or compares tensors needs to know.
"""

from dataclasses import dataclass, replace
from typing import Any

from ..files.checkpoint import Shard, Tensor

SHARED = "shared"
EXPERTS = "experts"


@dataclass(frozen=True)
class Network:
    """The layout of one feed-forward network in a file.

    `into` is the projection whose output goes through the activation function (gate, or in); a fused network holds gate
    and up in one tensor, gate half first, or, interleaved, a row of each in turn.
    """

    into: str = "mlp.gate_proj"
    up: str | None = "mlp.up_proj"
    out: str = "mlp.down_proj"
    activation: str = "mlp.act_fn"  # module whose output is a_j; of experts the module that runs them all
    fused: bool = False
    conv1d: bool = False  # weights are (in, out)
    inline: bool = False  # transformers computes the activation function without a module: `live.modules` adds one
    part: str = ""  # which of a layer's networks: "" the only one, SHARED, or EXPERTS
    stacked: bool = False
    bare: bool = False  # its tensors' names do not end in .weight, and those of its biases do in _bias
    interleaved: bool = False

    @property
    def gated(self) -> bool:
        return self.up is not None or self.fused

    @property
    def neuron_axis(self) -> int:
        """The axis of W_out's weight along which neurons lie; in W_in and W_up it is the other one."""
        return 0 if self.conv1d else 1

    @property
    def projections(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.into, self.up, self.out)))

    def module(self, projection: str) -> str:
        """Name the module of a projection within its layer in transformers, where that is not what its file calls it."""
        if self.part != SHARED:
            return projection
        return f"{self.activation.rpartition('.')[0]}.{projection.rpartition('.')[2]}"

    def tensor(self, projection: str, kind: str = "weight", expert: int | str | None = None) -> str:
        """Name a tensor within its layer; of a stacked one without an `expert`, the whole."""
        suffix = f".{kind}" if not self.bare else "_bias" if kind == "bias" else ""
        if self.stacked:
            return f"{projection}{suffix}" + ("" if expert is None else f"[{expert}]")
        return f"{projection if expert is None else projection.format(expert)}{suffix}"

    def row_of(self, neurons: Any, width: int, *, up: bool) -> Any:
        """Return where neurons lie in the input projection (`up`: in that of W_up).

        That is the number of a row, or of a column where weights are (in, out). `neurons` is a number or an array of them.
        """
        if self.interleaved:
            return 2 * neurons + (1 if up else 0)
        return neurons + (width if up and self.fused else 0)


def gated(path: str, live: str | None = None, *, part: str = SHARED) -> Network:
    """Return a network of three projections with the usual names below `path`; `live` is its path in transformers."""
    into, up, out = (f"{path}.{name}_proj" for name in ("gate", "up", "down"))
    return Network(into, up, out, f"{live or path}.act_fn", part=part)


def slabs(tensor: Tensor) -> list[Tensor]:
    """Return a stacked tensor as its experts' parts, which are one after another in the file."""
    count = tensor.shape[0]
    size = (tensor.end - tensor.begin) // max(1, count)
    return [
        tensor._replace(
            name=f"{tensor.name}[{number}]",
            shape=tensor.shape[1:],
            begin=tensor.begin + number * size,
            end=tensor.begin + (number + 1) * size,
        )
        for number in range(count)
    ]


def with_slabs(shard: Shard, stacked: Any) -> Shard:
    """Return the shard with its stacked tensors, those for which `stacked(tensor)` is true, as slabs."""
    if not any(map(stacked, shard.tensors)):
        return shard
    parts = (slabs(tensor) if stacked(tensor) else [tensor] for tensor in shard.tensors)
    return replace(shard, tensors=tuple(part for each in parts for part in each))
