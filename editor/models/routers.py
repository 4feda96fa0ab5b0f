"""How a mixture's router may be told not to send any token to an expert: by its bias, where it has one.

A router gives each expert a score and takes the best. Some add a bias for each expert before they compare: with a bias far
below every score an expert is never taken, no matrix is touched, and what the others compute stays as it was. In most
families the bias is for the choice alone; in gpt-oss it is a part of the score, which comes to the same for an expert that
is never taken.

A bias that a family doesn't have is refused: transformers drops it, other runtimes may apply it, so which experts a token
goes to would be uncertain.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ModelError

CORRECTION = "e_score_correction_bias"
# The bias by its name in the file, relative to the layer -> the model types that have it.
BIASES = {
    f"mlp.gate.{CORRECTION}": (
        "deepseek_v3", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "glm4v_moe_text", "dots1", "solar_open", "axk1", "axk2",
        "deepseek_v32", "dots3_note_text",
    ),
    f"mlp.moe_statics.{CORRECTION}": ("ernie4_5_moe",),
    f"mlp.{CORRECTION}": ("exaone_moe",),
    f"block_sparse_moe.{CORRECTION}": ("minimax_m2",),
    f"block_sparse_moe.gate.{CORRECTION}": ("kimi_linear",),
    f"mlp.experts.{CORRECTION}": ("laguna",),
    "mlp.expert_bias": ("afmoe", "hy_v3"),
    "moe.router.expert_bias": ("kolibri1",),
    "mlp.gate.expert_bias": ("bailing_hybrid",),
    "feed_forward.expert_bias": ("lfm2_moe",),
    f"mixer.gate.{CORRECTION}": ("nemotron_h",),
    "mlp.router.bias": ("gpt_oss",),
}  # fmt: skip
# Config keys that say how many experts a token goes to.
TAKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts")
SWITCHES = {
    "lfm2_moe": "use_expert_bias"
}  # the config key that says whether the router has one, true if it is not there
BIAS = re.compile(rf"(^|\.)({CORRECTION}|expert_bias|(router|gate)\.bias|router\.layer\.bias|gate\.wg\.bias)$")


def bias_of(model_type: str) -> str | None:
    """Return the name of the router's bias in a family, relative to the layer; None where it has none."""
    return next((name for name, model_types in BIASES.items() if model_type in model_types), None)


def taken_by_a_token(config: Mapping[str, Any]) -> int:
    """Return how many experts a token goes to; where a config says so layer by layer, the most."""
    counts = next((config[key] for key in TAKEN if config.get(key)), 1)
    whole = [count for count in (counts if isinstance(counts, list) else [counts]) if isinstance(count, int)]
    return max(whole, default=1)


def check_biases(place: Any, model_type: str, config: Mapping[str, Any], names: Iterable[tuple[str, str]]) -> None:
    """Raise ModelError for a router's bias that the family, or the config, doesn't ask for.

    `names` are those of the decoder's tensors: relative to the layer, and whole.
    """
    known, switch = bias_of(model_type), SWITCHES.get(model_type)
    off = switch is not None and not config.get(switch, True)
    for name, whole in names:
        if BIAS.search(name) and (off or name != known):
            why = f"its config says that {switch} is false" if name == known else f"{model_type} models have none there"
            raise ModelError(
                f"{place} holds a bias of a router, {whole}, but {why}: some runtimes would apply it, others drop it, so "
                "which experts a token goes to is uncertain. Use the original checkpoint, or correct the config."
            )
