"""Tiny models with random weights, as folders on disk, for every test that needs a checkpoint."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

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
OWN: dict[str, dict[str, Any]] = {
    "falcon": {"ffn_hidden_size": WIDTH},
    "gpt2": {"n_inner": WIDTH},
    "gpt_neo": {"num_layers": LAYERS, "attention_types": [[["global", "local"], 1], [["global"], 1]]},
    "gptj": {"n_inner": WIDTH, "rotary_dim": 4},
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "opt": {"ffn_dim": WIDTH, "word_embed_proj_dim": HIDDEN},
    "xglm": {"ffn_dim": WIDTH},
}

# Multimodal wrappers: a text tower of the type that their text_config names, and a vision tower of two layers.
VISION = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
          "patch_size": 8}  # fmt: skip
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
    "paligemma": {
        "text_config": {**COMMON, "model_type": "gemma", "head_dim": 8},
        "vision_config": {**VISION, "model_type": "siglip_vision_model", "projection_dim": HIDDEN},
        "projection_dim": HIDDEN,
        "image_token_index": 5,
    },
}


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
    """Save a random model of a family or a wrapper, with a tokenizer; in several shards if asked. Weights are large
    enough that every neuron matters, and biases are not zero."""
    torch.manual_seed(seed)
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
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="8KB" if shards else "5GB")
    if tokenizer:
        save_tokenizer(folder)
    return folder


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
