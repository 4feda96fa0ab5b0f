"""Where a config and its file say the same thing, they agree: sizes are numbers, and the file's are those of the config.

A config that says something else was changed by hand, or is another model's. What transformers makes of it is anybody's
guess: with `"num_hidden_layers": 0` it builds a model without layers, and says nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CheckpointError
from ..files.checkpoint import Checkpoint
from .families import COUNTS
from .identity import Block
from .networks import SHARED
from .routers import bias_of

DOUBLE = "use_double_wide_mlp"  # of Gemma 4: some layers are twice as wide
INPUTS = (
    "embed_tokens",
    "word_embeddings",
    "embed_in",
    "wte",
    "embeddings",
    "w",
)  # the table of token embeddings, beside the layers
# Model types whose experts are as wide as `intermediate_size` says, and keys for the network beside the experts.
WIDE = (
    "olmoe", "flex_olmo", "cohere2_moe", "granitemoe", "granitemoe_swa", "granitemoeshared", "granitemoehybrid",
    "hunyuan_v1_moe", "mixtral", "phimoe", "minimax", "minimax_m2", "jamba", "aria_text", "gpt_oss",
)  # fmt: skip
SHARED_WIDTHS = ("shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size")
PREFIX = "prefix_dense_intermediate_size"  # of Cohere 2's mixture: the width of its dense layers
EDITED = ("F32", "F16", "BF16")  # dtypes of what can be edited
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size")
DENSE = "first_k_dense_replace"
LAYER = re.compile(r"\.(\d+)\.")
TIED = "tie_word_embeddings"


def check_agreement(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    prefix: str,
    hidden: int,
    width: str | None,
    usual: Sequence[Block],
) -> None:
    """Raise CheckpointError where a config's sizes are none, or not those of the table and of the `usual` networks.

    `prefix` is that of the decoder's tensors, `hidden` the width of what the networks write, `width` the key that says how
    many neurons they have.
    """
    _check_kinds(checkpoint, config)
    if config.get("hidden_size", hidden) != hidden:
        raise CheckpointError(
            f"{checkpoint.folder}: the config says vectors of {config['hidden_size']} numbers (hidden_size), the networks "
            f"write {hidden}. Download the model again."
        )
    _check_table(checkpoint, config, prefix)
    width = PREFIX if config.get(PREFIX) else width
    said = config.get(width) if width else None
    if type(said) is not int:
        return
    allowed = (said, 2 * said) if config.get(DOUBLE) else (said,)
    for block in usual:
        if block.width not in allowed:
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {said} neurons a layer ({width}), layer {block.layer} has "
                f"{block.width}. Download the model again."
            )


def numbers_of_experts(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of experts that a config says, by key."""
    return {key: number for key in COUNTS[:-1] if isinstance(number := config.get(key), int) and number > 1}


def check_experts(checkpoint: Checkpoint, config: Mapping[str, Any], model_type: str, blocks: Sequence[Block]) -> None:
    """Raise CheckpointError when an expert is missing, or the config says another number or width of experts."""
    said = numbers_of_experts(config)
    keys = ("moe_intermediate_size", *(("intermediate_size",) if model_type in WIDE else ()))
    width = next((key for key in keys if type(config.get(key)) is int), None)
    shared = next((key for key in SHARED_WIDTHS if type(config.get(key)) is int), None)
    by_layer: dict[int, list[Block]] = {}
    for block in blocks:
        if block.expert:
            by_layer.setdefault(block.layer, []).append(block)
        elif block.part == SHARED and shared and block.width != config[shared]:
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {config[shared]} neurons beside the experts ({shared}), layer "
                f"{block.layer} has {block.width}. Download the model again."
            )
    for layer, experts in by_layer.items():
        numbers = [int(block.part) for block in experts]
        if missing := set(range(max(numbers) + 1)) - set(numbers):
            raise CheckpointError(
                f"{checkpoint.folder}: layer {layer} has no expert {min(missing)} ({len(numbers)} are there). A shard is "
                "missing or damaged: download the model again."
            )
        if other := next((key for key, count in said.items() if count != len(numbers)), None):
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {said[other]} experts ({other}), layer {layer} has {len(numbers)}. "
                "Download the model again."
            )
        odd = next((block for block in experts if width and block.width != config[width]), None)
        if odd and width:
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {config[width]} neurons an expert ({width}), expert {odd.part} of "
                f"layer {layer} has {odd.width}. Download the model again."
            )
    _check_beginning(checkpoint, config, set(by_layer))
    _check_routers(checkpoint, model_type, set(by_layer))


def _check_beginning(checkpoint: Checkpoint, config: Mapping[str, Any], sparse: set[int]) -> None:
    """Raise CheckpointError when the layers with experts begin elsewhere than the config says."""
    said = config.get(DENSE)
    if type(said) is not int or not sparse or config.get("moe_layer_freq", 1) != 1:
        return
    if (first := min(sparse)) != said:
        raise CheckpointError(
            f"{checkpoint.folder}: the config says {said} layers without experts ({DENSE}), the first that has some is layer "
            f"{first}. Download the model again."
        )


def _check_routers(checkpoint: Checkpoint, model_type: str, sparse: set[int]) -> None:
    """Raise CheckpointError when some routers of a family have the bias that chooses experts, and others don't."""
    bias = bias_of(model_type)
    if not bias or not sparse:
        return
    names = (tensor.name for _, tensor in checkpoint.tensors() if tensor.name.endswith(f".{bias}"))
    layers = {int(number[1]) for name in names if (number := LAYER.search(name))} & sparse
    if layers and (without := sparse - layers):
        raise CheckpointError(
            f"{checkpoint.folder}: layer {min(without)} has no {bias}, others have. A shard is missing or damaged: "
            "download the model again."
        )


def _check_kinds(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a size that is no positive whole number, and for a tie that is neither true nor false."""
    for key in SIZES:
        if key in config and not (type(config[key]) is int and config[key] > 0):
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {key} is {config[key]!r}, which is no positive whole number. "
                "Download the model again."
            )
    if not isinstance(config.get(TIED), bool | None):
        raise CheckpointError(
            f"{checkpoint.folder}: the config says {TIED} is {config[TIED]!r}, which is neither true nor false. "
            "Download the model again."
        )


def _check_table(checkpoint: Checkpoint, config: Mapping[str, Any], prefix: str) -> None:
    """Raise CheckpointError when the table of token embeddings is not as large as the config says."""
    names = {f"{prefix}{name}.weight" for name in INPUTS}
    for _, tensor in checkpoint.tensors():
        if tensor.name not in names or tensor.dtype not in EDITED or len(tensor.shape) != 2:
            continue
        rows = tensor.shape[0]
        if config.get("vocab_size", rows) > rows:
            raise CheckpointError(
                f"{checkpoint.folder}: the config says {config['vocab_size']} tokens (vocab_size), {tensor.name} has {rows} "
                "rows. Download the model again."
            )
