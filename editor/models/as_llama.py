"""The same function as a Llama: families that differ from it in names alone get its flags for biases.

    mistral   without a sliding window: the config only
    qwen2     without one: its q, k, v biases are what `attention_bias` asks for, o_proj gets one of zeros
    phi3      with plain rotary positions and no sliding window: q, k, v and gate, up lie in one tensor each, in rows, so
              that splitting them is a matter of the header

The bytes of the weights stay where they are. Whether the config means the same is asked of transformers: a key that Llama
would fill with another default than the base's family is written out.
"""

from typing import Any

from ..errors import ModelError, reason_of
from ..files.checkpoint import Checkpoint, Tensor
from .feed_forward import FeedForward

MODEL_TYPES = ("mistral", "qwen2", "phi3")
OWN_KEYS = {"model_type", "architectures", "attention_bias", "mlp_bias", "auto_map"}  # set here, not compared
NOT_COMPARED = {*OWN_KEYS, "transformers_version", "dtype", "torch_dtype", "_name_or_path", "pretraining_tp"}


def refusal(checkpoint: Checkpoint) -> str | None:
    """Say why this checkpoint is not a Llama by another name; None if it is one.

    What the file says is looked at first, and transformers is asked only for families that could be one.
    """
    model_type = checkpoint.config.get("model_type")
    if model_type not in MODEL_TYPES:
        return f"only {', '.join(MODEL_TYPES)} can be written as a Llama, not {model_type}"
    try:
        config = _built(checkpoint.config)
    except ModelError as error:
        return str(error).removesuffix(".")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "sliding_window", None) is not None or kinds != {"full_attention"}:
        return f"this {model_type} has a sliding window, and Llama has none"
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", None))
    if model_type == "phi3" and (kind != "default" or partial not in (None, 1.0)):
        return "this phi3 scales its rotary positions in a way that Llama has not"
    return None


def _built(config: dict[str, Any]) -> Any:
    import transformers

    from .hf import quiet

    rest = {key: value for key, value in config.items() if key != "model_type"}
    try:
        with quiet():
            return transformers.AutoConfig.for_model(config["model_type"], **rest)
    except Exception as error:  # of many kinds: whatever a malformed config makes it do
        reason = reason_of(error)
        raise ModelError(f"transformers {transformers.__version__} cannot read the config ({reason}).") from None


def config_keys(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the keys of config.json that make it this model as a Llama."""
    config = checkpoint.config
    keys: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": config["model_type"] == "qwen2",
        "mlp_bias": True,
    }
    if "auto_map" in config:
        keys["auto_map"] = {}  # the family's own code would build the family's own model
    meant, got = _built(config).to_dict(), _built({**config, **keys}).to_dict()
    for key, value in got.items():
        if key in meant and meant[key] != value and key not in NOT_COMPARED:
            keys[key] = meant[key]
    return keys


def split(tensor: Tensor, feed_forward: FeedForward, config: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the Llama tensors that a tensor of the base is made of, in the order of its rows: (name, rows)."""
    name, rows = tensor.name, (*tensor.shape, 0)[0]
    if name.endswith(".mlp.gate_up_proj.weight"):
        return [(name.replace("gate_up_proj", part), rows // 2) for part in ("gate_proj", "up_proj")]
    if name.endswith(".self_attn.qkv_proj.weight"):
        heads = int(config["num_attention_heads"])
        pairs = int(config.get("num_key_value_heads") or heads)
        width = rows // (heads + 2 * pairs)
        parts = (("q_proj", heads), ("k_proj", pairs), ("v_proj", pairs))
        return [(name.replace("qkv_proj", part), count * width) for part, count in parts]
    return [(name, rows)]
