"""Fitting of a calibration: a direction per layer on which real text is close to 1, and its error on unseen text."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..files import floats
from ..models.activations import Activation, functions
from ..models.target import about_sampled
from ..progress import shown
from ..statistics import statistics
from ..statistics.inputs import Inputs, Sample
from ..statistics.statistics import Statistics
from ..version import versions
from .calibration import METADATA, Bool, Calibration, Float64, LayerError, load

if TYPE_CHECKING:
    from ..models.target import Target


RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # λ

FIRST_TOKEN_WEIGHT = 0.1  # ρ

LEVELS = np.linspace(-4, 4, 161)  # t, before it is refined

FINER = np.linspace(-0.05, 0.05, 33)

SMALLEST_ACTIVATION = 0.05  # of |act(t)|: W_out is divided by it

FIRST = "first token"  # the kind of token that is kept apart

FEWEST_OF_A_KIND = 8  # tokens that a kind must have to be called the worst


def fit(inputs: Inputs, functions: Sequence[Activation], dtype: str, fingerprint: str, source: str = "") -> Calibration:
    """Fit a direction and a level for each layer.

    `functions` are the layers' activation functions, `dtype` the checkpoint's. Raises StatisticsError when the sample is
    too small to choose and to measure on, or no level works.
    """
    choosing, measuring = halves(inputs.sample)
    if not choosing.any() or not measuring.any():
        raise StatisticsError("the statistics sample a single token a language. Run `monoglot detect` on more text.")
    found = []
    with shown("calibrate", "layers") as update:  # each takes about d³ operations for each ridge that is tried
        for layer, function in enumerate(functions):
            found.append(_fit_layer(inputs, layer, function, dtype, choosing, measuring))
            update("", layer + 1, len(functions))
    directions, levels, ridge, errors = zip(*found, strict=True)
    languages = tuple(sorted(set(inputs.sample.languages)))
    return Calibration(
        np.array(directions), np.array(levels), np.array(ridge), errors,
        inputs.tokens, int(measuring.sum()), languages, dtype, fingerprint, source,
    )  # fmt: skip


def halves(sample: Sample) -> tuple[Bool, Bool]:
    """Return the rows to choose on, the first half of each text, and those to measure on, the second: bool (n,) each.

    Both are without first tokens.
    """
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
    """Return the t in the dtype with the smallest RMS of act(t·s)/act(t) − 1 over the inputs x, (n, d).

    None if there is none.
    """
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


def open_calibration(path: Path, target: "Target") -> Calibration:
    """Open the calibration in a file, or fit one to the inputs that a statistics file holds.

    Raises StatisticsError when the file is neither, is of another model, or its statistics hold no inputs; ModelError
    when the model's activation function is not known.
    """
    if _is_calibration(path):
        made = load(path)
        _check(path, made.fingerprint, target)
        if made.directions.shape != (len(target.feed_forward.networks), target.feed_forward.hidden):
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
    if (found.inputs.layers, found.inputs.hidden) != (len(feed_forward.networks), feed_forward.hidden):
        raise StatisticsError(f"{path} is damaged: its inputs do not have the shape of {target.source.name}.")
    return fit(found.inputs, functions(target), feed_forward.outputs[0][1].dtype, target.fingerprint, source_of(found))


def source_of(found: Statistics) -> str:
    """Name what a calibration is fitted to: a sha256 of what the statistics say that they were made from."""
    sampled = [(part.language, part.sha256) for part in found.inputs.sample.parts] if found.inputs else []
    made_of = [found.model.fingerprint, found.texts, sampled, found.settings, found.versions, versions()]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


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
            f"{target.fingerprint[:12]}…. Run `monoglot detect --calibrate` on this one.{about_sampled(target, fingerprint)}"
        )
