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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import StatisticsError
from .files import floats, kinds
from .files.output import replace_file
from .models.activations import Activation, functions
from .statistics import statistics
from .statistics.inputs import Inputs, Sample

if TYPE_CHECKING:
    from .models.target import Target

FILE = "calibration.monoglot"  # of the format safetensors, but vLLM takes every *.safetensors in a folder for weights
FORMAT = 1
METADATA = kinds.METADATA["calibration"]  # the key of the file's metadata
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # λ
FIRST_TOKEN_WEIGHT = 0.1  # ρ
LEVELS = np.linspace(-4, 4, 161)  # t, before it is refined
FINER = np.linspace(-0.05, 0.05, 33)
SMALLEST_ACTIVATION = 0.05  # of |act(t)|: W_out is divided by it
FIRST = "first token"  # the kind of token that is kept apart
FEWEST_OF_A_KIND = 8  # tokens that a kind must have to be called the worst

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LayerError:
    """How far one layer's s is from 1, and its activation from act(t), on unseen text.

    Mean and deviation of s; `after`, the RMS of act(t·s)/act(t) − 1; the kind of token with the largest RMS of s − 1, and
    that RMS; s at the first position of a context, None where that was not recorded.
    """

    mean: float
    deviation: float
    after: float
    worst_kind: str
    worst: float
    first_token: float | None


@dataclass(frozen=True)
class Calibration:
    """Per layer: direction w, float64 (layers, d), exactly what its file holds as float32; level t and ridge λ, float64
    (layers,); and errors. `tokens` is how many w was fitted to, `unseen` how many the errors are measured on, `dtype` the
    checkpoint's (F32, F16, BF16), which holds every level exactly."""

    directions: Float64
    levels: Float64
    ridge: Float64
    errors: tuple[LayerError, ...]
    tokens: int
    unseen: int
    languages: tuple[str, ...]
    dtype: str
    fingerprint: str

    def record(self) -> list[dict[str, Any]]:
        """The errors per layer with what they were measured at, for the manifest."""
        rows = zip(self.levels.tolist(), self.ridge.tolist(), self.errors, strict=True)
        return [
            {"level": level, "ridge": ridge}
            | {key: float(f"{v:.3g}") if isinstance(v, float) else v for key, v in vars(error).items()}
            for level, ridge, error in rows
        ]


def fit(inputs: Inputs, functions: Sequence[Activation], dtype: str, fingerprint: str) -> Calibration:
    """A direction and a level for each layer. `functions` are the layers' activation functions, `dtype` the checkpoint's.

    Raises StatisticsError when the sample is too small to choose and to measure on, or no level works.
    """
    choosing, measuring = halves(inputs.sample)
    if not choosing.any() or not measuring.any():
        raise StatisticsError("the statistics sample a single token a language. Run `monoglot detect` on more text.")
    found = [
        _fit_layer(inputs, layer, function, dtype, choosing, measuring) for layer, function in enumerate(functions)
    ]
    directions, levels, ridge, errors = zip(*found, strict=True)
    languages = tuple(sorted(set(inputs.sample.languages)))
    return Calibration(
        np.array(directions), np.array(levels), np.array(ridge), errors,
        inputs.tokens, int(measuring.sum()), languages, dtype, fingerprint,
    )  # fmt: skip


