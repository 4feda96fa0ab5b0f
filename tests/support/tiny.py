"""Tiny models with random weights, as folders on disk, for every test that needs a checkpoint, and what to steer them
with: random neurons of three languages, recipes of every operation, a calibration that no one fitted."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from monoglot.editor.edits.calibration import Calibration, LayerError
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.live.load import load_model
from monoglot.editor.models.activations import functions
from monoglot.editor.models.families import KNOWN
from monoglot.editor.models.identity import Base
from monoglot.editor.models.target import Target
from monoglot.editor.neurons.neurons import Neurons

LAYERS, WIDTH, HIDDEN, VOCABULARY = 3, 24, 16, 300

TEXT = {
    "en": "The quick brown fox jumps over the lazy dog while the old farmer looks at the evening sky and smiles.",
    "fr": "Le renard rapide saute par-dessus le chien paresseux pendant que le vieux fermier regarde le ciel du soir.",
    "zh": "敏捷的棕色狐狸跳过了懒狗，老农夫看着傍晚的天空微笑着，孩子们在院子里玩耍，鸟儿飞回了森林。",
}

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}

# What COMMON leaves too large, or names otherwise, in some families.
MAMBA = {"mamba_d_state": 4, "mamba_n_heads": 2, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
LINEAR = {
    "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}  # fmt: skip
GEMMA = {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
PER_LAYER = {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 4, "num_kv_shared_layers": 0}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "codegen": {"n_inner": WIDTH, "rotary_dim": 4, "num_attention_heads": 4},
    "ctrl": {"dff": WIDTH},
    "falcon": {"ffn_hidden_size": WIDTH},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 32, "head_dim": 8},
    "gemma3n_text": {
        **GEMMA,
        **PER_LAYER,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "altup_active_idx": 0,
        "activation_sparsity_pattern": [0.0] * LAYERS,
    },
    "gemma4_text": {**GEMMA, **PER_LAYER, "global_head_dim": 8, "num_global_key_value_heads": 2},
    "gemma4_unified_text": {**GEMMA, "global_head_dim": 8, "num_global_key_value_heads": 2},
    "gpt2": {"n_inner": WIDTH},
    "gpt_bigcode": {"n_inner": WIDTH},
    "gpt_neo": {"num_layers": LAYERS, "attention_types": [[["global", "local"], 1], [["global"], 1]]},
    "gpt_neox_japanese": {"intermediate_multiple_size": 2},
    "gptj": {"n_inner": WIDTH, "rotary_dim": 4},
    "granitemoehybrid": {
        **MAMBA,
        "shared_intermediate_size": WIDTH,
        "num_local_experts": 0,
        "layer_types": ["mamba", "attention", "mamba"],
    },
    "helium": {"head_dim": 8},
    "recurrent_gemma": {
        "intermediate_size": 2 * WIDTH,  # of gate and up together
        "lru_width": HIDDEN,
        "head_dim": 8,
        "block_types": ["recurrent", "attention", "recurrent"],
    },
    "hunyuan_v1_dense": {"head_dim": 8},
    "lfm2": {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention", "conv"]},
    "ministral": {"head_dim": 8},
    "minicpm3": LATENT,
    "olmo_hybrid": LINEAR,
    "opt": {"ffn_dim": WIDTH, "word_embed_proj_dim": HIDDEN},
    "qwen3_5_text": {**LINEAR, "head_dim": 8},
    "vaultgemma": GEMMA,
    "xglm": {"ffn_dim": WIDTH},
    "youtu": LATENT,
}

# Mixtures of experts: EXPERTS of them, each EXPERT_WIDTH wide, in all layers, or in all but the first.
EXPERTS, EXPERT_WIDTH, SHARED_WIDTH = 4, 12, 20
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": EXPERT_WIDTH}

BEHIND_ONE = {**ROUTED, "n_routed_experts": EXPERTS, "first_k_dense_replace": 1, "n_shared_experts": 1, "n_group": 1,
              "topk_group": 1}  # fmt: skip
QWEN_MOE = {**ROUTED, "num_experts": EXPERTS, "head_dim": 8}
SHARED_EXPERT = {"shared_expert_intermediate_size": SHARED_WIDTH}
SPARSE_BLOCK = {"num_local_experts": EXPERTS, "num_experts_per_tok": 2, "head_dim": 8}
MIXTURES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**ROUTED, "num_experts": EXPERTS, **SHARED_EXPERT, "mlp_only_layers": [1]},
    "qwen3_moe": QWEN_MOE,
    "qwen3_next": {**QWEN_MOE, **LINEAR, **SHARED_EXPERT},
    "qwen3_5_moe_text": {**QWEN_MOE, **LINEAR, **SHARED_EXPERT},
    "qwen3_vl_moe_text": QWEN_MOE,
    "olmoe": {"num_experts": EXPERTS, "num_experts_per_tok": 2},
    "flex_olmo": {"num_experts": EXPERTS, "num_experts_per_tok": 2},
    "mellum": QWEN_MOE,
    "deepseek_v2": {**BEHIND_ONE, **LATENT, "topk_method": "greedy"},
    "deepseek_v3": {**BEHIND_ONE, **LATENT},
    "glm4_moe": {**BEHIND_ONE, "head_dim": 8},
    "glm4_moe_lite": {**BEHIND_ONE, **LATENT},
    "glm_moe_dsa": {**BEHIND_ONE, **LATENT, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 64},
    "glm4v_moe_text": {**BEHIND_ONE, "head_dim": 8},
    "dots1": {**BEHIND_ONE, "head_dim": 8},
    "solar_open": {**BEHIND_ONE, "head_dim": 8, "first_k_dense_replace": 0},
    "exaone_moe": {**ROUTED, "num_experts": EXPERTS, "num_shared_experts": 1, "n_group": 1, "topk_group": 1,
                   "head_dim": 8, "first_k_dense_replace": 1},
    "ernie4_5_moe": {"moe_num_experts": EXPERTS, "moe_k": 2, "moe_intermediate_size": EXPERT_WIDTH,
                     "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "head_dim": 8},
    "cohere2_moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "head_dim": 8},
    "afmoe": {**ROUTED, "num_experts": EXPERTS, "num_shared_experts": 1, "num_dense_layers": 1, "head_dim": 8},
    "axk1": {**BEHIND_ONE, **LATENT},
    "axk2": {**BEHIND_ONE, **LATENT},
    "deepseek_v32": {**BEHIND_ONE, **LATENT, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 64},
    "mistral4": {**BEHIND_ONE, **LATENT},
    "bailing_hybrid": {**BEHIND_ONE, "num_experts": EXPERTS},
    "dots3_note_text": {**BEHIND_ONE, **LATENT},
    "kolibri1": {**ROUTED, "num_experts": EXPERTS, "head_dim": 8, "shared_expert_intermediate_size": SHARED_WIDTH},
    "laguna": {**ROUTED, "num_experts": EXPERTS, "head_dim": 8, "shared_expert_intermediate_size": SHARED_WIDTH},
    "kimi_linear": {**BEHIND_ONE, **LATENT, "num_experts": EXPERTS, "head_dim": 8},
    "flint": {**ROUTED, "num_experts": EXPERTS, "head_dim": 8, "shared_expert_intermediate_size": SHARED_WIDTH},
    "hy_v3": {**ROUTED, "num_experts": EXPERTS, "num_local_experts": EXPERTS, "num_shared_experts": 1, "head_dim": 8,
              "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "granitemoe_swa": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
    "hunyuan_v1_moe": {"num_experts": EXPERTS, "moe_topk": 2, "head_dim": 8},
    "mixtral": SPARSE_BLOCK,
    "phimoe": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
    "minimax": {**SPARSE_BLOCK, "layer_types": ["linear_attention", "full_attention", "linear_attention"]},
    "minimax_m2": {**SPARSE_BLOCK, "rotary_dim": 4},
    "jamba": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
              "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "use_mamba_kernels": False},
    "lfm2_moe": {**ROUTED, "num_experts": EXPERTS, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]},
    "aria_text": {"moe_num_experts": EXPERTS, "moe_topk": 2, "moe_num_shared_experts": 2},
    "granitemoe": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
    "granitemoeshared": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2, "shared_intermediate_size": SHARED_WIDTH},
    "gpt_oss": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2, "head_dim": 8},
    "nemotron_h": {
        "hybrid_override_pattern": "M-E*E-", "num_hidden_layers": 6, "n_routed_experts": EXPERTS, **ROUTED, "n_group": 1,
        "topk_group": 1, "moe_shared_expert_intermediate_size": SHARED_WIDTH, "n_shared_experts": 1, "head_dim": 8,
        "mamba_num_heads": 2, "mamba_head_dim": 16, "ssm_state_size": 4, "n_groups": 1, "chunk_size": 8,
    },
}  # fmt: skip
# … and mixtures of families that have dense models too.
MIXED = {
    "gemma4_text": {"enable_moe_block": True, "num_experts": EXPERTS, "top_k_experts": 2,
                    "moe_intermediate_size": EXPERT_WIDTH},
    "granitemoehybrid": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
}  # fmt: skip
OWN |= MIXTURES
DENSE = tuple(name for name in KNOWN if name not in MIXTURES)

# Multimodal wrappers: a text tower of the type that their text_config names, and a vision tower of two layers.
VISION = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
          "patch_size": 8}  # fmt: skip
PATCHES = {"depth": 2, "hidden_size": 8, "embed_dim": 8, "num_heads": 2, "intermediate_size": 12, "out_hidden_size": HIDDEN,
           "mlp_ratio": 2, "image_size": 16, "patch_size": 4, "temporal_patch_size": 2, "spatial_merge_size": 2}  # fmt: skip
MARKS = {"image_token_id": 5, "video_token_id": 5, "vision_start_token_id": 5, "vision_end_token_id": 5}


def mrope(sections: list[int], **more: Any) -> dict[str, Any]:
    """Positions in three axes: time, height, width."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections, **more}}


WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {**COMMON, "model_type": "gemma3_text", "head_dim": 8},
        "vision_config": {**VISION, "model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 4,
        "image_token_index": 5,
    },
    "llava": {
        "text_config": {**COMMON, "model_type": "llama"},
        "vision_config": {**VISION, "model_type": "clip_vision_model", "projection_dim": 8},
        "image_token_index": 5,
    },
    "mistral3": {
        "text_config": {**COMMON, "model_type": "mistral", "head_dim": 8},
        "vision_config": {**VISION, "model_type": "pixtral", "head_dim": 4},
        "image_token_index": 5,
    },
    "gemma4": {
        "text_config": {**COMMON, **OWN["gemma4_text"], "pad_token_id": 2, "model_type": "gemma4_text"},
        "vision_config": {**VISION, "num_key_value_heads": 2, "head_dim": 4, "global_head_dim": 4, "patch_size": 4},
        "audio_config": None,
        "image_token_id": 5,
    },
    "glm4v": {
        "text_config": {**COMMON, **mrope([1, 1, 0], partial_rotary_factor=0.5), "model_type": "glm4v_text"},
        "vision_config": PATCHES,
        **MARKS,
    },
    "lfm2_vl": {
        "text_config": {**COMMON, **OWN["lfm2"], "model_type": "lfm2"},
        "vision_config": {**VISION, "model_type": "siglip2_vision_model", "num_patches": 4},
        "image_token_id": 5,
        "projector_hidden_size": 8,
    },
    "paligemma": {
        "text_config": {**COMMON, "model_type": "gemma", "head_dim": 8},
        "vision_config": {**VISION, "model_type": "siglip_vision_model", "projection_dim": HIDDEN},
        "projection_dim": HIDDEN,
        "image_token_index": 5,
    },
    "qwen2_vl": {
        "text_config": {**COMMON, **mrope([2, 1, 1]), "model_type": "qwen2_vl_text"},
        "vision_config": {**PATCHES, "hidden_size": HIDDEN},
        **MARKS,
    },
    "qwen2_5_vl": {
        "text_config": {**COMMON, **mrope([2, 1, 1]), "model_type": "qwen2_5_vl_text"},
        "vision_config": {**PATCHES, "fullatt_block_indexes": [1]},
        **MARKS,
    },
    "qwen3_vl": {
        "text_config": {**COMMON, **mrope([2, 1, 1]), "head_dim": 8, "model_type": "qwen3_vl_text"},
        "vision_config": {**PATCHES, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **MARKS,
    },
    "glm4v_moe": {
        "text_config": {
            **COMMON, **OWN["glm4v_moe_text"], **mrope([1, 1, 0], partial_rotary_factor=0.5), "model_type": "glm4v_moe_text",
        },
        "vision_config": PATCHES,
        **MARKS,
    },
    "qwen3_vl_moe": {
        "text_config": {**COMMON, **QWEN_MOE, **mrope([2, 1, 1]), "model_type": "qwen3_vl_moe_text"},
        "vision_config": {**PATCHES, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **MARKS,
    },
    "qwen3_5": {
        "text_config": {
            **COMMON, **OWN["qwen3_5_text"], **mrope([1, 1, 0], partial_rotary_factor=0.5), "model_type": "qwen3_5_text",
        },
        "vision_config": {**PATCHES, "num_position_embeddings": 16},
        **MARKS,
    },
    "qwen3_5_moe": {
        "text_config": {
            **COMMON, **OWN["qwen3_5_moe_text"], **mrope([1, 1, 0], partial_rotary_factor=0.5),
            "model_type": "qwen3_5_moe_text",
        },
        "vision_config": {**PATCHES, "num_position_embeddings": 16},
        **MARKS,
    },
    "kimi_k25": {
        "text_config": {**COMMON, **OWN["deepseek_v3"], "model_type": "deepseek_v3"},
        "vision_config": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12,
                          "patch_size": 4},
    },
    "aria": {
        "text_config": {**COMMON, **OWN["aria_text"], "model_type": "aria_text"},
        "vision_config": {**VISION, "model_type": "idefics3_vision"},
        "image_token_index": 5,
    },
}  # fmt: skip
DENSE_WRAPPERS = tuple(name for name, parts in WRAPPERS.items() if parts["text_config"]["model_type"] not in MIXTURES)
# Families that transformers has within a wrapper alone.
TOWERS = {
    "glm4v_text": "glm4v", "qwen2_vl_text": "qwen2_vl", "qwen2_5_vl_text": "qwen2_5_vl", "qwen3_vl_text": "qwen3_vl",
    "glm4v_moe_text": "glm4v_moe", "qwen3_vl_moe_text": "qwen3_vl_moe", "mistral4": "mistral3",
}  # fmt: skip


