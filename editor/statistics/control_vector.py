"""Control vectors that other programs make: one vector a layer, added to what the layer puts out.

    .gguf          of repeng and llama.cpp: general.architecture "controlvector", tensors direction.1, direction.2, …
    .safetensors   direction.N, or any name that ends in the number of a layer; one array (d,) alone; or one (layers, d)
    .pt, .pth      the same from torch.save: a tensor, a list of tensors, or a dict of them by name or number

N is the number of the layer, from 0, after which the vector is added (llama.cpp has none after layer 0). An array of one row
more than the model has layers begins with the embedding, as transformers' hidden states do; that row is passed over, and so
is a row that is nothing but zeros. Of a .pt file only tensors are loaded, never other pickles, as those could run code.
"""

import re
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..files import floats
from ..files.companions import check_content
from ..files.gguf import ALIGNMENT, MAGIC, read_gguf
from ..files.output import check_absent, replace_file

Float64 = npt.NDArray[np.float64]

ARCHITECTURE = "controlvector"
DIRECTION = "direction."
LAYER = re.compile(r"(?:.*[._])?([0-9]{1,5})")
ENDINGS = (".gguf", ".safetensors", ".pt", ".pth")
GGUF_TEXT, GGUF_NUMBER, GGUF_F32 = 8, 4, 0


def read(path: Path, layers: int, point: int | None = None) -> dict[int, Float64]:
    """Read the vectors of a file, by the layer that each is added after: float64 (d,).

    `layers` are the model's. A file with one vector and no number needs a `point`; of others only the vector there is
    returned. Raises StatisticsError for a file that is none, or holds something else than vectors.
    """
    if not path.is_file():
        raise StatisticsError(f"there is no file {path}.")
    check_content(path)
    if path.suffix not in ENDINGS:
        raise StatisticsError(f"{path} is no control vector: it is to end in {', '.join(ENDINGS)}.")
    reader = {".gguf": _of_gguf, ".safetensors": _of_safetensors}.get(path.suffix, _of_torch)
    found = _by_layer(path, reader(path), layers, point)
    for layer, vector in found.items():
        if not np.isfinite(vector).all():
            raise StatisticsError(f"{path}: the vector after layer {layer} holds NaN or infinity.")
        if layer >= layers:
            raise StatisticsError(
                f"{path} has a vector after layer {layer}, and the model's last one is {layers - 1}. It is of another model."
            )
    if len({len(vector) for vector in found.values()}) > 1:
        raise StatisticsError(f"{path}: its vectors are of different lengths. It is damaged.")
    if point is not None and point not in found:
        raise StatisticsError(
            f"{path} has no vector after layer {point}; it has some after {', '.join(map(str, sorted(found)))}."
        )
    chosen = {layer: vector for layer, vector in sorted(found.items()) if point in (None, layer) and vector.any()}
    if not chosen:
        raise StatisticsError(f"{path} holds nothing but zeros.")
    return chosen


def _by_layer(path: Path, arrays: Mapping[str, Float64], layers: int, point: int | None) -> dict[int, Float64]:
    found: dict[int, Float64] = {}
    for name, array in arrays.items():
        match = LAYER.fullmatch(name)
        if array.ndim == 1 and match:
            found[int(match[1])] = array
        elif len(arrays) > 1:
            raise StatisticsError(
                f"{path}: {name} is {list(array.shape)} and does not end in the number of a layer. Name each vector "
                f"{DIRECTION}N."
            )
        elif array.ndim == 2 and len(array) in (layers, layers + 1):
            found = dict(enumerate(array[len(array) - layers :]))
        elif array.ndim == 1 and point is not None:
            found = {point: array}
        elif array.ndim == 1:
            raise StatisticsError(
                f"{path} does not say after which layer its vector is to be added. Say so with `point`."
            )
        else:
            raise StatisticsError(
                f"{path} holds an array of {list(array.shape)}: neither one vector, nor one for each of {layers} layers."
            )
    if not found:
        raise StatisticsError(f"{path} holds no vectors.")
    return found


