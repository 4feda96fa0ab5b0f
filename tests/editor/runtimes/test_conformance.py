"""The verdict on a runtime: what agrees with what, and how each verdict comes about."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny

from monoglot.editor.errors import RunError
from monoglot.editor.live.load import load_model
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.runtimes import conformance
from monoglot.editor.runtimes.conformance import Asked, Match, Reference, Step, judge, match, tells_apart

NOISE = 1e-3
END = 1


def steps(tokens: Sequence[int], logprob: float = -1.0, near: Mapping[int, float] | None = None) -> Reference:
    return tuple(Step(token, logprob, {token: logprob, **(near or {})}) for token in tokens)


def answer(tokens: Sequence[int], logprob: float | None = -1.0) -> tuple[list[int], list[float | None]]:
    return list(tokens), [logprob] * len(tokens)


@pytest.mark.parametrize(
    ("given", "to", "expected"),
    [
        (answer([4, 5, 6]), steps([4, 5, 6]), Match(True, 3, 0.0)),
        (answer([4, 5, 6], -1.0009), steps([4, 5, 6]), Match(True, 3, pytest.approx(0.0009))),
        (answer([4, 5, 6], -1.002), steps([4, 5, 6]), Match(False, 3, pytest.approx(0.002))),
        (answer([4, 5, 6], None), steps([4, 5, 6]), Match(True, 3, None)),
        (answer([4, 9, 6]), steps([4, 5, 6]), Match(False, 1, 0.0)),
        (answer([4, 9, 6]), steps([4, 5, 6], near={9: -1.0015}), Match(True, 1, 0.0)),  # a tie, broken otherwise
        (answer([4, 9, 6]), steps([4, 5, 6], near={9: -1.003}), Match(False, 1, 0.0)),
        (answer([4, 9, 6], -1.5), steps([4, 5, 6], near={9: -1.0015}), Match(False, 1, 0.5)),
        (answer([4]), steps([4, END]), Match(True, 2, 0.0)),  # left its end out
        (answer([4, END]), steps([4, END]), Match(True, 2, 0.0)),
        (answer([4]), steps([4, 5, 6]), Match(False, 1, 0.0)),  # stopped where the reference goes on
        (answer([4]), steps([4, 5, 6], near={END: -1.001}), Match(True, 1, 0.0)),
        (answer([]), steps([4]), Match(False, 0, None)),
    ],
)
def test_what_agrees_with_a_reference(
    given: tuple[list[int], list[float | None]], to: Reference, expected: Match
) -> None:
    assert match(*given, to, NOISE, [END]) == expected


def asked(steered: Sequence[int], base: Sequence[int], bare: Sequence[int] | None = None) -> Asked:
    return Asked("xx", {"ids": [0], "text": "x"}, steps(steered), steps(base), steps(bare) if bare else None)


TELLS, ALIKE = asked([4, 5], [6, 7]), asked([4, 5], [4, 5])
BARE = asked([4, 5], [6, 7], [8, 9])


def test_a_prompt_tells_apart_by_tokens_or_by_ten_times_the_noise() -> None:
    assert tells_apart(TELLS, NOISE) and not tells_apart(ALIKE, NOISE)
    close = Asked("xx", {}, steps([4, 5]), steps([4, 5], -1.009))
    far = Asked("xx", {}, steps([4, 5]), steps([4, 5], -1.011))
    assert not tells_apart(close, NOISE) and tells_apart(far, NOISE)
    assert not tells_apart(asked([4, 5], [6, 7], [4, 5]), NOISE)  # its biases don't matter there


@pytest.mark.parametrize(
    ("questions", "answers", "verdict"),
    [
        ((TELLS, ALIKE), ([4, 5], [4, 5]), "steered"),
        ((TELLS, ALIKE), ([6, 7], [4, 5]), "dropped"),
        ((TELLS, ALIKE), ([4, 5], [2, 3]), "different"),  # another model where nothing was steered
        ((TELLS, TELLS), ([4, 5], [6, 7]), "different"),
        ((TELLS, TELLS), ([8, 9], [8, 9]), "different"),
        ((BARE, BARE), ([8, 9], [8, 9]), "dropped"),  # without its biases
        ((BARE, BARE), ([6, 7], [6, 7]), "dropped"),
        ((BARE, BARE), ([8, 9], [6, 7]), "different"),
        ((ALIKE, ALIKE), ([4, 5], [4, 5]), "undecided"),
        ((ALIKE, ALIKE), ([2, 3], [2, 3]), "undecided"),
    ],
)
def test_verdicts(questions: Sequence[Asked], answers: Sequence[list[int]], verdict: str) -> None:
    outcome = judge("mlx", "1", [answer(one) for one in answers], questions, noise=NOISE)
    assert outcome.verdict == verdict
    record = outcome.record()
    assert record["verdict"] == verdict and record["prompts"] == 2 and record["version"] == "1"
    assert record["told_apart"] == sum(one is not ALIKE for one in questions)
    assert ("to_bare" in record) == (questions[0] is BARE)


def test_the_reference_is_what_transformers_writes_token_by_token(model: Path) -> None:
    live, ids = load_model(model, device="cpu"), [0, 7, 9]
    found = conformance.reference(live, ids, 6)
    context = list(ids)
    for step in found:
        with torch.inference_mode():
            logprobs = torch.log_softmax(live(input_ids=torch.tensor([context])).logits[0, -1].double(), -1)
        assert step.token == int(logprobs.argmax())
        assert math.isclose(step.logprob, float(logprobs.max()), abs_tol=1e-5)
        assert max(step.near, key=lambda token: step.near[token]) == step.token
        context.append(step.token)
    assert len(found) == 6 or found[-1].token == END


class Stubborn:
    """A model for which transformers has no cache, or which it can't run at all."""

    def __init__(self, live: Any, error: Exception, *, ever: bool) -> None:
        self.live, self.error, self.ever = live, error, ever

    def generate(self, use_cache: bool = True, **asked: Any) -> Any:
        if use_cache or not self.ever:
            raise self.error
        return self.live.generate(use_cache=False, **asked)


