"""The table of model families: where the feed-forward network lies in a checkpoint file and in a live model.

One row per layout; everything that knows a model family is here, and supporting a new one is adding a row (and a tiny
test model). Names are relative: `layers.{}` finds `model.layers.3.` as well as `language_model.model.layers.3.`, so a
multimodal wrapper resolves to its text tower. A neuron's column of the output projection W_out is

    Linear   weight (d, d_ff): column j         Conv1D (GPT-2)   weight (d_ff, d): row j

and its activation a_j is the output of the module `activation`: act(in(x)) in a plain FFN, act(gate(x)), before the
product with up(x), in a gated one. Layers and widths are counted in the file, not read from the config.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ModelError
from .networks import EXPERTS, SHARED, Network, gated


@dataclass(frozen=True)
class Family:
    """A row of the table.

    It has the usual network of a layer, field by field as `networks.Network` has them, and what else is the family's.
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
    inline: bool = False
    also: tuple[Network, ...] = ()  # other networks that its layers may have, beside the usual one or in its place
    gaps: bool = False  # layers may have no network at all
    width: str | None = "intermediate_size"  # the config key that says how wide the usual network is; None: none does
    mixed: str | None = None  # the config key without which a number of experts there means nothing
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
    def networks(self) -> tuple[Network, ...]:
        """The usual network, and the others."""
        usual = Network(
            self.into, self.up, self.out, self.activation, fused=self.fused, conv1d=self.conv1d, inline=self.inline
        )
        return (usual, *self.also)

    @property
    def gated(self) -> bool:
        return self.up is not None or self.fused


EACH = replace(gated("mlp.experts.{}", part=EXPERTS), activation="mlp.experts")
W123 = Network("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3", "block_sparse_moe.experts.{}.w2",
               "mlp.experts", part=EXPERTS)  # fmt: skip
STACKED = Network("mlp.experts.gate_up_proj", None, "mlp.experts.down_proj", "mlp.experts", fused=True, part=EXPERTS,
                  stacked=True, bare=True)  # fmt: skip
GRANITE = Network("block_sparse_moe.input_linear", None, "block_sparse_moe.output_linear", "block_sparse_moe.experts",
                  fused=True, part=EXPERTS, stacked=True)  # fmt: skip
SWA = Network("block_sparse_moe.experts.gate_up_proj", None, "block_sparse_moe.experts.down_proj",
              "block_sparse_moe.experts", fused=True, part=EXPERTS, stacked=True, bare=True)  # fmt: skip
GRANITE_SHARED = Network("shared_mlp.input_linear", None, "shared_mlp.output_linear", "shared_mlp.activation", fused=True,
                         part=SHARED)  # fmt: skip

