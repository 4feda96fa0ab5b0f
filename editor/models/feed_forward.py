"""The feed-forward networks of one checkpoint: found in its files by the names that the table of families has.

Layers, experts and widths are counted in the file; where the config says otherwise, one of the two is damaged or not what
it seems, and that is an error. Tensors that are not the decoder's (a vision or audio tower, a head that drafts tokens) are
passed by; a part of a network that the table does not have is refused, for an edit of the parts that are known would then
be an edit of something else than a neuron.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import CheckpointError, ModelError
from ..files.checkpoint import Checkpoint, Shard, Tensor
from .agreement import EDITED, check_agreement, check_experts, numbers_of_experts
from .families import TEXT_PREFIX, Family, family_of, text_config
from .identity import Block
from .networks import EXPERTS, Network, with_slabs
from .routers import bias_of, check_biases

EXPERT_PART = re.compile(r"(^|\.)(experts?\.|[a-z_]*_moe\.(in|out)put_linear)")  # of a tensor's name
NUMBER = re.compile(r"(?<=experts\.)([0-9]{1,5})(?=\.)|(?<=\[)([0-9]{1,5})(?=\]$)")
DRAFTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")  # layers behind the last that draft tokens
DRAFTING = ("enorm.weight", "hnorm.weight", "eh_proj.weight")  # what such a layer has, and no other


class Located(NamedTuple):
    """A block with the network that it is laid out as, and its W_out in the file."""

    block: Block
    network: Network
    output: tuple[Shard, Tensor]


@dataclass(frozen=True)
class FeedForward:
    """The networks of one checkpoint.

    Its family, the names' prefix in the file, how many decoder layers it has, d, and its blocks: by layer, in the order
    of the family's networks, experts by number.
    """

    family: Family
    model_type: str
    prefix: str
    layers: int
    hidden: int
    located: tuple[Located, ...]

    @property
    def networks(self) -> tuple[Block, ...]:
        """Its blocks."""
        return tuple(each.block for each in self.located)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The same, or none where every layer has one of the same width: what a ModelInfo says of it."""
        alike = tuple(Block(layer, self.width) for layer in range(self.layers))
        return () if self.networks == alike else self.networks

    @property
    def width(self) -> int:
        """Neurons of the widest block."""
        return max(each.block.width for each in self.located)

    @property
    def neurons(self) -> int:
        return sum(each.block.width for each in self.located)

    @property
    def outputs(self) -> tuple[tuple[Shard, Tensor], ...]:
        """W_out of each block."""
        return tuple(each.output for each in self.located)

    @property
    def mixture(self) -> bool:
        return any(each.block.expert for each in self.located)

    def name(self, projection: str, number: int, kind: str = "weight") -> str:
        """Name a projection of a block as the file does, for example "mlp.up_proj" of block 3."""
        block, network = self.located[number].block, self.located[number].network
        tensor = network.tensor(projection, kind, block.part if block.expert else None)
        return f"{self.prefix}{self.family.layer.format(block.layer)}.{tensor}"

    def router_bias(self, layer: int) -> str | None:
        """Name the bias of the router of a layer, None where the family's routers have none."""
        bias = bias_of(self.model_type)
        return f"{self.prefix}{self.family.layer.format(layer)}.{bias}" if bias else None


