"""How the output of a feed-forward network gets into the residual stream, by family.

    h → h + factor · y                       most
    h → h + norm(y),  norm(y) = y / rms(y) · (offset + weight)        a norm behind the network

A vector that is to be added after a layer goes into y, so what becomes of y has to be known. Families that do something else
with it (a second norm over the sum, streams of their own, several networks a layer) are in neither table.
"""

from dataclasses import dataclass

from ..errors import ModelError
from .families import text_config
from .target import Target

ADDED = (  # y is added as it is
    "llama", "smollm3", "seed_oss", "helium", "cwm", "iquestcoder", "mistral", "ministral", "ministral3", "qwen2", "qwen3",
    "stablelm", "olmo", "cohere", "cohere2", "gemma", "nemotron", "arcee", "apertus", "phi3", "glm", "phi", "bloom",
    "gpt_neox", "gpt2", "gpt_neo", "gptj", "starcoder2", "mpt", "falcon", "xglm", "hunyuan_v1_dense", "ernie4_5",
)  # fmt: skip
FACTOR = {"granite": "residual_multiplier"}  # the config key of the factor
NORMED = {  # the norm, relative to the layer, and its offset
    "gemma2": ("post_feedforward_layernorm", 1.0),
    "gemma3_text": ("post_feedforward_layernorm", 1.0),
    "olmo2": ("post_feedforward_layernorm", 0.0),
    "olmo3": ("post_feedforward_layernorm", 0.0),
    "exaone4": ("post_feedforward_layernorm", 0.0),
    "glm4": ("post_mlp_layernorm", 0.0),
}
KNOWN = (*ADDED, "opt", *FACTOR, *NORMED)


@dataclass(frozen=True)
class Route:
    """What becomes of the output of a layer's network: `norm`, relative to the layer, is empty where there is none."""

    factor: float = 1.0
    norm: str = ""
    offset: float = 0.0


def route_of(target: Target) -> Route:
    """Return what becomes of the output of the networks of a model. Raises ModelError where that is not known."""
    model_type, config = target.feed_forward.model_type, text_config(target.checkpoint.config)
    if model_type in NORMED:
        norm, offset = NORMED[model_type]
        return Route(1.0, norm, offset)
    if model_type in FACTOR:
        return Route(float(config.get(FACTOR[model_type]) or 1.0))
    before = model_type == "opt" and config.get("do_layer_norm_before", True)
    if model_type in ADDED or before:
        return Route()
    raise ModelError(
        f"what {model_type} models do with the output of a feed-forward network is not known here, so no vector can be added "
        "after a layer. Add it at the embedding."
    )