class Case(NamedTuple):
    """A family, or a variant of one that lays out its layer in another way."""

    model_type: str
    config: dict[str, Any]


CASES = {name: Case(name, {}) for name in DENSE} | {
    "llama+mlp_bias": Case("llama", {"mlp_bias": True}),
    "llama+square": Case("llama", {"intermediate_size": HIDDEN}),  # no shape tells which axis neurons lie along
    "gpt2+square": Case("gpt2", {"n_inner": HIDDEN}),
    "mistral-window": Case("mistral", {"sliding_window": None}),
    "qwen2+tied": Case("qwen2", {"tie_word_embeddings": True}),
    "stablelm+parallel": Case("stablelm", {"use_parallel_residual": True}),
    "opt+postnorm": Case("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 8}),
    "opt-bias": Case("opt", {"enable_bias": False}),
    "falcon+bias": Case("falcon", {"bias": True}),
    "falcon+new_decoder": Case("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-parallel": Case("falcon", {"parallel_attn": False}),
    "starcoder2-bias": Case("starcoder2", {"use_bias": False}),
    "gemma3n+sparse": Case("gemma3n_text", {"activation_sparsity_pattern": [0.5, 0.0, 0.9]}),
    "falcon_h1+multipliers": Case("falcon_h1", {"mlp_multipliers": [0.5, 2.0]}),
    "jais2-bias": Case("jais2", {"mlp_bias": False}),
}
# Which exact carriers they have; calibrated they all have.
EXACT = {
    "native": (
        "bloom", "gpt2", "gpt2+square", "gpt_neo", "gpt_neox", "gptj", "opt", "opt+postnorm", "phi", "starcoder2",
        "xglm", "falcon+bias", "llama+mlp_bias", "biogpt", "codegen", "ctrl", "gpt_bigcode", "jais2", "persimmon",
        "recurrent_gemma",
    ),
    "flag": (
        "llama", "llama+square", "granite", "smollm3", "seed_oss", "helium", "nemotron", "arcee", "falcon",
        "falcon+new_decoder", "falcon-parallel", "bamba", "cwm", "doge", "ernie4_5", "falcon_h1", "granite_swa",
        "hyperclovax", "iquestcoder", "minicpm3",
    ),
    "llama": ("mistral-window", "qwen2", "qwen2+tied", "phi3"),
}  # fmt: skip
IDS = torch.randint(6, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(0))
TOLERANCE = 1e-5  # of the largest logit: noise of float32 arithmetic in another order
MOVED = 1e-3  # what an edit must change at least, or a test could not fail


# Transformers 4 has them, but computes none of these tiny ones: positions in three axes stand elsewhere in its configs, and
# it compiles gpt_bigcode's activation function in a way that torch warns of; RecurrentGemma keeps its state from one batch to
# the next.
FROM_5 = ("recurrent_gemma", "glm4v", "glm4v_text", "glm4v_moe", "glm4v_moe_text", "gpt_bigcode", "lfm2_vl", "qwen2_vl",
          "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl", "qwen3_vl_text", "qwen3_vl_moe",
          "qwen3_vl_moe_text")  # fmt: skip


def need(model_type: str) -> None:
    """Skip where the installed transformers has no such family, or none that can be run here."""
    if model_type in FROM_5 and transformers.__version__.startswith("4."):
        pytest.skip(f"{model_type} is tried with transformers 5 and later")
    if model_type not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {model_type}")


def need_5(why: str) -> None:
    """Skip with transformers 4, for a reason."""
    if transformers.__version__.startswith("4."):
        pytest.skip(why)


def save_tokenizer(folder: Path) -> None:
    """A byte-level BPE with `<s>` (0) and `</s>` (1)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.values(), trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)


def save_model(
    folder: Path,
    model_type: str = "llama",
    *,
    dtype: str = "float32",
    shards: bool = False,
    seed: int = 0,
    tokenizer: bool = True,
    **config: Any,
) -> Path:
    """Save a random model of a family (in its wrapper, where there is no other) or a wrapper, with a tokenizer; in several
    shards if asked. Weights are large enough that every neuron matters, and biases are not zero."""
    torch.manual_seed(seed)
    if model_type in TOWERS:
        tower, model_type = model_type, TOWERS[model_type]
        text = {**WRAPPERS[model_type]["text_config"], **OWN.get(tower, {}), "model_type": tower}
        config = {"text_config": {**text, **config}}
    if model_type in WRAPPERS:
        built = transformers.AutoConfig.for_model(model_type, **{**WRAPPERS[model_type], **config})
        model = transformers.AutoModelForImageTextToText.from_config(built, dtype=torch.float32)
    else:
        built = transformers.AutoConfig.for_model(model_type, **{**COMMON, **OWN.get(model_type, {}), **config})
        model = transformers.AutoModelForCausalLM.from_config(built, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.endswith("bias"):
                parameter.normal_(0, 0.3)
            elif ".alpha_" in name:  # learned in each layer's activation function
                parameter.copy_((parameter + torch.rand(parameter.shape)).bfloat16())  # transformers 4 holds no more
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="8KB" if shards else "5GB")
    if model_type == "kimi_k25":  # transformers calls its decoder's layers as its tower's, which no published file does
        rename(folder, "language_model.model.blocks.", "language_model.model.layers.")
    if tokenizer:
        save_tokenizer(folder)
    return folder


def rename(folder: Path, start: str, to: str) -> None:
    """Give the tensors of a checkpoint whose names begin with `start` names that begin with `to`."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        named = {
            to + name[len(start) :] if name.startswith(start) else name: one for name, one in load_file(file).items()
        }
        save_file(named, file, metadata=metadata)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        index.write_text(index.read_text(encoding="utf-8").replace(f'"{start}', f'"{to}'), encoding="utf-8")


def save_corpus(folder: Path, *, repeats: int = 60) -> Path:
    """`en.txt`, `fr.txt`, `zh.txt`: documents that differ by a number."""
    folder.mkdir(parents=True, exist_ok=True)
    for language, text in TEXT.items():
        documents = [f"{text} {number}." for number in range(repeats)]
        (folder / f"{language}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return folder


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps(config))


@cache
def live(folder: Path) -> Any:
    """The model of a folder, for tests that leave it as it is."""
    return load_model(folder, device="cpu")


def logits(model: Any) -> torch.Tensor:
    """float32 (2, 11, vocabulary) of the tokens IDS."""
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return result.float()


def to_steer(layers: int, width: int, seed: int = 1) -> Neurons:
    """Neurons of five languages: `xx`, with values of both signs and a zero, one neuron alone in layer 1; `off`, enough
    of them to be slots for those of `xx`, one of them shared with it; a few of `half`, `yy` and `zz`."""
    generator = np.random.default_rng(seed)
    indices: dict[str, list[Any]] = {"xx": [], "off": [], "half": [], "yy": [], "zz": []}
    means: dict[str, list[Any]] = {language: [] for language in indices}
    for layer in range(layers):
        drawn, count = generator.permutation(width), 1 if layer == 1 else 5
        ends = {"xx": (0, count), "off": (count - 1, count + 6), "half": (-5, -3), "yy": (-3, -1), "zz": (-1, width)}
        parts = {language: drawn[slice(*end)] for language, end in ends.items()}
        for language, part in parts.items():
            values = generator.uniform(0.4, 1.5, len(part)) * np.resize([1.0, -1.0], len(part))
            if language == "xx" and len(part) > 1:
                values[2] = 0.0
            indices[language].append(np.sort(part))
            means[language].append(values[np.argsort(part)])
    return Neurons(
        {language: tuple(own) for language, own in indices.items()},
        {"mean": {language: tuple(own) for language, own in means.items()}},
    )


def recipe(op: str, carrier: str = "auto", **more: Any) -> Recipe:
    """`op` on `xx` beside a deactivation and a scaling, "all" being pin on `xx` with add on `yy` and shift on `zz`. The
    neuron that `xx` and `off` share is `xx`'s."""
    ops = {"xx": "pin", "yy": "add", "zz": "shift"} if op == "all" else {"xx": op}
    constants = (Edit(language, each, 1.5, "mean") for language, each in ops.items())
    edits = (Edit("off", "deactivate"), *constants, Edit("half", "scale", 0.5))
    return Recipe(Base("tiny"), edits, "edit", carrier=carrier, **more)


def by_hand(target: Target, *, after: float = 0.01, seed: int = 2) -> Calibration:
    """A calibration with random directions, on which w·x is anything but 1, and a level below 0 in layer 1 where the
    activation function has one."""
    layers, hidden = target.feed_forward.layers, target.feed_forward.hidden
    directions = np.random.default_rng(seed).normal(0, 0.3, (layers, hidden)).astype(np.float32).astype(np.float64)
    levels = np.resize([1.5, 0.75, 2.0], layers)
    if abs(functions(target)[1](np.array([-1.25]))[0]) > 0.1:
        levels[1] = -1.25
    errors = (LayerError(1.0, 0.0, after, "letters", 0.0, None),) * layers
    dtype = target.feed_forward.outputs[0][1].dtype
    return Calibration(directions, levels, np.ones(layers), errors, 100, 50, ("xx",), dtype, target.fingerprint)


class Characters:
    """A tokenizer of one token a character; its beginning-of-text token is `bos_token_id`."""

    def __init__(self, bos_token_id: int | None) -> None:
        self.bos_token_id = bos_token_id

    def __call__(self, batch: list[str], *, add_special_tokens: bool, verbose: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        return {"input_ids": [[ord(character) for character in document] for document in batch]}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))