def unstacked(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its stacked experts as tensors of their own (see `networks`). Raises ModelError."""
    family = family_of(checkpoint.config)
    stacked = {
        network.tensor(projection, kind): 3 if kind == "weight" else 2
        for network in family.networks
        if network.stacked
        for projection in network.projections
        for kind in ("weight", "bias")
    }
    stacked |= {  # quantised: groups of numbers, and their scales
        f"{projection}_{kind}": dimensions
        for network in family.networks
        if network.stacked and network.bare
        for projection in network.projections
        for kind, dimensions in (("blocks", 4), ("scales", 3))
    }
    if not stacked:
        return checkpoint
    pattern = re.compile(rf"{TEXT_PREFIX.pattern}{family.layer_pattern}\.(?P<rest>.+)")

    ends = tuple(stacked)

    def is_stacked(tensor: Tensor) -> bool:
        if not tensor.name.endswith(ends):  # of most tensors that is all there is to ask
            return False
        match = pattern.fullmatch(tensor.name)
        return bool(match) and stacked.get(match["rest"]) == len(tensor.shape)  # type: ignore[index]

    return replace(checkpoint, shards=tuple(with_slabs(shard, is_stacked) for shard in checkpoint.shards))


def locate(checkpoint: Checkpoint) -> FeedForward:
    """Find the networks of a checkpoint.

    Raises ModelError when the family or a part of a network is unknown, or a tensor's dtype is none that can be edited,
    CheckpointError when layers or experts are missing, or config and file disagree.
    """
    checkpoint = unstacked(checkpoint)
    family = family_of(checkpoint.config)
    config = text_config(checkpoint.config)
    model_type = str(config["model_type"])
    named = list(_named(checkpoint, family))
    prefix, outputs = _outputs(checkpoint, family, model_type, named)
    layers = _layers(checkpoint, family, config, outputs, named)
    located = []
    hidden = 0
    for (layer, _, _), (network, expert, shard, tensor) in sorted(outputs.items()):
        if layer >= layers:
            continue
        if tensor.dtype not in EDITED:
            raise ModelError(
                f"{checkpoint.folder}: {tensor.name} is stored as {tensor.dtype}; monoglot edits float32, float16 and "
                "bfloat16. Use the unquantised checkpoint."
            )
        size = tensor.shape[1 - network.neuron_axis] if len(tensor.shape) == 2 else None
        hidden = hidden or size or 0
        if size is None or size != hidden or not tensor.shape[network.neuron_axis]:
            raise CheckpointError(
                f"{checkpoint.folder}: {tensor.name} has shape {list(tensor.shape)}, layer 0 has "
                f"{list(outputs[min(outputs)][3].shape)}. monoglot expects networks that write to the same residual stream."
            )
        part = str(expert) if network.part == EXPERTS else network.part
        located.append(Located(Block(layer, tensor.shape[network.neuron_axis], part), network, (shard, tensor)))
    found = FeedForward(family, model_type, prefix, layers, hidden, tuple(located))
    own = [each for each in named if each.prefix == prefix and each.layer < layers]
    usual = [each.block for each in found.located if not each.network.part]
    check_agreement(checkpoint, config, found.prefix, found.hidden, family.width, usual)
    check_experts(checkpoint, config, model_type, found.networks)
    if found.mixture:
        names = ((each.name, each.tensor.name) for each in own if each.expert < 0)
        check_biases(checkpoint.folder, model_type, config, names)
    _check_whole(checkpoint, found, own)
    _check_dense(checkpoint, found, config)
    return found


class Named(NamedTuple):
    """A tensor of a layer, by the parts of its name.

    What stands before the layer's name, the layer's number, the rest of the name with `{}` for the number of an expert,
    and that number, −1 where there is none.
    """

    prefix: str
    layer: int
    name: str
    expert: int
    shard: Shard
    tensor: Tensor


def _named(checkpoint: Checkpoint, family: Family) -> Iterator[Named]:
    """Yield the tensors of text towers' layers."""
    pattern = re.compile(rf"(?P<prefix>{TEXT_PREFIX.pattern}){family.layer_pattern}\.(?P<rest>.+)")
    parts: dict[str, tuple[str, int]] = {}  # of the rest of a name, which is the same in every layer
    for shard, tensor in checkpoint.tensors():
        if match := pattern.fullmatch(tensor.name):
            prefix, layer, rest = match.group("prefix", "layer", "rest")
            if rest not in parts:
                number = NUMBER.search(rest)
                parts[rest] = (
                    (f"{rest[: number.start()]}{{}}{rest[number.end() :]}", int(number[0])) if number else (rest, -1)
                )
            yield Named(prefix, int(layer), *parts[rest], shard, tensor)


Outputs = dict[tuple[int, int, int], tuple[Network, int, Shard, Tensor]]


def _outputs(checkpoint: Checkpoint, family: Family, model_type: str, named: Sequence[Named]) -> tuple[str, Outputs]:
    """Return the prefix of the decoder's names, and its W_out by layer, network and expert."""
    known: dict[str, list[Network]] = {}
    for network in family.networks:
        known.setdefault(network.tensor(network.out, "weight", "{}"), []).append(network)
    hidden = text_config(checkpoint.config).get("hidden_size")
    found: dict[str, Outputs] = {}
    for prefix, layer, name, expert, shard, tensor in named:
        if name in known:
            network = known[name][0]
            if len(known[name]) > 1:  # where files of a family lie in two ways, the shape tells
                own_axes = (
                    one for one in known[name] if tensor.shape[1 - one.neuron_axis : 2 - one.neuron_axis] == (hidden,)
                )
                network = next(own_axes, network)
            key = (layer, 0 if not network.part else 1 if network.part != EXPERTS else 2, expert)
            if key in (own := found.setdefault(prefix, {})):
                raise CheckpointError(
                    f"{checkpoint.folder}: {tensor.name} and {own[key][3].name} are the same network in two layouts. "
                    "Download the model again."
                )
            own[key] = (network, expert, shard, tensor)
    if len(found) != 1:
        wanted = " or ".join(
            f"{family.layer.format('*')}.{network.tensor(network.out, 'weight', '*')}" for network in family.networks
        )
        several = f"several of its towers have {wanted}: {', '.join(sorted(found))}"
        raise CheckpointError(
            f"{checkpoint.folder} calls itself {model_type}, but {several if found else f'has no {wanted}'}. Use the "
            "original checkpoint of the model, or correct model_type in its config."
        )
    ((prefix, outputs),) = found.items()
    return prefix, outputs


def _layers(
    checkpoint: Checkpoint, family: Family, config: Mapping[str, Any], outputs: Outputs, named: Sequence[Named]
) -> int:
    """How many layers the decoder has; layers behind them that draft tokens are not counted."""
    present = {layer for layer, _, _ in outputs}
    layers = max(present) + 1
    said = config.get("num_hidden_layers")
    wanted = f"{family.layer.format('*')}.{next(iter(outputs.values()))[0].out}.weight"
    if isinstance(said, int) and said > 0:
        drafts = max((value for key in DRAFTS if isinstance(value := config.get(key), int)), default=0)
        behind = set(range(said, layers))
        if behind:
            behind -= {each.layer for each in named if each.name in DRAFTING}
        if layers > said + drafts or behind or (layers < said and not family.gaps):
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {said} layers, the file has {layers}. Download the model again."
            )
        layers = said
    if not family.gaps and (missing := set(range(layers)) - present):
        raise CheckpointError(f"{checkpoint.folder}: layer {min(missing)} has no {wanted}. Download it again.")
    return layers


