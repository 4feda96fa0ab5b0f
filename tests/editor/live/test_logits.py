"""The head by itself, a few rows at a time, gives what the whole model gives: in every family."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from support import tiny

from monoglot.editor.live import logits as module
from monoglot.editor.live.logits import Variant, batches, chunks, hidden_states, logits, token_losses

CASES = {
    **tiny.CASES,
    **{name: tiny.Case(name, {}) for name in tiny.WRAPPERS},
    "cohere+scaled": tiny.Case("cohere", {"logit_scale": 0.25}),
    "granite+scaled": tiny.Case("granite", {"logits_scaling": 3.0}),
    "gemma2+capped": tiny.Case("gemma2", {"final_logit_softcapping": 2.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_hidden_states_and_head_make_the_models_logits(name: str, saved: Callable[..., Path]) -> None:
    if name == "paligemma" and transformers.__version__.startswith("4."):
        pytest.skip("transformers 4 lets PaliGemma's tokens see those after them, so its logits predict nothing")
    case = CASES[name]
    model = tiny.live(saved(case.model_type, **case.config))
    expected = tiny.logits(model)[:, :-1].flatten(0, 1)
    states = hidden_states(Variant("", model), tiny.IDS)
    pieces = torch.cat([logits(model, states[at : at + 3]) for at in range(0, len(states), 3)])
    assert pieces.shape == expected.shape
    assert (pieces - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(tiny.logits(model)[:, :-1].flatten(0, 1), expected), "the model is as it was"


def test_a_decoder_that_has_its_own_forward_keeps_it(saved: Callable[..., Path]) -> None:
    """As accelerate gives it one to each module of a model that is spread over devices."""
    model = tiny.live(saved("llama"))
    states = hidden_states(Variant("", model), tiny.IDS)
    original = model.model.forward
    model.model.forward = mine = lambda *arguments, **named: original(*arguments, **named)
    try:
        logits(model, states)
        assert model.model.forward is mine
        with pytest.raises(RuntimeError):
            logits(model, states[:, :3])  # no hidden state of this model's
        assert model.model.forward is mine
    finally:
        del model.model.forward
    logits(model, states)
    assert "forward" not in model.model.__dict__


def test_losses_do_not_depend_on_the_chunks(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.live(saved("gemma3_text"))
    targets = tiny.IDS[:, 1:].flatten()
    log_p = tiny.logits(model)[:, :-1].flatten(0, 1).double().log_softmax(-1)
    expected = [-log_p[row, target].item() for row, target in enumerate(targets.tolist())]
    states = hidden_states(Variant("", model), tiny.IDS)
    seen = []
    monkeypatch.setattr(module, "logits", lambda model, rows: seen.append(len(rows)) or logits(model, rows))
    for budget, sizes in ((2**25, [20]), (7 * tiny.VOCABULARY, [7, 7, 6]), (1, [1] * 20)):
        monkeypatch.setattr(module, "LOGITS", budget)
        seen.clear()
        assert token_losses(model, states, targets).tolist() == pytest.approx(expected, rel=1e-5)
        assert seen == sizes, "at most as many rows as the budget allows"


def test_chunks_cover_all_rows(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.live(saved("llama"))
    monkeypatch.setattr(module, "LOGITS", 3 * tiny.VOCABULARY)
    assert [(piece.start, piece.stop) for piece in chunks(model, 8)] == [(0, 3), (3, 6), (6, 8)]
    assert list(chunks(model, 0)) == []


def test_batches_hold_neighbours_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 10)
    lengths = [5, 5, 5, 1, 0, 4, 12, 12]
    contexts = [np.full(length, at) for at, length in enumerate(lengths)]
    found = [(tuple(ids.shape), ids[:, 0].tolist()) for ids in batches(contexts)]
    assert found == [((2, 5), [0, 1]), ((1, 5), [2]), ((1, 4), [5]), ((1, 12), [6]), ((1, 12), [7])]
