"""The test whether a runtime shows what was baked: its greedy answers beside those of transformers.

The references are transformers' answers in float32, on the checkpoint and on the base, to the same prompts, token by token,
with the log-probability of each token. Where constants live in biases there is a third reference: the checkpoint without any
biases, which is what a runtime runs when it does not know the config key that turns them on. A runtime *agrees* with a
reference when

    |log p(token) − log p_ref(token)| ≤ noise           for each leading token that is the same, where the runtime tells them
    log p_ref(its) ≥ log p_ref(token) − 2·noise         at the first token that differs: only a tie may be broken otherwise

`noise` is the runtime's own, stated in its module, and larger where the runtime rounds more. A prompt *tells apart* when none
of the other references agrees with the checkpoint on it, even with ten times the noise. The verdict:

    steered     it agrees with the checkpoint on every prompt
    dropped     it does not, and agrees with the base, or with the checkpoint without its biases, on every prompt: the
                steering was lost in silence
    different   neither: the distances say how far
    undecided   no prompt tells base and checkpoint apart
    failed      it crashed, refused or took too long: loudly, at least
    missing     it is not installed
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from ..errors import LateError, RunError
from ..models.activations import function_name
from ..models.hf import quiet
from ..models.target import Target
from ..progress import Progress
from . import adapters as runtimes
from . import process
from .adapters.greedy import by_any_cache

TOKENS = 24  # of an answer
CANDIDATES = 4  # prompts of a language that are tried until one tells base and checkpoint apart
NEAR = 50  # of each step's most probable tokens, to know a tie
OF_CODES = 0.05  # nats at least, of quantised weights: runtimes compute with them in half precision
MARGIN = 10  # times the noise, for a prompt to tell apart
VERDICTS = ("steered", "dropped", "different", "undecided", "failed", "missing")


@dataclass(frozen=True)
class Step:
    """One token of a reference: the log-probabilities, in nats, of the token and of the most probable tokens."""

    token: int
    logprob: float
    near: Mapping[int, float]


Reference = tuple[Step, ...]


@dataclass(frozen=True)
class Asked:
    """A prompt and the references' answers; `bare` is the checkpoint without its biases, where it has any."""

    language: str
    prompt: runtimes.Prompt
    steered: Reference
    base: Reference
    bare: Reference | None = None


@dataclass(frozen=True)
class Match:
    """A comparison of an answer with a reference.

    It says whether they agree, how many leading tokens are the same, and the largest difference of those tokens'
    log-probabilities in nats (None where the runtime tells none).
    """

    agrees: bool
    equal: int
    distance: float | None


@dataclass(frozen=True)
class Outcome:
    """The outcome for one runtime.

    `told_apart` counts the prompts that tell base and checkpoint apart. `base_alike` says whether the runtime runs the base
    as transformers does; it is looked at where the verdict is "different" or "failed". `late` means that time ran
    out, so that nothing is known of the runtime.
    """

    name: str
    verdict: str
    version: str | None = None
    reason: str = ""
    noise: float = 0.0
    asked: tuple[Asked, ...] = ()
    told_apart: int = 0
    to_steered: tuple[Match, ...] = ()
    to_base: tuple[Match, ...] = ()
    to_bare: tuple[Match, ...] = ()
    answers: tuple[list[int], ...] = ()
    base_alike: bool | None = None
    late: bool = False

    def record(self) -> dict[str, Any]:
        """Return the outcome as it stands in a manifest."""
        found: dict[str, Any] = {"version": self.version, "verdict": self.verdict}
        if self.reason:
            found["reason"] = self.reason
        if self.asked:
            found |= {
                "dtype": "float32",
                "noise": self.noise,
                "prompts": len(self.asked),
                "told_apart": self.told_apart,
                "languages": sorted({one.language for one in self.asked}),
            }
        for name, matches in (("steered", self.to_steered), ("base", self.to_base), ("bare", self.to_bare)):
            if matches:
                distances = [match.distance for match in matches if match.distance is not None]
                found[f"to_{name}"] = {
                    "agree": sum(match.agrees for match in matches),
                    "equal_tokens": sum(match.equal for match in matches),
                    "tokens": sum(len(getattr(one, name)) for one in self.asked),
                    "largest": float(f"{max(distances):.2g}") if distances else None,
                }
        if self.base_alike is not None:
            found["base_alike"] = self.base_alike
        return found