def _check_dense(checkpoint: Checkpoint, found: FeedForward, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError when the config says that there are experts, and the file has none."""
    meant = found.family.mixed is None or config.get(found.family.mixed)
    if (said := numbers_of_experts(config)) and meant and not found.mixture and not found.family.gaps:
        raise CheckpointError(
            f"{checkpoint.folder}: the config says {next(iter(said.values()))} experts, the file has none. Download the "
            "model again."
        )


def _check_whole(checkpoint: Checkpoint, found: FeedForward, named: Sequence[Named]) -> None:
    """Raise for networks that are not as the family has them; `named` are the tensors of the decoder's layers.

    ModelError for experts or parts of a network that the family doesn't have, CheckpointError for a projection that one
    of a mixture lacks.
    """
    networks = dict.fromkeys((each.block.layer, each.network) for each in found.located)
    known = {
        (layer, network.tensor(projection, kind, "{}"))
        for layer, network in networks
        for projection in network.projections
        for kind in ("weight", "bias")
    }
    there = defaultdict(set)
    for _, layer, name, expert, _, _ in named:
        there[layer, name].add(expert)
    for layer, network in networks if found.mixture else ():
        outputs = there[layer, network.tensor(network.out, "weight", "{}")]
        for projection in network.projections:
            if missing := outputs - there[layer, network.tensor(projection, "weight", "{}")]:
                lacking = network.tensor(projection, "weight", min(missing))
                raise CheckpointError(
                    f"{checkpoint.folder} has no {found.prefix}{found.family.layer.format(layer)}.{lacking}. Download the "
                    "model again."
                )
    places = {
        (layer, network.out.rpartition(".")[0]): network.activation
        for layer, network in networks
        if network.part != EXPERTS and "." in network.out
    }
    for _, layer, name, _, _, tensor in named:
        if (layer, name) in known:
            if tensor.dtype not in EDITED:
                raise ModelError(
                    f"{checkpoint.folder}: {tensor.name} is stored as {tensor.dtype}; monoglot edits float32, float16 and "
                    "bfloat16. Use the unquantised checkpoint."
                )
            continue
        if EXPERT_PART.search(name) and not name.endswith("e_score_correction_bias"):
            raise ModelError(
                f"{checkpoint.folder} is a mixture of experts in a layout that {found.model_type} models are not known to "
                f"have: {tensor.name}. Use the original checkpoint of the model."
            )
        place = name
        while place := place.rpartition(".")[0]:
            activation = places.get((layer, place))
            if activation is not None and not name.startswith(f"{activation}."):
                raise ModelError(
                    f"{checkpoint.folder}: the feed-forward network has a part that {found.model_type} models don't have, "
                    f"{tensor.name}. monoglot can't tell what a neuron is there. Use the original checkpoint of the model."
                )
