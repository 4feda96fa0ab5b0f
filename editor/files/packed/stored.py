"""The tensors of one projection as the file has them, checked against what config.json says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError
from ..checkpoint import Shard, Tensor
from .matrix import Float32
from .numbers import RAW, to_float32

Place = tuple[Shard, Tensor]
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Stored:
    """The tensors of a module, by what their names add to the module's.

    "weight", "qweight", "scales". `said` is what the config says of it, for messages.
    """

    module: str
    parts: Mapping[str, Place]
    said: str

    def name(self, kind: str) -> str:
        return self.parts[kind][1].name if kind in self.parts else f"{self.module}.{kind}"

    def has(self, kind: str) -> bool:
        return kind in self.parts

    def take(self, kind: str, dtypes: Sequence[str], shape: Sequence[int] | None = None) -> Tensor:
        """Return a tensor that has to be there, of one of the dtypes and of the shape. Raises CheckpointError."""
        if kind not in self.parts:
            has = ", ".join(f"{each} {self._form(each)}" for each in sorted(self.parts)) or "no tensor of that name"
            raise CheckpointError(
                f"config.json says {self.said}, so {self.module} should have {kind}; the file has {has}. "
                "Config and weights don't belong together: download both again."
            )
        tensor = self.parts[kind][1]
        if tensor.dtype not in dtypes or (shape is not None and tensor.shape != tuple(shape)):
            wanted = f"{' or '.join(dtypes)}{'' if shape is None else f' {list(shape)}'}"
            raise CheckpointError(
                f"config.json says {self.said}, so {self.name(kind)} should be {wanted}; in the file it is "
                f"{self._form(kind)}. Config and weights don't belong together: download both again."
            )
        return tensor

    def wrong(self, why: str) -> CheckpointError:
        """Return an error for config and tensors that contradict each other."""
        return CheckpointError(
            f"config.json says {self.said}, but of {self.module} {why}. Config and weights don't belong together: "
            "download both again."
        )

    def array(self, kind: str) -> npt.NDArray[Any]:
        """Return a tensor's numbers as they are stored; nothing is read before it is used."""
        shard, tensor = self.parts[kind]
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, RAW[tensor.dtype])
        return np.memmap(shard.path, RAW[tensor.dtype], "r", tensor.begin, tensor.shape)

    def floats(self, kind: str, index: Any = ...) -> Float32:
        """Return some of a tensor's numbers, exactly."""
        return to_float32(np.asarray(self.array(kind)[index]), self.parts[kind][1].dtype)

    def broken(self, kind: str) -> CheckpointError:
        """Return an error for numbers that are not finite and multiply what is cleared: zero times NaN isn't zero."""
        return CheckpointError(
            f"{self.parts[kind][0].path}: {self.name(kind)} holds NaN or infinite scales. The checkpoint is broken: get it "
            "again."
        )

    def _form(self, kind: str) -> str:
        tensor = self.parts[kind][1]
        return f"{tensor.dtype} {list(tensor.shape)}"
