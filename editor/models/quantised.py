"""Quantised checkpoints as the rest of monoglot sees them: which of their feed-forward weights are stored how."""

import re
from collections.abc import Mapping
from dataclasses import replace

from ..errors import CheckpointError, ModelError
from ..files.checkpoint import Checkpoint, Shard, Tensor
from ..files.packed import Matrix, is_packed, modules_of, quantisation_of
from .families import TEXT_PREFIX, family_of, text_config
from .feed_forward import EXPERT_PART

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def feed_forward_weights(checkpoint: Checkpoint) -> dict[str, Matrix]:
    """Return the weights of the feed-forward networks of a quantised checkpoint, by module; none of one that is not.

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
    layer = re.compile(rf"{TEXT_PREFIX.pattern}{family.layer_pattern}\..+")
    if any(layer.fullmatch(tensor.name) and EXPERT_PART.search(tensor.name) for _, tensor in checkpoint.tensors()):
        raise ModelError(
            f"{checkpoint.folder} is quantised ({quantisation.method}), and a mixture of experts; monoglot edits quantised "
            "weights of dense models only. Edit the original, then quantise the result."
        )
    projections = "|".join(re.escape(each) for each in (family.into, family.up, family.out) if each)
    pattern = re.compile(rf"{TEXT_PREFIX.pattern}{family.layer_pattern}\.({projections})")
    said = f"{checkpoint.folder} is quantised ({quantisation.method})"
    modules = {module: parts for module, parts in modules_of(checkpoint).items() if pattern.fullmatch(module)}
    if not modules:
        raise CheckpointError(
            f"{said}, and no tensors of it are named as that format names feed-forward weights. Download it again, or edit "
            "the original checkpoint, then quantise the result."
        )
    try:
        return {module: quantisation.matrix(module, parts) for module, parts in modules.items()}
    except ModelError as error:
        raise type(error)(f"{said}: {error}") from None


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
    stands_for = {matrix.tensors[0]: (f"{module}.weight", matrix) for module, matrix in packed.items()}
    parts = modules_of(checkpoint)
    hidden = {tensor.name for module in packed for kind, (_, tensor) in parts[module].items() if kind != "bias"}

    def view(shard: Shard) -> Shard:
        tensors = []
        for tensor in shard.tensors:
            if tensor.name in stands_for:
                name, matrix = stands_for[tensor.name]
                tensors.append(Tensor(name, dtype, (matrix.rows, matrix.columns), tensor.begin, tensor.end))
            elif tensor.name not in hidden:
                tensors.append(tensor)
        return replace(shard, tensors=tuple(tensors))

    return replace(checkpoint, shards=tuple(view(shard) for shard in checkpoint.shards))