def halves(sample: Sample) -> tuple[Bool, Bool]:
    """The rows to choose on, the first half of each text, and those to measure on, the second, both without first
    tokens: bool (n,) each."""
    first_half = np.concatenate([np.arange(part.rows) < part.rows // 2 for part in sample.parts])
    ordinary = np.array(sample.kinds) != FIRST
    return first_half & ordinary, ~first_half & ordinary


def _fit_layer(
    inputs: Inputs, layer: int, function: Activation, dtype: str, choosing: Bool, measuring: Bool
) -> tuple[Float64, float, float, LayerError]:
    x = np.asarray(inputs.sample.x[layer], np.float64)  # (n, d)
    first_token = None if inputs.first_token is None else inputs.first_token[layer]
    candidates = zip(RIDGES, _directions(inputs, layer, first_token), strict=True)
    ridge, direction = min(candidates, key=lambda candidate: _rms(x[choosing] @ candidate[1] - 1))
    level = best_level(x[choosing], direction, function, dtype)
    if level is None:
        raise StatisticsError(
            f"layer {layer}: no level makes a neuron's activation steady. Run `monoglot detect --calibrate` on more text."
        )
    row = stored_row(direction, level, dtype) / level
    s = x[measuring] @ row
    kinds = np.array(inputs.sample.kinds)[measuring]
    worst = max(
        (_rms(s[kinds == kind] - 1), kind)
        for kind in sorted(set(kinds))
        if (kinds == kind).sum() >= min(FEWEST_OF_A_KIND, _most(kinds))
    )
    return direction, level, ridge, LayerError(
        float(s.mean()),
        float(s.std()),
        _rms(after(function, level, s)),
        str(worst[1]),
        worst[0],
        _at_first(x[np.array(inputs.sample.kinds) == FIRST] @ row if first_token is None else first_token[None] @ row),
    )  # fmt: skip


def _directions(inputs: Inputs, layer: int, first_token: Float64 | None) -> list[Float64]:
    """w for each of RIDGES, rounded to float32."""
    moment = inputs.second_moment[layer] / inputs.tokens
    mean = inputs.first_moment[layer] / inputs.tokens
    scale = float(np.trace(moment)) / len(mean)
    if first_token is not None:
        moment = moment + FIRST_TOKEN_WEIGHT * np.outer(first_token, first_token)
        mean = mean + FIRST_TOKEN_WEIGHT * first_token
    made = []
    for ridge in RIDGES:
        direction = np.linalg.solve(moment + ridge * scale * np.eye(len(mean)), mean)
        made.append(direction.astype(np.float32).astype(np.float64))
    return made


def best_level(x: Float64, direction: Float64, function: Activation, dtype: str) -> float | None:
    """The t in the dtype with the smallest RMS of act(t·s)/act(t) − 1 over the inputs x, (n, d); None if there is none."""
    s = x @ direction
    coarse = {t: _rms(after(function, t, s)) for t in _usable(LEVELS, function, dtype)}
    if not coarse:
        return None
    near = min(coarse, key=lambda t: coarse[t])
    fine = {
        t: _rms(after(function, t, x @ (stored_row(direction, t, dtype) / t)))
        for t in _usable(near + FINER, function, dtype)
    }
    return min(fine, key=lambda t: fine[t])


def _usable(levels: Float64, function: Activation, dtype: str) -> list[float]:
    """Those of them, rounded to the dtype, whose activation is not too small."""
    rounded = np.unique(floats.to_float64(floats.from_float64(levels, dtype), dtype))
    kept: list[float] = rounded[np.abs(function(rounded)) >= SMALLEST_ACTIVATION].tolist()
    return kept


def stored_row(direction: Float64, level: float, dtype: str) -> Float64:
    """t·w as the checkpoint holds it."""
    return floats.to_float64(floats.from_float64(level * direction, dtype), dtype)


def after(function: Activation, level: float, s: Float64) -> Float64:
    """act(t·s)/act(t) − 1."""
    made: Float64 = function(level * s) / function(np.array([level])) - 1
    return made


def _at_first(s: Float64) -> float | None:
    return float(s.mean()) if len(s) else None


def _rms(values: Float64) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _most(kinds: npt.NDArray[Any]) -> int:
    return int(np.unique(kinds, return_counts=True)[1].max())


# The file


def save(calibration: Calibration, path: Path) -> None:
    """Write it as safetensors. Raises OutputError."""
    replace_file(path, serialise(calibration))


def serialise(calibration: Calibration) -> bytes:
    """The bytes of its file; the same calibration gives the same."""
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
    }
    return bytes(to_bytes(arrays, metadata={METADATA: json.dumps(head)}))


def load(path: Path) -> Calibration:
    """Read a calibration file. Raises StatisticsError when it is not one, is damaged, or of an unknown format."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StatisticsError(f"there is no calibration file {path}. Make one with `monoglot detect --calibrate`.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise StatisticsError(
                    kinds.instead(path, "calibration")
                    or f"{path} is not a calibration file. Make one with `monoglot detect --calibrate`."
                )
            head = json.loads(metadata[METADATA])
            if head["version"] != FORMAT:
                raise StatisticsError(
                    f"{path} has format {head['version']}, this version reads {FORMAT}. "
                    "Upgrade monoglot, or run `monoglot detect --calibrate` again."
                )
            errors = tuple(_error(error) for error in head["errors"])
            directions, levels, ridge = (file.get_tensor(name) for name in ("directions", "levels", "ridge"))
        stored = [(array.dtype.name, array.shape) for array in (directions, levels, ridge)]
        n = len(errors)
        if stored != [("float32", (n, directions.shape[-1])), ("float64", (n,)), ("float64", (n,))]:
            raise ValueError(f"it holds {stored} and errors of {n} layers")
        if not (np.isfinite(directions).all() and np.isfinite(levels).all() and levels.all()):
            raise ValueError("a direction or a level is NaN, infinite or zero")
        tokens, unseen, languages, dtype = (head[key] for key in ("tokens", "unseen", "languages", "dtype"))
        if type(tokens) is not int or type(unseen) is not int or dtype not in floats.STORED:
            raise ValueError(f"{tokens!r} and {unseen!r} tokens, {dtype!r}")
        if not all(isinstance(text, str) for text in (head["fingerprint"], *languages)):
            raise ValueError("its fingerprint or languages are not text")
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, IndexError, OSError) as error:
        raise StatisticsError(
            kinds.instead(path, "calibration")
            or f"{path} is damaged ({error}). Run `monoglot detect --calibrate` again."
        ) from None
    return Calibration(
        directions.astype(np.float64),
        levels,
        ridge,
        errors,
        tokens,
        unseen,
        tuple(languages),
        dtype,
        head["fingerprint"],
    )


def _error(data: dict[str, Any]) -> LayerError:
    error = LayerError(**data)
    numbers = (error.mean, error.deviation, error.after, error.worst, error.first_token or 0.0)
    if not isinstance(error.worst_kind, str) or not all(isinstance(number, float) for number in numbers):
        raise ValueError("the errors of a layer are not numbers")
    return error


def open_calibration(path: Path, target: "Target") -> Calibration:
    """The calibration in a file, or fitted to the inputs that a statistics file holds.

    Raises StatisticsError when the file is neither, is of another model, or its statistics hold no inputs; ModelError
    when the model's activation function is not known.
    """
    if _is_calibration(path):
        made = load(path)
        _check(path, made.fingerprint, target)
        if made.directions.shape != (target.feed_forward.layers, target.feed_forward.hidden):
            raise StatisticsError(f"{path} is damaged: it does not have the shape of {target.source.name}.")
        return made
    found = statistics.load(path)
    _check(path, found.model.fingerprint, target)
    if found.inputs is None:
        raise StatisticsError(
            f"{path} does not hold what the feed-forward networks read, which a calibration is fitted to. "
            "Make it again with `monoglot detect --calibrate`."
        )
    feed_forward = target.feed_forward
    if (found.inputs.layers, found.inputs.hidden) != (feed_forward.layers, feed_forward.hidden):
        raise StatisticsError(f"{path} is damaged: its inputs do not have the shape of {target.source.name}.")
    return fit(found.inputs, functions(target), feed_forward.outputs[0][1].dtype, target.fingerprint)


def _is_calibration(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # `statistics.load` says what is wrong with it


def _check(path: Path, fingerprint: str, target: "Target") -> None:
    if fingerprint != target.fingerprint:
        raise StatisticsError(
            f"{path} is of another model: fingerprint {fingerprint[:12]}…, {target.source.name} has "
            f"{target.fingerprint[:12]}…. Run `monoglot detect --calibrate` on this one."
        )