def test_a_model_without_a_cache_answers_all_the_same(model: Path) -> None:
    live = load_model(model, device="cpu")
    stubborn = Stubborn(live, ValueError("the cache has no attention layers"), ever=True)
    found, known = (conformance.reference(one, [0, 7, 9], 6) for one in (stubborn, live))
    assert [step.token for step in found] == [step.token for step in known]
    assert all(math.isclose(a.logprob, b.logprob, abs_tol=1e-5) for a, b in zip(found, known, strict=True))


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("no such layer.\nmore"), "no such layer"), (KeyError(), "KeyError"), (RuntimeError("x"), "x")],
)
def test_a_model_that_transformers_can_not_run_is_said(model: Path, error: Exception, said: str) -> None:
    with pytest.raises(RunError, match=rf"writes none with this model: {said}\. Prove the checkpoint without runtimes"):
        conformance.reference(Stubborn(None, error, ever=False), [0, 7], 3)


def test_one_prompt_in_each_language_the_first_that_tells(model: Path, tmp_path: Path) -> None:
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)
    other = load_model(tiny.save_model(tmp_path / "other", seed=3), device="cpu")
    prompts = {"en": ["one", "two"], "fr": ["un", "deux"]}
    chosen = conformance.choose(live, other, tokenizer, prompts, noise=NOISE, tokens=4)
    assert [(one.language, one.prompt["text"]) for one in chosen] == [("en", "one"), ("fr", "un")]
    assert all(tells_apart(one, NOISE) and one.bare is None for one in chosen)
    same = conformance.choose(live, live, tokenizer, prompts, noise=NOISE, tokens=4)
    assert [one.prompt["text"] for one in same] == ["one", "un"] and not any(tells_apart(one, NOISE) for one in same)


@pytest.mark.parametrize(("model_type", "config"), [("llama", {"mlp_bias": True}), ("gpt2", {})])
def test_without_biases_is_the_model_whose_biases_are_zero_and_only_inside_the_block(
    saved: Callable[..., Path], model_type: str, config: dict[str, Any]
) -> None:
    live = load_model(saved(model_type, **config), device="cpu")
    biases = [p for name, p in live.named_parameters() if name.endswith((".bias", "_bias")) and "ln_" not in name]
    assert biases
    with torch.no_grad():
        for bias in biases:
            bias.normal_()
    before = tiny.logits(live)
    with conformance.without_biases(live):
        inside = tiny.logits(live)
        assert not any(bias.any() for bias in biases)
    assert torch.equal(tiny.logits(live), before)
    assert (inside - before).abs().max() > tiny.MOVED