FAMILIES = (
    Family(
        ("llama", "granite", "granite_swa", "smollm3", "seed_oss", "helium", "cwm", "hyperclovax", "iquestcoder",
         "minicpm3"),
        flag="mlp_bias",
    ),
    Family(("doge",), flag="mlp_bias", mixed="is_moe"),
    Family(
        ("mistral", "ministral", "ministral3", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text",
         "qwen3_5_text", "stablelm", "olmo", "olmo2", "olmo3", "olmo_hybrid", "cohere", "cohere2", "diffllama", "exaone4",
         "hunyuan_v1_dense", "youtu"),
    ),
    Family(("recurrent_gemma",), into="mlp_block.gate_proj", up="mlp_block.up_proj", out="mlp_block.down_proj",
           activation="mlp_block.act_fn", function="hidden_activation", bias=True, width=None),
    Family(("ernie4_5",), flag="use_bias", flagged=tuple(f"self_attn.{name}_proj" for name in "qkvo")),
    Family(("gemma",), function="=gelu_pytorch_tanh"),  # whatever hidden_act says: released configs say gelu
    Family(
        ("gemma2", "gemma3_text", "gemma3n_text", "gemma4_unified_text", "vaultgemma"), function="hidden_activation"
    ),
    Family(
        ("gemma4_text",), function="hidden_activation", mixed="enable_moe_block",
        also=(Network("experts.gate_up_proj", None, "experts.down_proj", "experts", fused=True, part=EXPERTS, stacked=True,
                      bare=True),),
    ),
    Family(("bamba", "falcon_h1"), into="feed_forward.gate_proj", up="feed_forward.up_proj", out="feed_forward.down_proj",
           activation="feed_forward.act_fn", flag="mlp_bias"),
    Family(("lfm2", "lfm3"), into="feed_forward.w1", up="feed_forward.w3", out="feed_forward.w2",
           activation="feed_forward.act_fn", function="=silu", inline=True, width=None),  # it may be adjusted
    Family(("nemotron", "arcee"), into="mlp.up_proj", up=None, flag="mlp_bias"),
    Family(("jais2",), into="mlp.up_proj", up=None, bias="mlp_bias"),
    Family(("apertus",), into="mlp.up_proj", up=None),
    Family(("nanochat",), into="mlp.fc1", up=None, out="mlp.fc2", activation="mlp.activation_fn"),
    Family(("phi3", "glm", "glm4", "glm4v_text"), into="mlp.gate_up_proj", up=None, fused=True,
           activation="mlp.activation_fn"),
    Family(("granitemoehybrid",), into="shared_mlp.input_linear", up=None, out="shared_mlp.output_linear", fused=True,
           activation="shared_mlp.activation", width="shared_intermediate_size", also=(GRANITE,)),
    Family(("granitemoe", "granitemoeshared"), also=(GRANITE_SHARED, GRANITE)),
    Family(
        ("qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe_text", "olmoe", "flex_olmo", "mellum", "deepseek_v2",
         "deepseek_v3", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "glm4v_moe_text", "dots1", "ernie4_5_moe", "exaone_moe",
         "cohere2_moe", "solar_open", "afmoe", "axk1", "axk2", "deepseek_v32", "bailing_hybrid", "flint",
         "dots3_note_text", "kolibri1", "mistral4"),
        also=(gated("mlp.shared_expert"), gated("mlp.shared_experts"), EACH, STACKED),
    ),
    Family(("qwen3_vl_moe_text",), also=(EACH, STACKED, replace(STACKED, conv1d=True))),
    Family(("hunyuan_v1_moe",), also=(gated("mlp.shared_mlp"), EACH)),
    Family(("hy_v3",), also=(gated("mlp.shared_mlp", "mlp.shared_experts"), EACH)),
    Family(("laguna",), also=(gated("mlp.shared_expert", "mlp.shared_experts"), EACH)),
    Family(("kimi_linear",),
           also=(gated("block_sparse_moe", "mlp", part=""), gated("block_sparse_moe.shared_experts", "mlp.shared_experts"),
                 W123)),
    Family(("granitemoe_swa",), also=(SWA, GRANITE_SHARED)),
    Family(("mixtral", "phimoe", "minimax", "minimax_m2"), also=(W123,)),
    Family(("jamba",), into="feed_forward.gate_proj", up="feed_forward.up_proj", out="feed_forward.down_proj",
           activation="feed_forward.act_fn",
           also=(replace(gated("feed_forward.experts.{}", part=EXPERTS), activation="feed_forward.experts"),)),
    Family(("lfm2_moe",), into="feed_forward.w1", up="feed_forward.w3", out="feed_forward.w2",
           activation="feed_forward.act_fn", function="=silu", inline=True,
           also=(Network("feed_forward.experts.{}.w1", "feed_forward.experts.{}.w3", "feed_forward.experts.{}.w2",
                         "feed_forward.experts", part=EXPERTS),)),
    Family(("aria_text",),
           also=(gated("mlp.shared_experts"),
                 Network("mlp.experts.fc1", None, "mlp.experts.fc2", "mlp.experts", fused=True, conv1d=True, part=EXPERTS,
                         stacked=True))),
    Family(("gpt_oss",), function="=gpt_oss", bias=True,
           also=(replace(STACKED, conv1d=True, interleaved=True),)),
    Family(("nemotron_h",), into="mixer.up_proj", up=None, out="mixer.down_proj", activation="mixer.act_fn",
           function="mlp_hidden_act", flag="mlp_bias", gaps=True,
           also=(Network("mixer.shared_experts.up_proj", None, "mixer.shared_experts.down_proj",
                         "mixer.shared_experts.act_fn", part=SHARED),
                 Network("mixer.experts.{}.up_proj", None, "mixer.experts.{}.down_proj", "mixer.experts", part=EXPERTS))),
    Family(("phi",), into="mlp.fc1", up=None, out="mlp.fc2", activation="mlp.activation_fn", bias=True),
    Family(("opt",), into="fc1", up=None, out="fc2", activation="activation_fn", function="activation_function",
           bias="enable_bias", width="ffn_dim"),
    Family(("xglm",), into="fc1", up=None, out="fc2", activation="activation_fn", function="activation_function",
           bias=True, width="ffn_dim"),
    Family(("biogpt",), into="fc1", up=None, out="fc2", activation="activation_fn", bias=True),
    Family(("bloom",), layer="h.{}", into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h",
           activation="mlp.gelu_impl", function="=gelu_pytorch_tanh", bias=True, width=None),
    Family(("gpt_neox", "persimmon"), into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h", activation="mlp.act",
           bias=True),
    Family(("gpt_neox_japanese",), into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h", activation="mlp.act",
           width=None),
    Family(("falcon",), layer="h.{}", into="mlp.dense_h_to_4h", up=None, out="mlp.dense_4h_to_h",
           activation="mlp.act", function="activation", flag="bias",
           flagged=("self_attention.query_key_value", "self_attention.dense"), width="ffn_hidden_size"),
    Family(("gpt2",), layer="h.{}", into="mlp.c_fc", up=None, out="mlp.c_proj", activation="mlp.act",
           function="activation_function", conv1d=True, bias=True, width="n_inner"),
    Family(("gpt_neo", "gpt_bigcode"), layer="h.{}", into="mlp.c_fc", up=None, out="mlp.c_proj", activation="mlp.act",
           function="activation_function", bias=True, width=None),
    Family(("gptj", "codegen"), layer="h.{}", into="mlp.fc_in", up=None, out="mlp.fc_out", activation="mlp.act",
           function="activation_function", bias=True, width="n_inner"),
    Family(("ctrl",), layer="h.{}", into="ffn.0", up=None, out="ffn.2", activation="ffn.1", function="=relu", bias=True,
           width="dff"),
    Family(("starcoder2",), into="mlp.c_fc", up=None, out="mlp.c_proj", activation="mlp.act", bias="use_bias"),
    Family(("mpt",), layer="blocks.{}", into="ffn.up_proj", up=None, out="ffn.down_proj", activation="ffn.act",
           function="=gelu", width=None),
)  # fmt: skip

