"""Log-loss against the model's own loss and against whole logits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import tiny
from support.packed_texts import TEXTS, plainly

from monoglot.editor.live import logits as logits_module
from monoglot.editor.live.log_loss import measure
from monoglot.editor.live.logits import Variant


@pytest.mark.parametrize("budget", [2**25, 5 * tiny.VOCABULARY])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2"])
def test_log_loss_is_the_models_own(
    model_type: str, budget: int, saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits_module, "LOGITS", budget)
    monkeypatch.setattr(logits_module, "BATCH_TOKENS", 20)
    model = tiny.live(saved(model_type))
    found = measure([Variant("it", model)], TEXTS)
    assert found.log_loss["it"] == pytest.approx(plainly(model, TEXTS), rel=1e-5)
    assert found.tokens == {"xx": 27, "off": 6, "more": 11}


def test_differences_are_those_of_whole_logits(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two models, over chunks of rows, as of all rows at once; the log-loss beside them is the same."""
    one, two = tiny.live(saved("llama")), tiny.live(saved("llama", tie_word_embeddings=True))
    variants = [Variant("one", one), Variant("two", two)]
    log_p, log_q = (
        torch.cat(
            [model(input_ids=torch.from_numpy(c)[None]).logits[0, :-1].detach() for c in TEXTS["xx"].contexts]
        ).double()
        for model in (one, two)
    )
    monkeypatch.setattr(logits_module, "LOGITS", 5 * tiny.VOCABULARY)
    found = measure(variants, TEXTS, compare=["one"], to="two")
    difference = found.difference["one"]["xx"]
    p, q = log_p.log_softmax(-1), log_q.log_softmax(-1)
    assert difference.positions == 27
    assert difference.kl == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-4)
    assert difference.max_logit == pytest.approx((log_p - log_q).abs().max().item(), rel=1e-4)
    assert difference.same_top == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item())
    assert found.log_loss["one"] == pytest.approx(plainly(one, TEXTS), rel=1e-5)
