"""Tiny GGUF files, written by llama.cpp's own Python package `gguf`, which monoglot itself does not use; and what that
package reads in a file. Random weights: they say nothing, but every byte of them can be told from every other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import _type_traits, dequantize

LAYERS, WIDTH, HIDDEN = 3, 24, 256  # the layers and width of `tiny`'s models; whole blocks of every type
DECODED = tuple(kind.name for kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16, *_type_traits))


def stored(rows: int, columns: int, kind: str, seed: int) -> npt.NDArray[Any]:
    """Random rows in a type. Of the quantised types any bytes are rows, even if their scale is infinite."""
    random = np.random.default_rng(seed)
    if kind in ("F32", "F16"):
        return random.normal(size=(rows, columns)).astype(np.float32 if kind == "F32" else np.float16)
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return random.integers(1, 256, (rows, columns // block * size), np.uint8)


def write(
    path: Path,
    architecture: str = "llama",
    *,
    kind: str = "Q8_0",
    fused: bool = False,
    bias: bool = False,
    layers: int = LAYERS,
    width: int = WIDTH,
    hidden: int = HIDDEN,
    alignment: int = 32,
    keys: Mapping[str, Any] | None = None,
    vocabulary: int = 40,
    drop: str | None = None,
) -> Path:
    """A model without attention. `keys` with the value None are left out; `drop` is a tensor that is."""
    writer = gguf.GGUFWriter(path, architecture)
    found: dict[str, Any] = {
        "general.type": "model", "general.name": "Tiny", f"{architecture}.block_count": layers,
        f"{architecture}.feed_forward_length": width, f"{architecture}.embedding_length": hidden,
        f"{architecture}.rope.freq_base": 10000.0,
    } | dict(keys or {})  # fmt: skip
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    for key, value in found.items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
               list: writer.add_array}.get(type(value))  # fmt: skip
        if add:
            add(key, value)
    writer.add_array("tokenizer.ggml.tokens", [f"t{number}é" for number in range(vocabulary)])
    writer.add_array("tokenizer.ggml.scores", [float(number) for number in range(vocabulary)])
    rows = 2 * width if fused else width
    tensors = {"token_embd.weight": stored(vocabulary, hidden, "Q8_0", 1), "output_norm.weight": np.ones(5, np.float32)}
    for layer in range(layers):
        seed, name = 10 * layer + 2, f"blk.{layer}"
        tensors[f"{name}.ffn_down.weight"] = stored(hidden, width, "F32", seed)
        if not fused:
            tensors[f"{name}.ffn_gate.weight"] = stored(width, hidden, kind, seed + 1)
        tensors[f"{name}.ffn_up.weight"] = stored(rows, hidden, kind, seed + 2)
        if bias:
            tensors[f"{name}.ffn_up.bias"] = np.arange(1, rows + 1, dtype=np.float32)
    for name, data in tensors.items():
        if name != drop:
            quantised = None
            if data.dtype == np.uint8:
                quantised = GGMLQuantizationType[kind if ".ffn_" in name else "Q8_0"]
            writer.add_tensor(name, data, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Read(NamedTuple):
    """A tensor as `gguf` reads it: rows in bytes, and their numbers."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    raw: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.float32] | None


def read(path: Path) -> dict[str, Read]:
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        rows = int(np.prod(tensor.shape[1:])) if len(tensor.shape) > 1 else 1
        raw = np.array(tensor.data).view(np.uint8).reshape(rows, -1)
        with np.errstate(all="ignore"):
            numbers = dequantize(tensor.data, tensor.tensor_type) if tensor.tensor_type.name in DECODED else None
        found[tensor.name] = Read(
            tensor.tensor_type.name, tuple(int(n) for n in tensor.shape), int(tensor.data_offset), raw, numbers
        )
    return found