KNOWN = tuple(sorted(name for family in FAMILIES for name in family.model_types))

# What may stand before `layers.{}` in a file: text towers of any wrapper, never a vision or audio one.
TEXT_PREFIX = re.compile(
    r"((model|language_model|text_model|transformer|backbone|gpt_neox|gpt_neox_japanese|biogpt|decoder)\.)*"
)
TEXT_CONFIG = "text_config"
HOW_TO_ADD = "A new one is a row in editor/models/families.py and a tiny model in its test: see CONTRIBUTING.md."
COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")


# What a config may say of its networks that leaves a neuron's activation no function of its own row alone, so that no
# constant can be put there: key -> whether its value does, and how.
UNCARRIED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "activation_sparsity_pattern": (any, "activations below a bar become 0, and the bar depends on all neurons"),
    "mlp_multipliers": (lambda factors: factors[0] != 1, "what goes into the activation function is multiplied"),
}


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the text tower: `text_config` of a multimodal wrapper, else the config itself."""
    nested = config.get(TEXT_CONFIG)
    return nested if isinstance(nested, dict) and "model_type" in nested else config


def family_of(config: dict[str, Any]) -> Family:
    """Return the row for a checkpoint's config. Raises ModelError for an unknown family."""
    text = text_config(config)
    model_type = text.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    if any(isinstance(count := text.get(key), int) and count > 1 for key in COUNTS) or "moe" in str(model_type):
        raise ModelError(
            f"the model is a mixture of experts of an unknown layout ({model_type}). {HOW_TO_ADD} Known: {', '.join(KNOWN)}."
        )
    raise ModelError(f"unknown model family {model_type!r}. {HOW_TO_ADD} Known: {', '.join(KNOWN)}.")


def uncarried(config: dict[str, Any]) -> str | None:
    """Why a model with this config can hold no constants; None: it can."""
    text = text_config(config)
    for key, (applies, why) in UNCARRIED.items():
        if text.get(key) and applies(text[key]):
            return f"{why} ({key} in its config)"
    return None
