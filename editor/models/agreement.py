"""Where a config and its file say the same thing, they agree: sizes are numbers, and the file's are those of the config.

A config that says something else was changed by hand, or is another model's. What transformers makes of it is anybody's
guess: with `"num_hidden_layers": 0` it builds a model without layers, and says nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CheckpointError
from ..files.checkpoint import Checkpoint
from .identity import Block

DOUBLE = "use_double_wide_mlp"  # of Gemma 4: some layers are twice as wide
INPUTS = (
    "embed_tokens",
    "word_embeddings",
    "embed_in",
    "wte",
    "embeddings",
    "w",
)  # the table of token embeddings, beside the layers
EDITED = ("F32", "F16", "BF16")  # dtypes of what can be edited
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size")
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
