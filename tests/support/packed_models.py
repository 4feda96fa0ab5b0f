"""Tiny models whose feed-forward weights are quantised by the plain writers, each with its twin in floats."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from support.packed_writers import FORMATS, Made

LAYERS, WIDTH, HIDDEN = 2, 128, 64
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
}


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
    state = load_file(twin / "model.safetensors")
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