def reference(model: Any, ids: Sequence[int], tokens: int = TOKENS) -> Reference:
    """Answer greedily with transformers: at most `tokens` tokens, an end-of-text token included.

    Raises RunError where transformers can't.
    """
    import torch

    prompt = torch.tensor([list(ids)])  # (1, T)
    try:
        with torch.inference_mode(), quiet():
            made = by_any_cache(
                model, input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, do_sample=False,
                num_beams=1, repetition_penalty=1.0, output_logits=True, return_dict_in_generate=True,
                pad_token_id=int(ids[0]),
            )  # fmt: skip
    except Exception as error:  # whatever a model's own code raises
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise RunError(
            f"transformers, whose answers runtimes are compared with, writes none with this model: {said.rstrip('.')}. Prove "
            "the checkpoint without runtimes, or with another version of transformers."
        ) from error
    steps = []
    for logits, token in zip(made.logits, made.sequences[0, len(ids) :].tolist(), strict=True):
        logprobs = torch.log_softmax(logits[0].double(), -1)  # (vocabulary,)
        top = torch.topk(logprobs, min(NEAR, len(logprobs)))
        near = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        steps.append(Step(token, float(logprobs[token]), near))
    return tuple(steps)


def ends_of(folder: Path, tokenizer: Any) -> list[int]:
    """Return the tokens at which generation ends: the tokenizer's, and those of the configs."""
    from transformers import GenerationConfig

    found = {tokenizer.eos_token_id}
    if (folder / "generation_config.json").is_file():
        own = GenerationConfig.from_pretrained(folder).eos_token_id
        found |= set(own if isinstance(own, list) else [own])
    return sorted(found - {None})


def match(
    ids: Sequence[int], logprobs: Sequence[float | None], to: Reference, noise: float, ends: Iterable[int] = ()
) -> Match:
    """Compare an answer with a reference.

    Some runtimes leave the end-of-text token out: an answer that stopped early counts as having it.
    """
    closing = set(ends)
    answer = list(ids)
    if len(answer) < len(to) and closing and not (answer and answer[-1] in closing):
        answer.append(next((step for step in to[len(answer)].near if step in closing), min(closing)))
    distance: float | None = None
    for at, step in enumerate(to):
        if at >= len(answer):
            return Match(False, at, distance)
        token = answer[at]
        if token != step.token and not {token, step.token} <= closing:
            tie = step.near.get(token, -inf) >= step.logprob - 2 * noise
            return Match(tie and (distance or 0.0) <= noise, at, distance)
        own = logprobs[at] if at < len(logprobs) else None
        if own is not None:
            distance = max(distance or 0.0, abs(own - step.logprob))
    return Match((distance or 0.0) <= noise, len(to), distance)


def tells_apart(asked: Asked, noise: float) -> bool:
    """Tell whether the checkpoint answers so differently from the other references that no runtime's noise explains it."""
    return not any(
        match([step.token for step in other], [step.logprob for step in other], asked.steered, MARGIN * noise).agrees
        for other in (asked.base, asked.bare)
        if other is not None
    )


@contextmanager
def without_biases(model: Any) -> Iterator[None]:
    """Run a live model as if its linear layers had no biases inside the blocks, as a runtime does that does not read them."""
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D)
    linear = [module for module in model.modules() if isinstance(module, kinds) and module.bias is not None]
    kept = [module.bias.detach().clone() for module in linear]
    with torch.no_grad():
        for module in linear:
            module.bias.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for module, bias in zip(linear, kept, strict=True):
                module.bias.copy_(bias)


