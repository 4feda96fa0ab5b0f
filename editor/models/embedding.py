"""The table of token embeddings in a checkpoint: where it lies, and whether the output layer is the same table.

    input     embed_tokens, or another name of INPUTS, beside the layers               (V, d), a row per token
    output    lm_head; embed_out in GPT-NeoX, output_projection in BioGPT              (V, d)

Where input and output are *tied*, the file has one table for both. An edit of the input alone needs them *untied*: the
output gets the base's rows as a tensor of its own, and `tie_word_embeddings` in config.json becomes false.
Names are those in the file. Whether a model is tied is read from what the file has, since the default of a config that
doesn't say differs between families: without an output table it is tied.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CheckpointError, ModelError
from ..files import floats
from ..files.checkpoint import Shard, Tensor
from .agreement import INPUTS
from .families import TEXT_CONFIG
from .target import Target

OUTPUTS = {"embed_in": "embed_out", "biogpt": "output_projection"}  # by input or model type; "lm_head" for all others
TIE = "tie_word_embeddings"
WRAPPED = "language_model.model."  # prefix of a text tower that has its output layer inside the wrapper's part
CHUNK = 2**20  # bytes


@dataclass(frozen=True)
class Embedding:
    """The input table, `tensor` (V, d) in `shard`.

    The name of the output table in the file, and whether it is there; whether the output is tied to the input.
    """

    shard: Shard
    tensor: Tensor
    output: str
    has_output: bool
    tied: bool

    @property
    def rows(self) -> int:
        return self.tensor.shape[0]

    @property
    def hidden(self) -> int:
        return self.tensor.shape[1]

    def read(self, ids: Any) -> Any:
        """Read the rows of some tokens, int64 (n,), as float64 (n, d)."""
        stored = np.memmap(self.shard.path, floats.STORED[self.tensor.dtype], "r", self.tensor.begin, self.tensor.shape)
        return floats.to_float64(np.ascontiguousarray(stored[ids]), self.tensor.dtype)


def table_of(target: Target) -> Tensor | None:
    """Return the input table of a model, where there is one in floats with a row for each token."""
    names = {f"{target.feed_forward.prefix}{name}.weight" for name in INPUTS}
    found = [tensor for _, tensor in target.checkpoint.tensors() if tensor.name in names]
    right = len(found) == 1 and len(found[0].shape) == 2 and found[0].dtype in floats.STORED
    return found[0] if right else None


def open_embedding(target: Target) -> Embedding:
    """Find the input table of a model.

    Raises ModelError when there is none or it is quantised, CheckpointError when config and file contradict each other.
    """
    prefix = target.feed_forward.prefix
    tensors = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    found = [name for name in INPUTS if f"{prefix}{name}.weight" in tensors]
    if len(found) != 1:
        raise ModelError(
            f"{target.source.name} has no table of token embeddings that is known here: none of "
            f"{', '.join(f'{prefix}{name}.weight' for name in INPUTS)}. Its tokens cannot be redirected."
        )
    shard, tensor = tensors[f"{prefix}{found[0]}.weight"]
    if tensor.dtype not in floats.STORED or len(tensor.shape) != 2:
        raise ModelError(
            f"{target.source.name}: {tensor.name} is stored as {tensor.dtype} of shape {list(tensor.shape)}; only tables of "
            "float32, float16 or bfloat16 can be edited. Use the unquantised checkpoint."
        )
    inside = "language_model." if prefix == WRAPPED else ""
    named = OUTPUTS.get(target.feed_forward.model_type) or OUTPUTS.get(found[0], "lm_head")
    output = f"{inside}{named}.weight"
    has_output = output in tensors
    return Embedding(shard, tensor, output, has_output, _tied(target, tensors, tensor.name, output))


def _tied(target: Target, tensors: dict[str, tuple[Shard, Tensor]], name: str, output: str) -> bool:
    if output not in tensors:
        return True
    config = target.checkpoint.config
    nested = config.get(TEXT_CONFIG)
    said = config.get(TIE, nested.get(TIE) if isinstance(nested, dict) else None)
    if said is False:
        return False
    if _same(tensors[name], tensors[output]):
        return True
    if said:
        raise CheckpointError(
            f"{target.checkpoint.folder}: the config says that {output} is {name}, and the file holds two different tables. "
            "Runtimes disagree on which counts: correct the config, or remove one of the two."
        )
    return False


def _same(a: tuple[Shard, Tensor], b: tuple[Shard, Tensor]) -> bool:
    """Whether two tensors have the same bytes; only a small part of each is in memory at once."""
    if (a[1].dtype, a[1].shape) != (b[1].dtype, b[1].shape):
        return False
    bytes_a, bytes_b = (np.memmap(shard.path, np.uint8, "r", t.begin, t.end - t.begin) for shard, t in (a, b))
    return all(
        np.array_equal(bytes_a[at : at + CHUNK], bytes_b[at : at + CHUNK]) for at in range(0, len(bytes_a), CHUNK)
    )
