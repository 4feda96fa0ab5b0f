"""The paper's released masks (`.neuron.pth`): read without unpickling anything but tensors, and written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import NeuronsError
from ..files.companions import check_content
from ..files.output import replace_file
from ..text.languages import is_code
from .neurons import Int64, Neurons, _indices


def read_mask(path: Path, languages: Sequence[str]) -> Neurons:
    """Read the authors' `.neuron.pth`: one entry of the list per language, in the order that `languages` gives."""
    import torch

    if not path.is_file():
        raise NeuronsError(f"there is no file {path}.")
    check_content(path)
    try:
        mask = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ):  # a malformed pickle raises whatever its last instruction raised; PyTorch advises to load it unsafely
        raise NeuronsError(
            f"{path} is not a file of plain tensors, and nothing else is loaded: anything else could run code."
        ) from None
    if not isinstance(mask, (list, tuple)) or not all(isinstance(layers, (list, tuple)) for layers in mask):
        raise NeuronsError(f"{path} is not a list (languages) of lists (layers) of index tensors.")
    if len(mask) != len(languages) or len(set(languages)) != len(languages):
        raise NeuronsError(f"{path} has {len(mask)} languages; `languages` names {len(set(languages))}.")
    if foreign := [language for language in languages if not is_code(language)]:
        raise NeuronsError(f"{foreign[0]!r} is not the code of a language, such as zh or pt-BR.")
    indices: dict[str, tuple[Int64, ...]] = {}
    for language, layers in zip(languages, mask, strict=True):
        if any(isinstance(layer, torch.Tensor) and _is_zeros_and_ones(layer) for layer in layers):
            raise NeuronsError(
                f"{path}: {language} is a mask of zeros and ones, not a list of indices. Write the places of the ones "
                "instead: mask.nonzero().flatten()."
            )
        if not all(isinstance(layer, torch.Tensor) and _holds_indices(layer) for layer in layers):
            raise NeuronsError(f"{path}: {language} is not a list of index tensors.")
        indices[language] = tuple(
            _indices(sorted(layer.flatten().tolist()), language, i) for i, layer in enumerate(layers)
        )
    if len({len(layers) for layers in indices.values()}) != 1:
        raise NeuronsError(f"{path}: the languages have different numbers of layers.")
    return Neurons(indices, method={"name": "imported", "file": path.name})


def _is_zeros_and_ones(tensor: Any) -> bool:
    """Tell whether a tensor marks neurons in place of naming them: more than two numbers, all 0 or 1."""
    import torch

    if tensor.layout is not torch.strided or tensor.numel() <= 2:
        return False
    values = tensor.flatten()
    return bool(((values == 0) | (values == 1)).all())


def _holds_indices(tensor: Any) -> bool:
    """Tell whether a tensor is dense and holds whole numbers.

    An empty one may be of any dtype, as `torch.tensor([])` is.
    """
    import torch

    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return tensor.layout is torch.strided and (tensor.dtype in whole or not tensor.numel())


def write_mask(neurons: Neurons, path: Path) -> None:
    """Write the authors' format: a list (languages, in their order here) of lists (layers) of int64 tensors.

    Raises NeuronsError for the neurons of experts.
    """
    import io

    import torch

    if neurons.model and any(block.part for block in neurons.model.blocks):
        raise NeuronsError(
            "the format of masks has a list for each layer, and no place for experts. Use the neurons file."
        )
    buffer = io.BytesIO()
    torch.save([[torch.from_numpy(layer.copy()) for layer in layers] for layers in neurons.indices.values()], buffer)
    replace_file(path, buffer.getvalue())
