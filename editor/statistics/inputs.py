"""What the feed-forward network of each layer reads: the moments of its inputs, and a sample of them.

x_i, (d,), is the input of layer i's first projection (gate, or in), after the norm. Over the n counted tokens of all
languages together

    second_moment_i = Σ x xᵀ     float64 (d, d)
    first_moment_i  = Σ x        float64 (d,)

both additive, each batch rounded to a multiple of 2⁻²⁰ as the sums of activations are (see `statistics`). The
beginning-of-text token is not counted; it reads like nothing else, so its input is kept apart. The sample is of held-out
text, and so of none of the tokens that are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..files.array_pieces import Stacked

KINDS = ("letters", "digits", "punctuation", "white space", "other", "first token")
PREFIX = "inputs."  # of the tensors in a statistics file

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The rows of a sample that are of one text: how many, in which language, and its sha256."""

    language: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Sample:
    """A sample of inputs, at n tokens of held-out text.

    It has per layer float32 (n, d); token ids and positions in their contexts, int64 (n,); the kind of each token, one of
    KINDS; and the texts they are of, in the order of the rows.
    """

    x: Sequence[Float32] | Float32
    tokens: Int64
    positions: Int64
    kinds: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """The language of each row."""
        return tuple(part.language for part in self.parts for _ in range(part.rows))


@dataclass(frozen=True)
class Inputs:
    """Moments over `tokens` tokens, the summed input at the beginning-of-text token of `contexts` contexts, and a sample.

    second_moment: per layer float64 (d, d); first_moment and first_token_total: float64 (layers, d). Loaded ones read
    a layer's array from the file each time it is asked for.
    """

    tokens: int
    second_moment: Sequence[Float64] | Float64
    first_moment: Float64
    contexts: int
    first_token_total: Float64
    sample: Sample

    @property
    def layers(self) -> int:
        return len(self.first_moment)

    @property
    def hidden(self) -> int:
        return int(self.first_moment.shape[1])

    @property
    def first_token(self) -> Float64 | None:
        """Mean input at the beginning-of-text token, (layers, d); None where the tokenizer has no such token."""
        return self.first_token_total / self.contexts if self.contexts else None


# In a statistics file


def to_arrays(inputs: Inputs) -> tuple[dict[str, npt.NDArray[Any] | Stacked], dict[str, Any]]:
    """Return the tensors of a statistics file, and what its metadata says of them."""
    sample = inputs.sample
    arrays: dict[str, npt.NDArray[Any] | Stacked] = {
        "second_moment": Stacked(inputs.second_moment),
        "first_moment": inputs.first_moment,
        "first_token": inputs.first_token_total,
        "sample": Stacked(sample.x),
        "sample_tokens": sample.tokens,
        "sample_positions": sample.positions,
        "sample_kinds": np.array([KINDS.index(kind) for kind in sample.kinds], np.uint8),
    }
    parts = [vars(part) for part in sample.parts]
    head = {"tokens": inputs.tokens, "contexts": inputs.contexts, "parts": parts, "kinds": KINDS}
    return {PREFIX + name: array for name, array in arrays.items()}, head


@dataclass(frozen=True)
class Head:
    """What the metadata of a statistics file says of inputs."""

    tokens: int
    contexts: int
    parts: tuple[Part, ...]
    kinds: tuple[str, ...]


