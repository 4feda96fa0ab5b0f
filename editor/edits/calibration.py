"""A stand-in for the constant 1 in models without biases: a direction w of the feed-forward network's input with w·x ≈ 1.

Fitted per layer by ridge regression of 1 on x, from the moments in the statistics (see `inputs`), S = Σ x xᵀ / n and
m = Σ x / n; the input x₀ of the beginning-of-text token, which is unlike all others, is given a weight of its own:

    w = (S + ρ x₀x₀ᵀ + λ·mean(diag S)·I)⁻¹ (m + ρ x₀)

With ρ = 0.01, w·x₀ is near 1 wherever that costs the other tokens little; a larger ρ makes their error several times as
large in layers where x₀ is close to their inputs in direction and not in size.

The gate row of a neuron that is pinned becomes t·w, and its activation act(t·s), s = w·x ≈ 1, instead of act(t). The
level t is where that matters least: where act is flat (near −0.75 for GELU, −1.28 for SiLU) the noise of s enters only
squared. λ and t are chosen on one half of the held-out sample; all errors are measured on the other half, which neither
the fit nor the choice has seen, with the row as it will be stored: round(t·w) in the checkpoint's dtype, s = that / t.
Where a tokenizer has no beginning-of-text token, the first token of a context reads as oddly, and is kept apart too.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from ..files import floats, kinds
from ..files.array_file import ArrayFile
from ..files.output import replace_file
from ..files.schema import Count, Figure, Form
from ..text.languages import Code

FILE = "calibration.monoglot"  # of the format safetensors, but vLLM takes every *.safetensors in a folder for weights
FORMAT = 1
METADATA = kinds.METADATA["calibration"]  # the key of the file's metadata
ARRAYS = ArrayFile(
    "calibration",
    FORMAT,
    "calibration file",
    "Make one with `monoglot detect --calibrate`.",
    "run `monoglot detect --calibrate` again",
)

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LayerError:
    """How far one layer's s is from 1, and its activation from act(t), on unseen text.

    Mean and deviation of s; `after`, the RMS of act(t·s)/act(t) − 1; the kind of token with the largest RMS of s − 1, and
    that RMS; s at the first position of a context, None where that was not recorded.
    """

    mean: Figure
    deviation: Figure
    after: Figure
    worst_kind: str
    worst: Figure
    first_token: Figure | None


@dataclass(frozen=True)
class Calibration:
    """The calibration of a model.

    Per layer: direction w, float64 (layers, d), exactly what its file holds as float32; level t and ridge λ, float64
    (layers,); and errors. `tokens` counts those that w was fitted to, `unseen` those that the errors are measured on.
    `dtype` is the checkpoint's (F32, F16, BF16), which holds every level exactly.
    """

    directions: Float64
    levels: Float64
    ridge: Float64
    errors: tuple[LayerError, ...]
    tokens: int
    unseen: int
    languages: tuple[str, ...]
    dtype: str
    fingerprint: str
    source: str = ""

    def record(self) -> list[dict[str, Any]]:
        """Return the errors per layer, with what they were measured at, for the manifest."""
        rows = zip(self.levels.tolist(), self.ridge.tolist(), self.errors, strict=True)
        return [
            {"level": level, "ridge": ridge}
            | {key: float(f"{v:.3g}") if isinstance(v, float) else v for key, v in vars(error).items()}
            for level, ridge, error in rows
        ]


# The file


def save(calibration: Calibration, path: Path) -> None:
    """Write it as safetensors. Raises OutputError."""
    replace_file(path, serialise(calibration))


def serialise(calibration: Calibration) -> bytes:
    """Return the bytes of the calibration's file; the same calibration gives the same bytes."""
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, npt.NDArray[Any]] = {
        "directions": calibration.directions.astype(np.float32),
        "levels": calibration.levels,
        "ridge": calibration.ridge,
    }
    head = {
        "version": FORMAT,
        "errors": [vars(error) for error in calibration.errors],
        "tokens": calibration.tokens,
        "unseen": calibration.unseen,
        "languages": calibration.languages,
        "dtype": calibration.dtype,
        "fingerprint": calibration.fingerprint,
        "source": calibration.source,
    }
    return bytes(to_bytes(arrays, metadata={METADATA: json.dumps(head)}))


@dataclass(frozen=True)
class _Head:
    """What the metadata of a file says."""

    version: int
    errors: tuple[LayerError, ...]
    tokens: Count
    unseen: Count
    languages: tuple[Code, ...]
    dtype: Annotated[str, Form(floats.STORED.__contains__, f"one of {', '.join(floats.STORED)}")]
    fingerprint: str
    source: str = ""


def load(path: Path) -> Calibration:
    """Read a calibration file. Raises StatisticsError when it is not one, is damaged, or of an unknown format."""
    with ARRAYS.reading(path, _Head) as (head, file):
        directions, levels, ridge = (file.get_tensor(name) for name in ("directions", "levels", "ridge"))
        stored = [(array.dtype.name, array.shape) for array in (directions, levels, ridge)]
        n = len(head.errors)
        if stored != [("float32", (n, directions.shape[-1])), ("float64", (n,)), ("float64", (n,))]:
            raise ValueError(f"it holds {stored} and errors of {n} layers")
        if not (np.isfinite(directions).all() and np.isfinite(levels).all() and levels.all()):
            raise ValueError("a direction or a level is NaN, infinite or zero")
    return Calibration(
        directions.astype(np.float64),
        levels,
        ridge,
        head.errors,
        head.tokens,
        head.unseen,
        head.languages,
        head.dtype,
        head.fingerprint,
        head.source,
    )
