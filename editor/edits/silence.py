"""What a silence is made of: the tokens that write each script, and the direction that keeps them down.

`silence.monoglot` is of the format safetensors, with a name that no runtime takes for weights:

    {script}.ids   int64 (n,)      the tokens that go, in order
    direction      float32 (d,)    w, of the final hidden state; not there where the output layer has a bias

The metadata name the model, what was asked for, and how good w is. With it, baking needs neither tokenizer nor text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import kinds, schema
from ..files.array_file import ArrayFile
from ..files.output import replace_file
from ..files.schema import Count, Figure, Size
from ..models.identity import ModelInfo
from ..text.languages import Code
from ..text.silenced import Staying

FILE = "silence.monoglot"
DROP = 10_000.0  # what a bias is lowered by to silence a token: far below all logits, and every dtype holds it
FORMAT = 1
METADATA = kinds.METADATA["silence"]  # the key of the file's metadata
ARRAYS = ArrayFile("silence", FORMAT, "silence", "`bake` and `export` make one of text.", "bake again with text")

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Floor:
    """How far w·h is from zero on unseen text, and what that makes of silenced tokens.

    Mean, deviation and lowest value of w·h, and the kind of text that has that; the mean cosine of w and h; β; the logarithm
    of the highest probability, at any unseen position that was looked at, of all silenced tokens together, in nats;
    `tokens` and `unseen` count positions. `tied` says that it was measured on a model that keeps one table to read and to
    write with, and so reads the tokens as something else too.
    """

    tokens: Count
    unseen: Count
    ridge: Figure
    mean: Figure
    deviation: Figure
    lowest: Figure
    lowest_kind: str
    cosine: Figure
    strength: Figure
    highest: Figure
    tied: bool = False


@dataclass(frozen=True)
class Tokens:
    """How many tokens of a script are whole characters, mixed ones and pieces of characters, and what stays."""

    whole: Count
    mixed: Count
    pieces: Count
    staying: tuple[Staying, ...] = ()


@dataclass(frozen=True)
class Silence:
    """The tokens of each script, sorted, int64 (n,), and the direction w, float64 (d,), None where there is a bias.

    `rows` is the length of the output table; `spared` are the characters that may still be written; `languages` those whose
    text stays writable, and whose text w was fitted to.
    """

    model: ModelInfo
    rows: int
    ids: dict[str, Int64]
    tokens: dict[str, Tokens]
    spared: str
    languages: tuple[str, ...]
    direction: Float64 | None
    floor: Floor | None

    @property
    def scripts(self) -> tuple[str, ...]:
        return tuple(self.ids)


def save(silence: Silence, path: Path) -> None:
    """Write the file; the same silence gives the same bytes."""
    replace_file(path, serialise(silence))


def serialise(silence: Silence) -> bytes:
    """Return the bytes of the file."""
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, npt.NDArray[Any]] = {f"{script}.ids": ids for script, ids in silence.ids.items()}
    if silence.direction is not None:
        arrays["direction"] = silence.direction.astype(np.float32)
    head = {
        "version": FORMAT,
        "model": silence.model.to_data(),
        "rows": silence.rows,
        "tokens": schema.to_data(silence.tokens),
        "spared": silence.spared,
        "languages": list(silence.languages),
        "floor": schema.to_data(silence.floor) if silence.floor else None,
    }
    return to_bytes(arrays, metadata={METADATA: json.dumps(head)})


@dataclass(frozen=True)
class _Head:
    """What the metadata of a file says."""

    version: int
    model: dict[str, Any]  # which ModelInfo reads
    rows: Size
    tokens: dict[str, Tokens]
    spared: str
    languages: tuple[Code, ...]
    floor: Floor | None


def load(path: Path) -> Silence:
    """Read the file. Raises StatisticsError when it is missing, is not one, is damaged, or of an unknown format."""
    with ARRAYS.reading(path, _Head) as (head, file):
        return _checked(head, {name: file.get_tensor(name) for name in list(file.keys())})  # it is no dict


def _checked(head: _Head, arrays: Mapping[str, npt.NDArray[Any]]) -> Silence:
    """Return a silence from what its file says. Raises ValueError where that can't be."""
    ids = {script: arrays[f"{script}.ids"] for script in head.tokens}
    for script, own in ids.items():
        counts = head.tokens[script]
        if own.dtype != np.int64 or own.ndim != 1 or (np.diff(own) <= 0).any():
            raise ValueError(f"the tokens of {script} are not ids in order")
        if len(own) and not 0 <= own[0] <= own[-1] < head.rows:
            raise ValueError(f"a token of {script} is not in the table")
        if len(own) != counts.whole + counts.mixed + counts.pieces:
            raise ValueError(f"the tokens of {script} are not as many as it says")
    together = np.concatenate(list(ids.values())) if ids else np.zeros(0, np.int64)
    if not ids or len(np.unique(together)) != len(together):
        raise ValueError("a token is of two scripts, or there is no script")
    direction = arrays.get("direction")
    if (direction is None) != (head.floor is None):
        raise ValueError("it has a direction without figures, or figures without one")
    if direction is not None:
        if direction.dtype != np.float32 or direction.ndim != 1 or not np.isfinite(direction).all():
            raise ValueError("the direction is not one of finite numbers")
        direction = direction.astype(np.float64)
    return Silence(
        ModelInfo.of_data(head.model), head.rows, ids, head.tokens, head.spared, head.languages, direction, head.floor
    )  # fmt: skip