def choose(
    steered: Any,
    base: Any,
    tokenizer: Any,
    prompts: Mapping[str, Sequence[str]],
    *,
    noise: float,
    biased: bool = False,
    tokens: int = TOKENS,
    progress: Progress | None = None,
) -> tuple[Asked, ...]:
    """Choose one prompt in each language, with the references' answers.

    It is the first of a few that tells apart, or else the first.

    `steered` and `base` are live models on the CPU in float32. `biased` says that biases carry constants.
    """

    def asked(language: str, text: str) -> Asked:
        ids = tokenizer(text)["input_ids"]
        bare = None
        if biased:
            with without_biases(steered):
                bare = reference(steered, ids, tokens)
        prompt = {"ids": ids, "text": text}
        return Asked(language, prompt, reference(steered, ids, tokens), reference(base, ids, tokens), bare)

    chosen = []
    for number, (language, texts) in enumerate(prompts.items()):
        if progress:
            progress(language, number, len(prompts))
        first = None
        for text in texts[:CANDIDATES]:  # each costs the answers of all models, so they are asked one by one
            found = asked(language, text)
            first = first or found
            if tells_apart(found, noise):
                first = found
                break
        if first:
            chosen.append(first)
    return tuple(chosen)


def noise_of(name: str, target: Target) -> float:
    """Return a runtime's noise, in nats, on a model of this family with this activation function and kind of weights."""
    runtime = runtimes.module(name)
    words = (target.feed_forward.model_type, function_name(target))
    noise = max(float(getattr(runtime, "NOISIER", {}).get(word, runtime.NOISE)) for word in words)
    return max(noise, OF_CODES) if target.quantised else noise


def conform(
    installed: process.Installed,
    folder: Path,
    base: Path,
    asked: Sequence[Asked],
    *,
    noise: float,
    ends: Sequence[int],
    tokens: int = TOKENS,
    timeout: float = process.TIMEOUT,
) -> Outcome:
    """Let a runtime answer, and judge it.

    `installed` is what `process.probe` found, `folder` the checkpoint, `base` the folder of its base, `noise` that of
    `noise_of`.
    """
    name, prompts = installed.name, [one.prompt for one in asked]
    if not installed.ready:
        return Outcome(name, "missing", installed.version, installed.advice)
    run = _runner(name, prompts, python=installed.python, tokens=tokens, timeout=timeout)
    try:
        found = run(folder)
    except LateError as error:
        return Outcome(name, "failed", installed.version, str(error), late=True)
    except RunError as error:
        alike = _base_alike(run, base, asked, noise, ends)
        return Outcome(name, "failed", installed.version, str(error), noise, tuple(asked), base_alike=alike)
    outcome = judge(name, found.version, found.answers, asked, noise=noise, ends=ends)
    if outcome.verdict != "different":
        return outcome
    return replace(outcome, base_alike=_base_alike(run, base, asked, noise, ends))


def _runner(name: str, prompts: Sequence[runtimes.Prompt], *, python: str, tokens: int, timeout: float) -> Any:
    return lambda folder: process.answer(name, folder, prompts, tokens, python=python, timeout=timeout)


def _base_alike(run: Any, base: Path, asked: Sequence[Asked], noise: float, ends: Sequence[int]) -> bool | None:
    """Tell whether the runtime runs the base as transformers does. If it does not, the steering is not to blame.

    None where there was too little time.
    """
    try:
        found = run(base)
    except LateError:
        return None
    except RunError:
        return False
    pairs = zip(found.answers, asked, strict=True)
    return all(match(ids, logprobs, one.base, noise, ends).agrees for (ids, logprobs), one in pairs)


def judge(
    name: str,
    version: str,
    answers: Sequence[tuple[list[int], list[float | None]]],
    asked: Sequence[Asked],
    *,
    noise: float,
    ends: Sequence[int] = (),
) -> Outcome:
    """Give the verdict on a runtime's answers to all prompts."""
    pairs = list(zip(answers, asked, strict=True))
    to_steered = tuple(match(*answer, one.steered, noise, ends) for answer, one in pairs)
    to_base = tuple(match(*answer, one.base, noise, ends) for answer, one in pairs)
    to_bare = tuple(match(*answer, one.bare, noise, ends) for answer, one in pairs if one.bare is not None)
    told_apart = sum(tells_apart(one, noise) for one in asked)
    if not told_apart:
        verdict = "undecided"
    elif all(found.agrees for found in to_steered):
        verdict = "steered"
    elif all(found.agrees for found in to_base) or (to_bare and all(found.agrees for found in to_bare)):
        verdict = "dropped"
    else:
        verdict = "different"
    return Outcome(
        name, verdict, version, "", noise, tuple(asked), told_apart, to_steered, to_base, to_bare,
        tuple(ids for ids, _ in answers),
    )  # fmt: skip
