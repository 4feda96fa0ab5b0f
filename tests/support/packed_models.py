"""Tiny models whose feed-forward weights are quantised by the plain writers, each with its twin in floats."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from monoglot.editor.files.checkpoint import read_checkpoint
from support.packed_writers import FORMATS, Made, e2m1

LAYERS, WIDTH, HIDDEN, EXPERTS = 2, 128, 64, 3
COMMON = {"vocab_size": 300, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
          "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}  # fmt: skip
# model type -> what its config has besides, and its feed-forward projections with their shapes
KINDS: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]]]] = {
    "llama": (
        {"intermediate_size": WIDTH, "num_key_value_heads": 2, "mlp_bias": True},
        {"mlp.gate_proj": (WIDTH, HIDDEN), "mlp.up_proj": (WIDTH, HIDDEN), "mlp.down_proj": (HIDDEN, WIDTH)},
    ),
    "phi3": (
        {"intermediate_size": WIDTH, "num_key_value_heads": 2},
        {"mlp.gate_up_proj": (2 * WIDTH, HIDDEN), "mlp.down_proj": (HIDDEN, WIDTH)},
    ),
    "gpt_neox": (
        {"intermediate_size": WIDTH},
        {"mlp.dense_h_to_4h": (WIDTH, HIDDEN), "mlp.dense_4h_to_h": (HIDDEN, WIDTH)},
    ),
    "qwen3_moe": (  # the second layer has a dense network
        {"intermediate_size": WIDTH, "moe_intermediate_size": WIDTH, "num_key_value_heads": 2, "num_experts": EXPERTS,
         "num_experts_per_tok": 2, "mlp_only_layers": [1]},
        {".gate_proj": (WIDTH, HIDDEN), ".up_proj": (WIDTH, HIDDEN), ".down_proj": (HIDDEN, WIDTH)},
    ),
}  # fmt: skip


def save(
    folder: Path, name: str, model_type: str = "llama", *, plain_layers: Sequence[int] = (),
    settings: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[Path, Path]:  # fmt: skip
    """A model in the format `name` of `FORMATS` and its twin in float32: their folders. `plain_layers` are left as they are;
    `settings` may say so in the config."""
    twin, packed = folder / "twin", folder / "packed"
    more, projections = KINDS[model_type]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **{**COMMON, **more})
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2 if parameter.dim() == 2 else 0.5)
    model.save_pretrained(twin)
    state = {name: each.clone() for name, each in load_file(twin / "model.safetensors").items()}  # written over below
    rng = np.random.default_rng(0)
    stored: dict[str, tuple[str, np.ndarray]] = {}
    replaced: set[str] = set()
    made: Made | None = None
    metadata: dict[str, str] = {"format": "pt"}
    for module in sorted(key.removesuffix(".weight") for key in state if key.endswith(".weight")):
        projection = next((each for each in projections if module.endswith(each)), None)
        number = int(next(part for part in module.split(".") if part.isdigit())) if projection else -1
        if projection is None or number in plain_layers:
            continue
        made = FORMATS[name](rng, *projections[projection])
        state[f"{module}.weight"] = torch.from_numpy(np.ascontiguousarray(made.weights, np.float32))
        replaced.add(f"{module}.weight")
        stored |= {f"{module}.{kind}": each for kind, each in made.tensors.items()}
        own = next(iter(made.metadata.values()), None)
        metadata |= {f"{module}.weight": own} if own else {}
    save_file(state, twin / "model.safetensors", {"format": "pt"})
    assert made
    packed.mkdir()
    floats = {key: ("F32", value.numpy()) for key, value in state.items() if key not in replaced}
    _write(packed / "model.safetensors", floats | stored, metadata)
    config = json.loads((twin / "config.json").read_text())
    own_settings = settings(made.settings)
    key = "quantization" if "quant_method" not in own_settings else "quantization_config"
    (packed / "config.json").write_text(json.dumps({**config, key: own_settings}))
    return packed, twin


def save_gpt_oss(folder: Path) -> tuple[Path, Path]:
    """A gpt_oss in MXFP4 as it is released, and its twin in float32: their folders."""
    twin, packed = folder / "twin", folder / "packed"
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        "gpt_oss", **COMMON, intermediate_size=WIDTH // 2, num_key_value_heads=2, head_dim=32, num_local_experts=EXPERTS,
        num_experts_per_tok=2, layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(twin)
    state = {name: each.clone() for name, each in load_file(twin / "model.safetensors").items()}  # written over below
    rng = np.random.default_rng(0)
    stored: dict[str, tuple[str, np.ndarray]] = {}
    for name in [name for name in state if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, columns, rows = state[name].shape  # as transformers keeps floats
        codes = rng.integers(0, 16, (experts, rows, columns))
        scales = rng.integers(120, 126, (experts, rows, columns // 32)).astype(np.uint8)
        values = np.array([e2m1(int(code)) for code in codes.reshape(-1)]).reshape(codes.shape)
        numbers = values * np.repeat(2.0 ** (scales.astype(np.int64) - 127), 32, axis=2)
        state[name] = torch.from_numpy(np.ascontiguousarray(numbers.transpose(0, 2, 1), np.float32))
        blocks = (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8).reshape(experts, rows, columns // 32, 16)
        stored |= {f"{name}_blocks": ("U8", blocks), f"{name}_scales": ("U8", scales)}
    save_file(state, twin / "model.safetensors", {"format": "pt"})
    packed.mkdir()
    floats = {name: ("F32", value.numpy()) for name, value in state.items() if f"{name}_blocks" not in stored}
    _write(packed / "model.safetensors", floats | stored, {"format": "pt"})
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.embed_tokens"]}
    own = json.loads((twin / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps({**own, "quantization_config": settings}))
    return packed, twin


def _write(path: Path, tensors: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str]) -> None:
    entries: dict[str, Any] = {"__metadata__": metadata}
    data = b""
    for name, (dtype, numbers) in tensors.items():
        raw = np.ascontiguousarray(numbers).tobytes()
        entries[name] = {
            "dtype": dtype,
            "shape": list(numbers.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def changed_bytes(packed: Path, out: Path) -> dict[str, list[int]]:
    """Name of each tensor -> the offsets in it of bytes that differ."""
    (before,), (after,) = (read_checkpoint(folder, quantised=True).shards for folder in (packed, out))
    assert before.header == after.header
    old, new = (np.frombuffer(shard.path.read_bytes(), np.uint8) for shard in (before, after))
    differ = np.flatnonzero(old != new)
    return {
        tensor.name: (inside - tensor.begin).tolist()
        for tensor in before.tensors
        if len(inside := differ[(differ >= tensor.begin) & (differ < tensor.end)])
    }
