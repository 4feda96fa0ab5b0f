"""The tensors of a checkpoint as floats, each read when it is asked for, and forgotten.

They go by the names that an unquantised checkpoint has: a quantised weight is one tensor here, read as the numbers that it
stands for. Files are read, not mapped, so what a process holds is what it asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError
from ..files.checkpoint import Tensor, read_checkpoint
from ..files.packed import Matrix, modules_of, quantisation_of
from ..files.packed.stored import FLOATS, Place
from ..models.families import family_of
from ..models.feed_forward import unstacked
from ..models.quantised import network_of

if TYPE_CHECKING:
    import torch

TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip  # dtypes of what is not packed, as torch names them


@dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint. `place` is its file and where in it, None where it is packed."""

    name: str
    shape: tuple[int, ...]
    floating: bool
    read: Callable[[], "torch.Tensor"]
    place: tuple[Path, Tensor] | None = None

    def __getitem__(self, everything: Any) -> "torch.Tensor":
        """Read it whole, as transformers asks for a tensor that it has not read yet."""
        return self.read()

    def get_shape(self) -> list[int]:
        return list(self.shape)

    @property
    def numbers(self) -> int:
        return int(np.prod(self.shape))

    def rows(self, wanted: Any) -> "torch.Tensor":
        """Read some rows of a table that is not packed."""
        import torch

        path, tensor = self._where()
        item = (tensor.end - tensor.begin) // max(1, self.numbers)
        shape = (*self.shape, item)
        with _readable(path):
            mapped = np.memmap(path, np.uint8, "r", offset=tensor.begin, shape=shape)
            found = np.ascontiguousarray(mapped[wanted])
        return torch.from_numpy(found).view(getattr(torch, TORCH[tensor.dtype])).reshape(len(found), *self.shape[1:])

    def _where(self) -> tuple[Path, Tensor]:
        if self.place is None:
            raise ValueError(f"{self.name} is packed")
        return self.place


def stored(folder: Path) -> dict[str, Stored]:
    """Return the tensors of a checkpoint by name.

    Raises ModelError for a format that monoglot doesn't read, CheckpointError where config and tensors disagree.
    """
    checkpoint = read_checkpoint(folder, quantised=True)
    quantisation = quantisation_of(checkpoint.config)
    packed: dict[str, Matrix] = {}
    hidden: set[str] = set()
    for module, parts in modules_of(unstacked(checkpoint)).items() if quantisation else ():
        if quantisation and not _plain(parts):
            packed[module] = quantisation.matrix(module, parts)
            hidden.update(tensor.name.partition("[")[0] for kind, (_, tensor) in parts.items() if kind != "bias")
    found = {}
    for shard, tensor in checkpoint.tensors():
        if tensor.name not in hidden and tensor.dtype in TORCH:  # not by safetensors: older ones know no F8_E8M0
            floating = "float" in TORCH[tensor.dtype]
            read = partial(_read, shard.path, tensor)
            found[tensor.name] = Stored(tensor.name, tensor.shape, floating, read, (shard.path, tensor))
    stacks: dict[str, dict[int, Callable[[], torch.Tensor]]] = {}
    for module, matrix in packed.items():
        stack, _, expert = module.removesuffix("]").partition("[")
        if not expert:
            name = f"{module}.weight"
            found[name] = Stored(name, (matrix.rows, matrix.columns), True, partial(_unpacked, matrix))
            continue
        network = network_of(module, family_of(checkpoint.config))
        turned = bool(network and network.conv1d)
        stacks.setdefault(stack, {})[int(expert)] = partial(_unpacked, matrix, turned)
        shape = (matrix.columns, matrix.rows) if turned else (matrix.rows, matrix.columns)
        found[stack] = Stored(stack, (len(stacks[stack]), *shape), True, partial(_stacked, stacks[stack]))
    return found


def dequantised(folder: Path, dtype: Any) -> Mapping[str, Any]:
    """All weights of a quantised checkpoint as floats of `dtype`, by the names that an unquantised one has."""
    return {name: one.read().to(dtype) if one.floating else one.read() for name, one in stored(folder).items()}


def _plain(parts: Mapping[str, Place]) -> bool:
    """Whether a module has a weight in floats and a bias at most."""
    return set(parts) <= {"weight", "bias"} and all(tensor.dtype in FLOATS for _, tensor in parts.values())


def _read(path: Path, tensor: Tensor) -> "torch.Tensor":
    import torch

    with _readable(path):
        data = np.fromfile(path, np.uint8, tensor.end - tensor.begin, offset=tensor.begin)
    if len(data) != tensor.end - tensor.begin:
        raise CheckpointError(f"{path} became shorter while it was read. Leave the model alone and run it again.")
    return torch.from_numpy(data).view(getattr(torch, TORCH[tensor.dtype])).reshape(tensor.shape)


def _unpacked(matrix: Matrix, turned: bool = False) -> "torch.Tensor":
    import torch

    with np.errstate(all="ignore"):
        number = torch.from_numpy(matrix.read(0, matrix.rows))
    return number.T if turned else number


def _stacked(experts: Mapping[int, Callable[[], "torch.Tensor"]]) -> "torch.Tensor":
    """Read the weights of all experts of a layer, one after another."""
    import torch

    return torch.stack([experts[expert]() for expert in sorted(experts)])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Check the file, and run it again.") from None
