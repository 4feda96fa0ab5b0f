"""The output layer of a checkpoint: the table that a model writes with, its bias where a family has one, and its soft cap.

    logit of token t  =  cap · tanh(scale · (w_t · h + b_t) / cap)        without a cap: scale · (w_t · h + b_t)

h is the final hidden state, w_t row t of the output table, b_t its bias, which few families have.
"""

from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..files import floats
from ..files.checkpoint import Shard, Tensor
from .embedding import TIE, Embedding, open_embedding
from .families import text_config
from .target import Target

BIASED = ("phi", "gptj", "codegen", "ctrl")  # model types whose output layer has a bias
CAP = "final_logit_softcapping"  # the config's key
PARTS = ("lm_head", "embed_out")  # how names of an output layer begin, behind a prefix


@dataclass(frozen=True)
class Head:
    """The output layer.

    `table` is the input table with what it says of the output; `output` is the place of the output's own table, which
    is that of the input where a model is tied; `bias` its bias; `cap` the soft cap of the logits, or None.
    """

    table: Embedding
    output: tuple[Shard, Tensor]
    bias: tuple[Shard, Tensor] | None
    cap: float | None

    @property
    def exact(self) -> bool:
        """Whether a logit can be lowered by a bias."""
        return self.bias is not None

    @property
    def rows(self) -> int:
        return self.output[1].shape[0]

    @property
    def columns(self) -> int:
        return self.output[1].shape[1]

    @property
    def added_bytes(self) -> int:
        """What an output table of its own adds to a model that has one table for both."""
        return 0 if self.table.has_output else self.output[1].end - self.output[1].begin


def open_head(target: Target) -> Head:
    """Find the output layer of a model. Raises ModelError for one that is made in a way that is not known here."""
    table = open_embedding(target)
    tensors = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    output = tensors[table.output] if table.has_output else (table.shard, table.tensor)
    name, bias = table.output.removesuffix(".weight"), f"{table.output.removesuffix('weight')}bias"
    config = text_config(target.checkpoint.config)
    known = {table.output, bias}
    parts = [each for each in tensors if each.split(".")[-2:-1] and _is_part(each, name)]
    others = [each for each in parts if each not in known]
    if others and target.quantised:
        raise ModelError(
            f"the output layer of {target.source.name} is quantised ({others[0]}), so its rows are not "
            "stored one by one, and its tokens cannot be silenced. Use the unquantised checkpoint."
        )
    if others:
        raise ModelError(
            f"{target.source.name} has an output layer of several parts ({', '.join(others[:3])}), and how logits are made "
            "of them is not known here. Its tokens cannot be silenced."
        )
    if not table.has_output and target.checkpoint.config.get(TIE, config.get(TIE)) is False:
        raise ModelError(
            f"{target.source.name} says that its output table is its own, and has no {table.output}. Its tokens cannot be "
            "silenced."
        )
    shard, tensor = output
    if tensor.dtype not in floats.STORED or len(tensor.shape) != 2 or tensor.shape[0] != table.rows:
        raise ModelError(
            f"{target.source.name}: {tensor.name} is stored as {tensor.dtype} of shape {list(tensor.shape)}; tokens can be "
            f"silenced in a table of float32, float16 or bfloat16 with {table.rows} rows. Use the unquantised checkpoint."
        )
    biased = str(config.get("model_type")) in BIASED and bias in tensors
    cap = config.get(CAP)
    return Head(table, (shard, tensor), tensors[bias] if biased else None, _number(cap))


def _is_part(name: str, head: str) -> bool:
    return name.startswith(f"{head}.") or any(part in name.split(".") for part in PARTS)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
