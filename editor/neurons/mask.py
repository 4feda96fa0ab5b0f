"""The paper's released masks (`.neuron.pth`): read without unpickling anything but tensors, and written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import NeuronsError
from ..files.output import replace_file
from .neurons import Int64, Neurons, _indices


def read_mask(path: Path, languages: Sequence[str]) -> Neurons:
    """Read the authors' `.neuron.pth`: one entry of the list per language, in the order that `languages` gives."""
    import torch

    if not path.is_file():
        raise NeuronsError(f"there is no file {path}.")
    try:
        mask = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a malformed pickle raises whatever its last instruction raised
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NeuronsError(f"{path} is not a file of plain tensors, and nothing else is loaded ({reason}).") from None
    if not isinstance(mask, (list, tuple)) or not all(isinstance(layers, (list, tuple)) for layers in mask):
        raise NeuronsError(f"{path} is not a list (languages) of lists (layers) of index tensors.")
    if len(mask) != len(languages) or len(set(languages)) != len(languages):
        raise NeuronsError(f"{path} has {len(mask)} languages; `languages` names {len(set(languages))}.")
    indices: dict[str, tuple[Int64, ...]] = {}
    for language, layers in zip(languages, mask, strict=True):
        if not all(isinstance(layer, torch.Tensor) and _holds_indices(layer) for layer in layers):
            raise NeuronsError(f"{path}: {language} is not a list of index tensors.")
        indices[language] = tuple(
            _indices(sorted(layer.flatten().tolist()), language, i) for i, layer in enumerate(layers)
        )
    if len({len(layers) for layers in indices.values()}) != 1:
        raise NeuronsError(f"{path}: the languages have different numbers of layers.")
    return Neurons(indices, method={"name": "imported", "file": path.name})


def _holds_indices(tensor: Any) -> bool:
    """Tell whether a tensor is dense and holds whole numbers.

    An empty one may be of any dtype, as `torch.tensor([])` is.
    """
    import torch

    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return tensor.layout is torch.strided and (tensor.dtype in whole or not tensor.numel())


def write_mask(neurons: Neurons, path: Path) -> None:
    """Write the authors' format: a list (languages, in their order here) of lists (layers) of int64 tensors."""
    import io

    import torch

    buffer = io.BytesIO()
    torch.save([[torch.from_numpy(layer.copy()) for layer in layers] for layers in neurons.indices.values()], buffer)
    replace_file(path, buffer.getvalue())
