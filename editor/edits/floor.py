"""A direction w of the final hidden state h on which every text is positive: what a silenced token's row is made of.

The row of a silenced token becomes −β·w, so its logit −β·(w·h) is far below those of all other tokens as long as w·h stays
above zero. w is fitted by ridge regression of 1 on h, from S = Σ h hᵀ / n and m = Σ h / n, all kinds of text with the same
weight:

    w = (S + λ·mean(diag S)·I)⁻¹ m

λ is the one with the highest lowest w·h, on a quarter of the states that are kept apart for that. Where that is below half of
the mean, states with w·h > 1 are left out of the regression and it is made again, until they stay the same: what matters is
that no state is low, not that none is high. β is chosen so that, where
w·h is lowest and all other logits are lowest too, all silenced tokens together have a probability of e^−MARGIN at most; the
figures that are reported are measured on text that neither has seen, with the row as it is stored.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..errors import StatisticsError
from ..files import floats
from ..models.head import Head
from ..statistics.final_states import FinalStates, lowered
from .silence import Floor

Float64 = npt.NDArray[np.float64]

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # λ
MARGIN = 100.0  # nats
LOWEST = 0.05  # of the mean of w·h: lower, and some text may have it below zero
NARROW = 0.5  # of the mean: lower, and the regression is made again without what is high
HINGED = (1e-6, 1e-5, 1e-4, 1e-3)  # λ of these
UNWRITTEN = -14.0  # ln of the highest probability of all silenced tokens together that is borne: one in a million
STEPS = 12  # regressions, at most
APART = 4  # every so manyth state is kept apart, to choose λ on


def fit_floor(states: FinalStates, head: Head, silenced: int) -> tuple[Float64, Floor]:
    """Fit w, as float32 holds it, (d,), and say how good it is. `silenced` counts the tokens that are to go.

    Raises StatisticsError when there is no such direction.
    """
    dtype = head.output[1].dtype
    x = states.x.astype(np.float64)
    own = np.flatnonzero(states.fitted)
    choosing = own[::APART]
    fitting = np.setdiff1d(own, choosing)
    weights = _even(states.kinds[fitting])
    found = [(_lowest(x[choosing] @ w), ridge, w) for ridge, w in _directions(x[fitting], weights)]
    if not max(found, key=lambda one: one[0])[0] >= NARROW:
        again = ((ridge, _raised(x[fitting], weights, ridge, w)) for _, ridge, w in found if ridge in HINGED)
        found += [(_lowest(x[choosing] @ w), ridge, w) for ridge, w in again]
    lowest, ridge, direction = max(found, key=lambda one: one[0])
    if not lowest > 0:
        raise StatisticsError(_none(lowest))
    seen = x[own] @ direction
    near = np.nanmin(states.reached[own])
    strength = (MARGIN + np.log(max(1, silenced)) - min(0.0, float(near))) / (states.scale * float(seen.min()))
    strength = float(f"{strength:.3g}")
    row = floats.to_float64(floats.from_float64(-strength * direction, dtype), dtype)
    unseen = np.flatnonzero(~states.fitted)
    made = x[unseen] @ row
    s = made / -strength
    worst = int(s.argmin())
    if not s[worst] > LOWEST * s.mean():
        raise StatisticsError(_none(float(s[worst])))
    reached = states.reached[unseen]
    highest = np.nanmax(np.log(max(1, silenced)) + lowered(made, states.scale, head.cap) - reached)
    cosine = s / np.linalg.norm(x[unseen], axis=1) / np.linalg.norm(direction)
    return direction, Floor(
        len(own), len(unseen), ridge, _rounded(s.mean()), _rounded(s.std()), _rounded(s[worst]),
        str(states.kinds[unseen][worst]), _rounded(cosine.mean()), strength, _rounded(highest),
    )  # fmt: skip


def one_table_floor(states: FinalStates, direction: Float64, floor: Floor) -> Floor:
    """Measure w and β again on a model that reads the tokens as something else, as it does with one table for both ends.

    `states` are of the model with the shift in place, so what they say of tokens that are to go has it in it.
    """
    unseen = np.flatnonzero(~states.fitted)
    x = states.x[unseen].astype(np.float64)
    s = x @ direction
    worst = int(s.argmin())
    cosine = s / np.linalg.norm(x, axis=1) / np.linalg.norm(direction)
    looked = unseen[np.isfinite(states.reached[unseen])]
    highest = (states.below[looked] - np.logaddexp(states.below[looked], states.reached[looked])).max()
    return replace(
        floor, unseen=len(unseen), mean=_rounded(s.mean()), deviation=_rounded(s.std()), lowest=_rounded(s[worst]),
        lowest_kind=str(states.kinds[unseen][worst]), cosine=_rounded(cosine.mean()), highest=_rounded(highest), tied=True,
    )  # fmt: skip


def holds(floor: Floor) -> bool:
    """Whether a floor is far enough from zero, and what it keeps down far enough below all else."""
    return floor.lowest > LOWEST * floor.mean and floor.highest <= UNWRITTEN


def _none(lowest: float) -> str:
    return (
        f"no direction of the final hidden state is positive on all text (the best one is {lowest:.3g} somewhere), so a row "
        "cannot keep tokens down without a bias. Give more text, in every language that the model is to read."
    )


def _lowest(s: Float64) -> float:
    return float(s.min() / s.mean()) if s.mean() > 0 else -np.inf


def _even(kinds: npt.NDArray[np.str_]) -> Float64:
    """Return weights that give all kinds of text the same sum, 1 together."""
    names, places, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    weights: Float64 = 1 / (len(names) * counts[places])
    return weights


def _directions(x: Float64, weights: Float64) -> list[tuple[float, Float64]]:
    """w for each of RIDGES, of mean 1, rounded to float32."""
    moment, mean = x.T @ (x * weights[:, None]), weights @ x
    scale = float(np.trace(moment)) / len(mean)
    made = []
    for ridge in RIDGES:
        direction = np.linalg.solve(moment + ridge * scale * np.eye(len(mean)), mean)
        direction /= mean @ direction
        made.append((ridge, direction.astype(np.float32).astype(np.float64)))
    return made


def _raised(x: Float64, weights: Float64, ridge: float, direction: Float64) -> Float64:
    """w of the regression in which only states with w·h < 1 count, of mean 1, rounded to float32."""
    scale = float(weights @ (x * x).sum(axis=1)) / x.shape[1]
    for _ in range(STEPS):
        low = x @ direction < 1
        own, weight = x[low], weights[low]
        moment = own.T @ (own * weight[:, None]) + ridge * scale * np.eye(x.shape[1])
        direction = (direction + np.linalg.solve(moment, weight @ own)) / 2
    direction = direction / (weights @ x @ direction)
    rounded: Float64 = direction.astype(np.float32).astype(np.float64)
    return rounded


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
