"""Quantised checkpoints as the rest of monoglot sees them: which of their feed-forward weights are stored how."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from ..errors import CheckpointError, ModelError
from ..files.checkpoint import Checkpoint, Shard, Tensor
from ..files.packed import Matrix, is_packed, modules_of, quantisation_of
from .families import TEXT_PREFIX, Family, family_of, text_config
from .networks import Network

NUMBER = "[0-9]{1,5}"  # of an expert
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def feed_forward_weights(checkpoint: Checkpoint) -> dict[str, Matrix]:
    """Return the weights of the feed-forward networks of a quantised checkpoint, by module; none of one that is not.

    Experts that lie in one tensor are expected as its slabs (`feed_forward.unstacked`): each is a module of its own.
    Raises ModelError for a format that isn't edited, CheckpointError where the config and the tensors disagree.
    """
    quantisation = quantisation_of(checkpoint.config)
    if quantisation is None:
        return {}
    family = family_of(checkpoint.config)
    if family.conv1d:
        raise ModelError(
            f"{checkpoint.folder} is quantised ({quantisation.method}), and its family lays weights out the other way "
            "round, which monoglot doesn't edit. Edit the original, then quantise the result."
        )
    said = f"{checkpoint.folder} is quantised ({quantisation.method})"
    modules = {module: parts for module, parts in modules_of(checkpoint).items() if network_of(module, family)}
    if not modules:
        raise CheckpointError(
            f"{said}, and no tensors of it are named as that format names feed-forward weights. Download it again, or edit "
            "the original checkpoint, then quantise the result."
        )
    try:
        return {module: quantisation.matrix(module, parts) for module, parts in modules.items()}
    except ModelError as error:
        raise type(error)(f"{said}: {error}") from None


def weight_name(module: str) -> str:
    """Name a module's weight as an unquantised file does: that of an expert in a stack has no suffix."""
    return module if module.endswith("]") else f"{module}.weight"


def network_of(module: str, family: Family) -> Network | None:
    """Return the network that has a module as one of its projections."""
    for pattern, network in _patterns(family):
        if pattern.fullmatch(module):
            return network
    return None


@cache
def _patterns(family: Family) -> tuple[tuple[re.Pattern[str], Network], ...]:
    """Return what modules of each network are called."""
    layer = f"{TEXT_PREFIX.pattern}{family.layer_pattern}"
    found = []
    for network in family.networks:
        names = "|".join(
            re.escape(each).replace(re.escape("{}"), NUMBER) + (rf"\[{NUMBER}\]" if network.stacked else "")
            for each in network.projections
        )
        found.append((re.compile(rf"{layer}\.({names})"), network))
    return tuple(found)


def seen_as_floats(checkpoint: Checkpoint, weights: Mapping[str, Matrix]) -> Checkpoint:
    """Return a checkpoint with one tensor, `module.weight`, for each packed weight, as an unquantised one has.

    Of its shape, and of the dtype that the model computes in. Its bytes are not to be read. What else a format stores
    beside a weight, as scales and the form of its codes, is left out.
    """
    packed = {module: matrix for module, matrix in weights.items() if is_packed(matrix)}
    if not packed:
        return checkpoint
    config = text_config(checkpoint.config)
    named = str(config.get("dtype", config.get("torch_dtype"))).removeprefix("torch.")
    dtype = DTYPES.get(named, "F32")
    family = family_of(checkpoint.config)
    stands_for = {matrix.tensors[0]: (module, matrix) for module, matrix in packed.items()}
    parts = modules_of(checkpoint)
    hidden = {tensor.name for module in packed for kind, (_, tensor) in parts[module].items() if kind != "bias"}

    def view(shard: Shard) -> Shard:
        tensors = []
        for tensor in shard.tensors:
            if tensor.name in stands_for:
                module, matrix = stands_for[tensor.name]
                network = network_of(module, family)
                shape = (matrix.rows, matrix.columns)
                if network and network.conv1d:  # of floats; codes lie the usual way round
                    shape = shape[::-1]
                tensors.append(Tensor(weight_name(module), dtype, shape, tensor.begin, tensor.end))
            elif tensor.name not in hidden:
                tensors.append(tensor)
        return replace(shard, tensors=tuple(tensors))

    return replace(checkpoint, shards=tuple(view(shard) for shard in checkpoint.shards))
