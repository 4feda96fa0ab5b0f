"""Arrays of a statistics file, one of a kind per language, that stay in the file until they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError


class LanguageArrays(Mapping[str, Any]):
    """One kind of array of a statistics file, per language, each read when it is asked for, checked, and not kept."""

    def __init__(self, path: Path, kind: str, tokens: Mapping[str, int]) -> None:
        self.path, self.kind, self.tokens = path.absolute(), kind, tokens

    def __getitem__(self, language: str) -> npt.NDArray[Any]:
        return self._read(language, lambda file, name: file.get_tensor(name))

    def layer(self, language: str, layer: int) -> npt.NDArray[Any]:
        """Of an array (texts, layers, width) one layer, (texts, width)."""

        def one(file: Any, name: str) -> Any:
            part = file.get_slice(name)
            texts, _, width = part.get_shape()
            return (
                part[:, layer : layer + 1][:, 0] if texts else np.zeros((0, width), np.float32)
            )  # no slice of nothing

        return self._read(language, one)

    def _read(self, language: str, read: Callable[[Any, str], Any]) -> npt.NDArray[Any]:
        from safetensors import SafetensorError, safe_open

        if language not in self.tokens:
            raise KeyError(language)
        try:
            with safe_open(self.path, framework="numpy") as file:
                array: npt.NDArray[Any] = read(file, f"{language}.{self.kind}")
        except (SafetensorError, OSError) as error:
            raise StatisticsError(f"{self.path} was changed while it was read ({error}). Run it again.") from None
        if wrong := _impossible(self.kind, array, self.tokens[language]):
            raise StatisticsError(
                f"{self.path} is damaged ({language}.{self.kind} {wrong}). Run `monoglot detect` again."
            )
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)


def _impossible(kind: str, array: npt.NDArray[Any], tokens: int) -> str | None:
    """Say what an array holds that no text of so many tokens gives."""
    if array.dtype.kind == "f":
        return None if np.isfinite(array).all() else "holds NaN or infinity"
    counts = array.sum(axis=-1, dtype=np.int64) if kind == "histogram" else array
    if counts.size and (counts.min() < 0 or counts.max() > tokens):
        return f"holds counts of {counts.min():,} to {counts.max():,}, of {tokens:,} tokens"
    return None
