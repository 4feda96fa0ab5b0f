"""The table of model families: where the feed-forward network lies in a checkpoint file and in a live model.

One row per layout; everything that knows a model family is here, and supporting a new one is adding a row (and a tiny
test model). Names are relative: `layers.{}` finds `model.layers.3.` as well as `language_model.model.layers.3.`, so a
multimodal wrapper resolves to its text tower. A neuron's column of the output projection W_out is

    Linear   weight (d, d_ff): column j         Conv1D (GPT-2)   weight (d_ff, d): row j

and its activation a_j is the output of the module `activation`: act(in(x)) in a plain FFN, act(gate(x)), before the
product with up(x), in a gated one. Layers and widths are counted in the file, not read from the config.
"""

import re
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, ModelError
from ..files.checkpoint import Checkpoint, Shard, Tensor


@dataclass(frozen=True)
class Family:
    """A row of the table.

    `into` is the projection whose output goes through the activation function (gate, or in); fused families hold gate and
    up in one tensor, gate half first.
    """

    model_types: tuple[str, ...]
    layer: str = "layers.{}"
    into: str = "mlp.gate_proj"
    up: str | None = "mlp.up_proj"
    out: str = "mlp.down_proj"
    activation: str = "mlp.act_fn"  # module whose output is a_j, relative to the layer
    function: str = "hidden_act"  # the config key that names the activation function; "=name": always that one
    fused: bool = False
    conv1d: bool = False
    bias: str | bool = False  # has FFN biases: always, never, or as a config key says (True where it is missing)
    flag: str | None = None  # the config key that turns FFN biases on in this family
    flagged: tuple[str, ...] = ()  # projections outside the FFN that get a bias from the same key

    @property
    def layer_pattern(self) -> str:
        """`layer` as a regular expression with the group `layer`."""
        return re.escape(self.layer).replace(
            re.escape("{}"), "(?P<layer>0|[1-9][0-9]{0,4})"
        )  # bounded: they are counted

    @property
    def gated(self) -> bool:
        return self.up is not None or self.fused