def _of_gguf(path: Path) -> dict[str, Float64]:
    gguf = read_gguf(path)
    if gguf.architecture != ARCHITECTURE:
        raise StatisticsError(f"{path} is a model ({gguf.architecture}), no control vector.")
    found = {}
    with path.open("rb") as file:
        for name, tensor in gguf.tensors.items():
            if tensor.type.name not in floats.STORED or len([n for n in tensor.shape if n != 1]) > 1:
                raise StatisticsError(
                    f"{path}: {name} is {tensor.type.name} {list(tensor.shape)}, no vector of floats."
                )
            file.seek(tensor.begin)
            stored = np.frombuffer(file.read(tensor.end - tensor.begin), floats.STORED[tensor.type.name])
            found[name] = floats.to_float64(stored, tensor.type.name)
    return found


def _of_safetensors(path: Path) -> dict[str, Float64]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: _array(path, name, tensor) for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise StatisticsError(f"{path} is not a safetensors file, or damaged ({error}).") from None


def _of_torch(path: Path) -> dict[str, Float64]:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a malformed pickle raises whatever its last instruction raised
        raise StatisticsError(
            f"{path} is not a file of plain tensors, and nothing else is loaded: anything else could run code. Save the "
            "vectors alone, as {layer: tensor}."
        ) from None
    if isinstance(held, torch.Tensor):
        held = {"vector": held}
    elif isinstance(held, (list, tuple)):
        held = dict(enumerate(held))
    if not isinstance(held, dict) or not all(isinstance(each, torch.Tensor) for each in held.values()):
        raise StatisticsError(f"{path} holds something else than tensors, a list of them, or a dict of them.")
    return {str(name): _array(path, str(name), tensor) for name, tensor in held.items()}


def _array(path: Path, name: str, tensor: Any) -> Float64:
    if not tensor.is_floating_point() or tensor.is_sparse or tensor.is_quantized:
        raise StatisticsError(f"{path}: {name} is {str(tensor.dtype).removeprefix('torch.')}, no vector of floats.")
    found: Float64 = tensor.detach().double().numpy()
    return found[0] if found.ndim == 2 and len(found) == 1 else found


# Writing


def write(path: Path, vectors: Mapping[int, Float64], model_type: str) -> None:
    """Write vectors, by layer, to a .gguf or .safetensors file, as float32. Raises what `check_place` raises."""
    check_place(path, vectors)
    arrays = {f"{DIRECTION}{layer}": vector.astype("<f4") for layer, vector in sorted(vectors.items())}
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        replace_file(path, save(arrays))
        return
    replace_file(path, _gguf(arrays, model_type, 1 + max(vectors)))


def check_place(path: Path, layers: Collection[int]) -> None:
    """Raise StatisticsError for vectors after these layers that no such file can hold, OutputError for one that is there."""
    if path.suffix not in (".gguf", ".safetensors"):
        raise StatisticsError(f"{path}: vectors are written to a .gguf or a .safetensors file. Name one.")
    if not layers:
        raise StatisticsError(f"{path}: no vector is added after a layer, so there is none to write. Name a `point`.")
    if path.suffix == ".gguf" and 0 in layers:
        raise StatisticsError(
            f"{path}: llama.cpp adds no vector after layer 0, so a .gguf file can't hold one. Take another layer, or write a "
            ".safetensors file."
        )
    check_absent(path, force=False)


def _gguf(arrays: Mapping[str, npt.NDArray[Any]], model_type: str, layers: int) -> bytes:
    keys = [
        ("general.architecture", ARCHITECTURE), (f"{ARCHITECTURE}.model_hint", model_type),
        (f"{ARCHITECTURE}.layer_count", layers),
    ]  # fmt: skip
    header = MAGIC + struct.pack("<IQQ", 3, len(arrays), len(keys))
    for key, value in keys:
        header += _text(key)
        if isinstance(value, str):
            header += struct.pack("<I", GGUF_TEXT) + _text(value)
        else:
            header += struct.pack("<II", GGUF_NUMBER, value)
    data = b""
    for name, array in arrays.items():
        header += _text(name) + struct.pack("<IQIQ", 1, len(array), GGUF_F32, len(data))
        data += array.tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    return header + bytes(-len(header) % ALIGNMENT) + data


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
