"""Readers: one neuron that fires on the tokens of one language, at the input of one layer's feed-forward network.

With x what the network reads, a gated neuron answers

    p(x) = act(g·x) · (u·x) / act(t)        a plain one   act(g·x) / act(t)

g is fitted so that p is near 1 on text in its language and near 0 on others': by ridge regression of "is it this language"
on x, all languages weighing alike, shifted and scaled so that g·x has the mean t on its own language and −t on the one that
is most like it. The shift is by u, a direction with u·x ≈ 1 (see `calibration`), for there need be no bias. λ and t are
chosen on one half of the held-out text, and what the reader does is measured on the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..models.activations import Activation

Float64 = npt.NDArray[np.float64]

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # λ, of the mean of the moment's diagonal
LEVELS = (1.0, 2.0, 3.0, 4.0, 6.0)  # t
FIRES = 0.5  # the answer from which on a reader is said to fire


@dataclass(frozen=True)
class Reader:
    """A reader of one language: `gate` and `up`, float64 (d,), exactly what float32 holds, and the level t.

    On unseen text in each language: the mean answer, and the share of tokens on which it fires.
    """

    gate: Float64
    up: Float64
    level: float
    response: Mapping[str, float]
    fires: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """Return what is known of it besides its rows."""
        return {"level": self.level, "response": dict(self.response), "fires": dict(self.fires)}


def answers(x: Float64, gate: Float64, up: Float64, level: float, function: Activation, *, gated: bool) -> Float64:
    """Return p(x) of inputs (n, d): float64 (n,)."""
    made: Float64 = function(x @ gate) / function(np.array([level])) * (x @ up if gated else 1.0)
    return made


def fit_reader(
    language: str, seen: Mapping[str, Float64], unseen: Mapping[str, Float64], function: Activation, *, gated: bool
) -> Reader:
    """Fit a reader of `language` to inputs in each language, (n, d), and measure it on those of unseen text.

    Raises StatisticsError where no level and no ridge tell the language from the others.
    """
    moment: Float64 = np.mean([x.T @ x / len(x) for x in seen.values()], axis=0)
    means = {code: x.mean(axis=0) for code, x in seen.items()}
    return fit_to_moments(language, moment, means, unseen, function, gated=gated)


def fit_to_moments(
    language: str, moment: Float64, means: Mapping[str, Float64], unseen: Mapping[str, Float64], function: Activation, *,
    gated: bool,
) -> Reader:  # fmt: skip
    """Fit a reader to the mean of x xᵀ over all languages, (d, d), and that of x in each of them, (d,).

    It is chosen and measured on inputs of unseen text, (n, d). Raises what `fit_reader` raises.
    """
    others = [code for code in means if code != language]
    scale = float(np.trace(moment)) / len(moment)
    choosing = {code: x[: len(x) // 2] for code, x in unseen.items()}
    measuring = {code: x[len(x) // 2 :] for code, x in unseen.items()}
    best: tuple[float, Float64, Float64, float] | None = None
    for ridge in RIDGES:
        regular = moment + ridge * scale * np.eye(len(moment))
        middle: Float64 = np.mean(list(means.values()), axis=0)
        up = _single(np.asarray(np.linalg.solve(regular, middle), np.float64))
        raw = np.linalg.solve(regular, means[language] / len(means))
        own = float(means[language] @ raw)
        nearest = max(float(means[code] @ raw) for code in others)
        if not own > nearest:
            continue
        for level in LEVELS:
            gate = _single(2 * level / (own - nearest) * (raw - (own + nearest) / 2 * up))
            error = _error(language, choosing, gate, up, level, function, gated)
            if best is None or error < best[0]:
                best = error, gate, up, level
    if best is None or not np.isfinite(best[0]):
        raise StatisticsError(f"nothing in this layer tells {language} from the others. Read another layer.")
    _, gate, up, level = best
    found = {code: answers(x, gate, up, level, function, gated=gated) for code, x in measuring.items()}
    return Reader(
        gate, up, level,
        {code: _rounded(each.mean()) for code, each in found.items()},
        {code: _rounded((each > FIRES).mean()) for code, each in found.items()},
    )  # fmt: skip


def _error(
    language: str, x: Mapping[str, Float64], gate: Float64, up: Float64, level: float, function: Activation, gated: bool
) -> float:
    """Return the mean square of p − 1 on the language and of p on the others, both weighing alike."""
    squares = {
        code: float(np.mean((answers(each, gate, up, level, function, gated=gated) - (code == language)) ** 2))
        for code, each in x.items()
    }
    return squares[language] + float(np.mean([square for code, square in squares.items() if code != language]))


def _single(row: Float64) -> Float64:
    return row.astype(np.float32).astype(np.float64)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def check_reader(reader: Reader, hidden: int | None, languages: Sequence[str]) -> None:
    """Raise ValueError where that can't be what was fitted."""
    shape = (hidden,) if hidden else reader.gate.shape
    rows = (reader.gate, reader.up)
    if any(row.dtype != np.float64 or row.shape != shape or not np.isfinite(row).all() for row in rows):
        raise ValueError("the rows of a reader are no such numbers")
    if not reader.level > 0 or set(reader.fires) != set(languages) or set(reader.response) != set(languages):
        raise ValueError("a reader has no level, or was measured on other languages")
