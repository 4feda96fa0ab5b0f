"""The bytes of a safetensors file, piece by piece, as safetensors' own writer would give them.

That writer wants all arrays in memory, and copies them twice. Statistics of a large model hold arrays of many gigabytes, a
layer after another, which so are in memory one layer at a time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES = {
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "uint8": "U8",
}  # in the order of the file


class Stacked:
    """An array (layers, …) that is there layer by layer: each is taken from `layers` when it is written."""

    def __init__(self, layers: Sequence[Array] | Array) -> None:
        first = layers[0]
        self.layers, self.dtype, self.shape = layers, first.dtype, (len(layers), *first.shape)


def pieces(arrays: Mapping[str, Array | Stacked], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Yield a file of these arrays. Their dtypes are among DTYPES."""
    places = list(DTYPES)
    order = sorted(arrays, key=lambda name: (places.index(arrays[name].dtype.name), name))
    head: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name in order:
        array = arrays[name]
        end = at + int(np.prod(array.shape, dtype=np.int64)) * array.dtype.itemsize
        head[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header
    for name in order:
        array = arrays[name]
        for part in array.layers if isinstance(array, Stacked) else [array]:
            ordered = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            yield ordered.reshape(-1).view(np.uint8).data if ordered.size else b""