def from_file(path: Path, file: Any, head: Head, layers: int) -> Inputs:
    """`file` is the open statistics file at `path`. Raises ValueError when it doesn't hold what `head` says."""
    d = file.get_slice(f"{PREFIX}first_moment").get_shape()[-1]
    parts = head.parts
    rows = sum(part.rows for part in parts)
    shapes = {"second_moment": ("F64", [layers, d, d]), "first_moment": ("F64", [layers, d]),
              "first_token": ("F64", [layers, d]), "sample": ("F32", [layers, rows, d]), "sample_tokens": ("I64", [rows]),
              "sample_positions": ("I64", [rows]), "sample_kinds": ("U8", [rows])}  # fmt: skip
    for name, expected in shapes.items():
        found = file.get_slice(PREFIX + name)
        if (found.get_dtype(), found.get_shape()) != expected:
            raise ValueError(f"{PREFIX}{name} is {found.get_dtype()} of shape {found.get_shape()}")
    if head.tokens < 1 or head.contexts < 0 or not rows or any(part.rows < 0 for part in parts):
        raise ValueError(f"the inputs are of {head.tokens} tokens and {head.contexts} contexts, {rows} sampled")
    small = {name: file.get_tensor(PREFIX + name) for name in shapes if name not in ("second_moment", "sample")}
    for name in ("first_moment", "first_token"):
        if not np.isfinite(small[name]).all():
            raise ValueError(f"{PREFIX}{name} holds NaN or infinity")
    return Inputs(
        head.tokens,
        LayersOfFile(path, f"{PREFIX}second_moment", layers),
        small["first_moment"],
        head.contexts,
        small["first_token"],
        Sample(
            LayersOfFile(path, f"{PREFIX}sample", layers),
            small["sample_tokens"],
            small["sample_positions"],
            tuple(head.kinds[kind] for kind in small["sample_kinds"].tolist()),
            parts,
        ),
    )


class LayersOfFile(Sequence[Any]):
    """A tensor (layers, …) of a safetensors file, each layer read when it is asked for and not kept."""

    def __init__(self, path: Path, name: str, layers: int) -> None:
        self.path, self.name, self.layers = path.absolute(), name, layers

    def __getitem__(self, layer: Any) -> Any:
        from safetensors import SafetensorError, safe_open

        if isinstance(layer, int) and not -self.layers <= layer < self.layers:
            raise IndexError(layer)
        try:
            with safe_open(self.path, framework="numpy") as file:
                found = file.get_slice(self.name)[layer % self.layers if isinstance(layer, int) else layer]
        except (SafetensorError, OSError) as error:
            raise StatisticsError(f"{self.path} was changed while it was read ({error}). Run it again.") from None
        if wrong := self._impossible(found):
            raise StatisticsError(
                f"{self.path} is damaged ({self.name} {wrong}). Run `monoglot detect --calibrate` again."
            )
        return found

    def _impossible(self, array: npt.NDArray[Any]) -> str | None:
        """Say what an array holds that no text gives."""
        if not np.isfinite(array).all():
            return "holds NaN or infinity"
        squares = np.diagonal(array, axis1=-2, axis2=-1) if self.name == f"{PREFIX}second_moment" else np.ones(1)
        if (squares < 0).any() or not squares.any():
            return "holds squares that are negative, or all 0"
        return None

    def __len__(self) -> int:
        return self.layers


def add(parts: Sequence[Inputs]) -> Inputs:
    """Add up the inputs of texts, in any order the same; a text sampled in several is kept once."""
    first = parts[0]
    second = np.zeros((first.layers, first.hidden, first.hidden))
    for layer in range(first.layers):
        for part in parts:
            second[layer] += part.second_moment[layer]
    blocks: dict[tuple[str, str], tuple[Sample, slice]] = {}
    for part in parts:
        at = 0
        for text in part.sample.parts:
            blocks[text.language, text.sha256] = part.sample, slice(at, at + text.rows)
            at += text.rows
    order = [blocks[key] for key in sorted(blocks)]
    sample = Sample(
        [np.concatenate([sample.x[layer][rows] for sample, rows in order]) for layer in range(first.layers)],
        np.concatenate([sample.tokens[rows] for sample, rows in order]),
        np.concatenate([sample.positions[rows] for sample, rows in order]),
        tuple(kind for sample, rows in order for kind in sample.kinds[rows]),
        tuple(Part(*key, rows.stop - rows.start) for key, (_, rows) in sorted(blocks.items())),
    )
    return Inputs(
        sum(part.tokens for part in parts),
        second,
        np.sum([part.first_moment for part in parts], axis=0),
        sum(part.contexts for part in parts),
        np.sum([part.first_token_total for part in parts], axis=0),
        sample,
    )
