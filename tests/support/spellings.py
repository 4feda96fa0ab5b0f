"""Tiny models whose positions are not what a reader of the older config.json takes for granted, for tests of its spelling."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from support import tiny
from support.tiny import Case

THETA = 500_000.0  # no family's default


def rope(kind: str = "default", theta: float = THETA, **more: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": theta, **more}


LLAMA3 = rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)  # short enough for eleven tokens
LAYERS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
GEMMA = {"full_attention": rope("linear", factor=4.0), "sliding_attention": rope(theta=500.0)}
SHORT, LONG = [1.0, 2.0, 3.0, 4.0], [1.5, 3.0, 4.5, 6.0]  # head_dim / 2 numbers

PLAIN = (
    "arcee", "cohere", "exaone4", "falcon", "gemma", "gemma2", "granite", "llama", "ministral", "mistral", "olmo", "olmo2",
    "qwen2", "qwen3", "seed_oss", "smollm3",
)  # fmt: skip
HEAD = {"head_dim": 8}  # else 128 and more
WIDE = ("exaone4", "gemma", "gemma2", "ministral", "qwen3", "seed_oss")
CASES = {name: Case(name, {**(HEAD if name in WIDE else {}), "rope_parameters": rope()}) for name in PLAIN} | {
    "helium": Case("helium", {"rope_parameters": rope()}),
    "hunyuan_v1_dense": Case("hunyuan_v1_dense", {"rope_parameters": rope()}),
    "llama, llama3": Case("llama", {"rope_parameters": LLAMA3}),
    "llama, linear": Case("llama", {"rope_parameters": rope("linear", factor=4.0)}),
    "apertus, llama3": Case("apertus", {"rope_parameters": LLAMA3}),
    "qwen2, yarn": Case("qwen2", {"rope_parameters": rope("yarn", factor=4.0, original_max_position_embeddings=16)}),
    "gpt_neox": Case(
        "gpt_neox",
        {
            "intermediate_size": 4 * tiny.HIDDEN, "hidden_act": "gelu_new",  # what mlx-lm takes for granted
            "rope_parameters": rope(partial_rotary_factor=0.5),
        },
    ),
    "phi": Case("phi", {"rope_parameters": rope(partial_rotary_factor=0.75)}),
    "phi3": Case("phi3", {"rope_parameters": rope(partial_rotary_factor=0.5)}),
    "phi3, longrope": Case(
        "phi3",
        {
            "rope_parameters": rope("longrope", short_factor=SHORT, long_factor=LONG),
            "original_max_position_embeddings": 8,
        },
    ),
    "stablelm": Case("stablelm", {"rope_parameters": rope(partial_rotary_factor=0.75)}),
    "nemotron": Case("nemotron", {"rope_parameters": rope(partial_rotary_factor=1.0)}),
    "nemotron, linear": Case(
        "nemotron", {"rope_parameters": rope("linear", factor=4.0, partial_rotary_factor=0.5)}
    ),
    "glm": Case("glm", {**HEAD, "rope_parameters": rope(partial_rotary_factor=1.0)}),
    "glm4": Case("glm4", {**HEAD, "rope_parameters": rope(partial_rotary_factor=0.25)}),
    "starcoder2": Case("starcoder2", {"hidden_act": "gelu", "rope_parameters": rope()}),
    "cohere2": Case("cohere2", {**LAYERS, "rope_parameters": rope()}),
    "gemma3_text": Case("gemma3_text", {**HEAD, **LAYERS, "rope_parameters": GEMMA}),
    "gemma3, a wrapper": Case(
        "gemma3",
        {"text_config": {**tiny.WRAPPERS["gemma3"]["text_config"], **LAYERS, "rope_parameters": GEMMA}},
    ),
    "llava, a wrapper": Case(
        "llava", {"text_config": {**tiny.WRAPPERS["llava"]["text_config"], "rope_parameters": LLAMA3}}
    ),
}  # fmt: skip

# Families of CASES that another runtime computes as transformers 5 does, when it knows what the config says. Not in
# transformers 4: Apertus, whose activation function it has in bfloat16, and a scaled Nemotron, which it does not scale.
TRANSFORMERS4 = [name for name in CASES if name not in ("apertus, llama3", "nemotron, linear")]
# Not in mlx-lm: those that it doesn't know, Gemma, whose activation function it approximates otherwise, and what it takes for
# granted: a vocabulary, or keys that transformers 5 has no more. It knows both spellings of Qwen3.
NOT_IN_MLX = (
    "arcee", "exaone4", "falcon", "gemma", "ministral", "olmo", "apertus, llama3", "qwen3", "gemma3, a wrapper",
)  # fmt: skip
MLX = [name for name in CASES if name not in NOT_IN_MLX]


def need_new_spelling() -> None:
    """Skip where the installed transformers writes the old one."""
    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("this transformers writes the older spelling")


def baked(base: Path, out: Path, *, compat: bool) -> Path:
    """`base` with some neurons deactivated, and with the keys of the older spelling, perhaps."""
    target = open_target(resolve(str(base)))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    bake(target, neurons, Recipe(Base("tiny"), (Edit("off", "deactivate"),), "edit", compat_config=compat), out)
    return out
