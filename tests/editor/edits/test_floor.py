"""The direction that keeps tokens down, against a search for the best one, and on a real model's states."""

from pathlib import Path

import numpy as np
import pytest
from support.tiny import VOCABULARY, live, save_model

from monoglot.editor.edits.floor import LOWEST, fit_floor
from monoglot.editor.errors import ModelError, StatisticsError
from monoglot.editor.models.head import Head, open_head
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics.final_states import FIRST, RANDOM, FinalStates, lowered, read_final_states
from monoglot.editor.text.tokens import Packed

DIM = 16


def head_of(folder: Path, model_type: str = "llama") -> Head:
    return open_head(open_target(resolve(str(save_model(folder, model_type, tokenizer=False)))))


def states(x: np.ndarray, reached: float = 10.0) -> FinalStates:
    half = np.arange(len(x)) % 2 == 0
    return FinalStates(
        x.astype(np.float32), np.full(len(x), "en"), half, np.full(len(x), reached), np.zeros(len(x)), 1.0
    )


def cone(n: int = 800, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, DIM)) * noise + np.eye(DIM)[3]


def test_a_direction_that_is_there(tmp_path: Path) -> None:
    head, x = head_of(tmp_path / "m"), cone()
    direction, floor = fit_floor(states(x), head, 100)
    s = x.astype(np.float32)[1::2] @ direction
    assert s.min() > 0
    assert floor.lowest == pytest.approx(s.min(), rel=1e-3)
    assert floor.mean == pytest.approx(s.mean(), rel=1e-3)
    assert (floor.tokens, floor.unseen, floor.lowest_kind) == (400, 400, "en")
    wanted = max(np.log(100) - floor.strength * s - 10.0)
    assert floor.highest == pytest.approx(wanted, rel=1e-3)
    assert floor.highest < -40


def test_where_there_is_none(tmp_path: Path) -> None:
    x = cone()
    with pytest.raises(StatisticsError, match="no direction of the final hidden state is positive"):
        fit_floor(states(np.concatenate([x, -x])), head_of(tmp_path / "m"), 100)


def test_a_few_that_are_low(tmp_path: Path) -> None:
    """Least squares alone would leave them below zero: what is high is left out then, and they come up."""
    draw = np.random.default_rng(1)
    many, few = cone(2000, 0.05), draw.normal(size=(40, DIM)) * 0.02 + 0.2 * np.eye(DIM)[3] - 0.3 * np.eye(DIM)[5]
    x = draw.permutation(np.concatenate([many, few]))
    half = x[::2]
    plain = np.linalg.solve(half.T @ half / len(half) + 1e-6 * np.eye(DIM), half.mean(axis=0))
    direction, _ = fit_floor(states(x), head_of(tmp_path / "m"), 100)
    before, after = ((x @ w).min() / (x @ w).mean() for w in (plain, direction))
    assert after > max(before, LOWEST)


@pytest.mark.parametrize("cap", [None, 30.0])
def test_a_soft_cap(cap: float | None) -> None:
    values = np.array([-500.0, 0.0, 3.0])
    found = lowered(values, 2.0, cap)
    wanted = 2 * values if cap is None else [-30.0, 0.0, 30 * np.tanh(0.2)]
    assert np.allclose(found, wanted)


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "cohere", "granite", "gpt2"])
def test_states_and_scale(model_type: str, tmp_path: Path) -> None:
    """What the output table reads, against the model's own logits."""
    head = head_of(tmp_path / "m", model_type)
    model = live(tmp_path / "m")
    texts = {
        k: Packed(k, tuple(np.random.default_rng(n).integers(6, VOCABULARY, (3, 9))), 0, 27, k)
        for n, k in enumerate(("en", "fr"))
    }
    silenced = np.array([3, 7])
    found = read_final_states(model, head, texts, texts, silenced)
    assert set(found.kinds.tolist()) == {"en", "fr", FIRST, RANDOM}
    table = model.get_output_embeddings().weight.detach().double().numpy()
    raw = found.x.astype(np.float64) @ table.T
    final = lowered(raw, found.scale, head.cap)
    gone = np.log(np.exp(final[:, silenced]).sum(axis=1))
    final[:, silenced] = -np.inf
    wanted = np.log(np.exp(final).sum(axis=1))
    looked = np.isfinite(found.reached)
    assert looked.any()
    assert np.allclose(found.reached[looked], wanted[looked], atol=1e-3)
    assert np.allclose(found.below[looked], gone[looked], atol=1e-3)
    assert (looked == np.isfinite(found.below)).all()
    config = model.config
    scale = getattr(config, "logit_scale", None) or 1 / getattr(config, "logits_scaling", 1.0)
    assert found.scale == pytest.approx(scale, rel=1e-3)


def test_logits_made_in_another_way(tmp_path: Path) -> None:
    head = head_of(tmp_path / "m")
    model = live(tmp_path / "m")
    texts = {"en": Packed("en", (np.arange(6, 20),), 0, 14, "")}
    model.lm_head.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    with pytest.raises(ModelError, match="does something to what its output table reads"):
        read_final_states(model, head, texts, texts, np.array([3]))