FAMILIES = (
    Family(("llama", "granite", "smollm3", "seed_oss", "helium"), flag="mlp_bias"),
    Family(
        ("mistral", "ministral", "ministral3", "qwen2", "qwen3", "stablelm", "olmo", "olmo2", "cohere", "cohere2",
         "exaone4", "hunyuan_v1_dense"),
    ),
    Family(("gemma",), function="=gelu_pytorch_tanh"),  # whatever hidden_act says: released configs say gelu
    Family(("gemma2", "gemma3_text"), function="hidden_activation"),
    Family(("nemotron", "arcee"), into="mlp.up_proj", up=None, flag="mlp_bias"),
    Family(("apertus",), into="mlp.up_proj", up=None),
    Family(("phi3", "glm", "glm4"), into="mlp.gate_up_proj", up=None, fused=True, activation="mlp.activation_fn"),
    Family(("phi",), into="mlp.fc1", up=None, out="mlp.fc2", activation="mlp.activation_fn", bias=True),
    Family(("opt",), into="fc1", up=None, out="fc2", activation="activation_fn", function="activation_function",
           bias="enable_bias"),
    Family(("xglm",), into="fc1", up=None, out="fc2", activation="activation_fn", function="activation_function",
           bias=True),
    Family(("bloom",), layer="h.{}", into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h",
           activation="mlp.gelu_impl", function="=gelu_pytorch_tanh", bias=True),
    Family(("gpt_neox",), into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h", activation="mlp.act", bias=True),
    Family(("falcon",), layer="h.{}", into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h",
           activation="mlp.act", function="activation", flag="bias",
           flagged=("self_attention.query_key_value", "self_attention.dense")),
    Family(("gpt2",), layer="h.{}", into="mlp.c_fc", up=None, out="mlp.c_proj", activation="mlp.act",
           function="activation_function", conv1d=True, bias=True),
    Family(("gpt_neo",), layer="h.{}", into="mlp.c_fc", up=None, out="mlp.c_proj", activation="mlp.act",
           function="activation_function", bias=True),
    Family(("gptj",), layer="h.{}", into="mlp.fc_in", up=None, out="mlp.fc_out", activation="mlp.act",
           function="activation_function", bias=True),
    Family(("starcoder2",), into="mlp.c_fc", up=None, out="mlp.c_proj", activation="mlp.act", bias="use_bias"),
    Family(("mpt",), layer="blocks.{}", into="ffn.up_proj", up=None, out="ffn.down_proj", activation="ffn.act",
           function="=gelu"),
)  # fmt: skip

KNOWN = tuple(sorted(name for family in FAMILIES for name in family.model_types))

# What may stand before `layers.{}` in a file: text towers of any wrapper, never a vision or audio one.
TEXT_PREFIX = re.compile(r"((model|language_model|text_model|transformer|gpt_neox|decoder)\.)*")
TEXT_CONFIG = "text_config"
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")


@dataclass(frozen=True)
class FeedForward:
    """The FFN of one checkpoint: its family, the names' prefix in the file, and its shape.

    `layers` counts decoder layers, `width` is d_ff, the neurons per layer, `hidden` is d.
    """

    family: Family
    model_type: str
    prefix: str
    layers: int
    width: int
    hidden: int
    outputs: tuple[tuple[Shard, Tensor], ...]  # W_out of each layer

    @property
    def neuron_axis(self) -> int:
        """The axis of W_out's weight along which neurons lie; in W_in and W_up it is the other one."""
        return 0 if self.family.conv1d else 1

    def name(self, projection: str, layer: int, kind: str = "weight") -> str:
        """Name a projection of a layer as the file does, for example "mlp.up_proj" of layer 3."""
        return f"{self.prefix}{self.family.layer.format(layer)}.{projection}.{kind}"


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the text tower: `text_config` of a multimodal wrapper, else the config itself."""
    nested = config.get(TEXT_CONFIG)
    return nested if isinstance(nested, dict) and "model_type" in nested else config


def family_of(config: dict[str, Any]) -> Family:
    """Return the row for a checkpoint's config. Raises ModelError for an unknown family and for mixtures of experts."""
    text = text_config(config)
    model_type = text.get("model_type")
    if any(isinstance(count := text.get(key), int) and count > 1 for key in EXPERTS) or "moe" in str(model_type):
        raise ModelError(
            f"the model is a mixture of experts ({model_type}), which monoglot does not edit yet: "
            "its feed-forward network is many small ones. Use a dense model."
        )
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise ModelError(f"unknown model family {model_type!r}. Known: {', '.join(KNOWN)}.")


def locate(checkpoint: Checkpoint) -> FeedForward:
    """Find W_out of every layer in a checkpoint.

    Raises ModelError when the family is unknown or not dense, CheckpointError when layers are missing, of different
    widths, or of a dtype other than float32, float16, bfloat16.
    """
    family = family_of(checkpoint.config)
    pattern = re.compile(rf"(?P<prefix>{TEXT_PREFIX.pattern}){family.layer_pattern}\.{re.escape(family.out)}\.weight")
    found: dict[str, dict[int, tuple[Shard, Tensor]]] = {}
    for shard, tensor in checkpoint.tensors():
        if match := pattern.fullmatch(tensor.name):
            found.setdefault(match["prefix"], {})[int(match["layer"])] = (shard, tensor)
    model_type = str(text_config(checkpoint.config)["model_type"])
    wanted = f"{family.layer.format('*')}.{family.out}.weight"
    if len(found) != 1:
        raise CheckpointError(
            f"{checkpoint.folder} calls itself {model_type}, but "
            + (f"several of its towers have {wanted}: {', '.join(sorted(found))}." if found else f"has no {wanted}.")
        )
    ((prefix, by_layer),) = found.items()
    if sorted(by_layer) != list(range(len(by_layer))):
        missing = min(set(range(max(by_layer))) - set(by_layer))
        raise CheckpointError(f"{checkpoint.folder}: layer {missing} has no {wanted}. Download it again.")
    outputs = tuple(by_layer[layer] for layer in range(len(by_layer)))
    shape = outputs[0][1].shape
    for _, tensor in outputs:
        if tensor.shape != shape or len(shape) != 2:
            raise CheckpointError(
                f"{checkpoint.folder}: {tensor.name} has shape {list(tensor.shape)}, layer 0 has {list(shape)}. "
                "monoglot expects the same feed-forward width in every layer."
            )
        if tensor.dtype not in ("F32", "F16", "BF16"):
            raise ModelError(
                f"{checkpoint.folder}: {tensor.name} is stored as {tensor.dtype}; monoglot edits float32, float16 and "
                "bfloat16. Use the unquantised checkpoint."
            )
    width, hidden = shape if family.conv1d else reversed(shape)
    return FeedForward(family, model_type, prefix, len(outputs), width, hidden, outputs)
