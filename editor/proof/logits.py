"""The proof by logits: the checkpoint as transformers loads it, against its base with the same edits as hooks.

The effect on each language's log-loss is measured in the same run, with random neurons as the control.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..edits.applied import applied, vector_parts
from ..edits.carriers import Carried
from ..edits.controls import random_plan, random_redirection, random_vectors
from ..edits.floor import UNWRITTEN
from ..edits.hooks import calibrated, steered, unrouted
from ..edits.manifest_base import carried_in
from ..edits.token_hooks import redirected, silenced, written
from ..edits.vector_hooks import carried_vectors
from ..errors import CorpusError
from ..live.layered import Layered, open_layered
from ..live.load import hooked as attached
from ..live.load import load_model
from ..live.log_loss import Difference, Measured, measure
from ..live.logits import Variant
from ..live.modules import activation_modules, input_modules, router_biases
from ..live.streaming import AUTO, Streaming
from ..models.embedding import open_embedding
from ..models.target import Target
from ..neurons.neurons import Neurons
from ..progress import Progress
from ..text.corpus import HELD_OUT_EVERY, Text
from ..text.tokens import Packed, read_texts, require

MINIMUM_TOKENS = 64  # a language, for measuring

FLOAT32_NOISE = 1e-4  # of the largest logit

ROUNDING = {"F32": 1e-4, "F16": 2e-3, "BF16": 2e-2}  # the same with scaled columns rounded to the dtype

KL_BOUND = {"F32": 1e-6, "F16": 1e-5, "BF16": 1e-3}  # nats


SAME_TOP = {"exact": 0.999, "rounded": 0.97}


@dataclass(frozen=True)
class Approximation:
    """The distance of a checkpoint with a calibrated carrier, or with one table, from what it stands for.

    Per language it has the difference of its logits from those of the base with exact constants and a second table, and the
    log-loss of that; and how far its pinned activations are from their constants, None where none is calibrated.
    """

    difference: dict[str, Difference]
    log_loss: dict[str, float]
    deviation: dict[str, Any] | None


@dataclass(frozen=True)
class Logits:
    """The outcome of (b) and (c), of one run over the text."""

    measured: Measured
    bound: float
    problems: tuple[str, ...] = field(default=())
    approximation: Approximation | None = None


def verify_live(
    folder: Path,
    target: Target,
    neurons: Neurons,
    texts: Mapping[str, Text],
    *,
    tokens: int,
    context: int,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    progress: Progress | None = None,
) -> Logits:
    """(b) and (c) on at most `tokens` held-out tokens a language: loads both models and runs `verify_logits`.

    Models that do not fit in memory run layer by layer.
    """
    what = carried_in(folder, target, neurons)
    packed = read_held_out(target, texts, tokens=tokens, context=context)
    folders = (target.source.folder, folder)
    if streaming.chosen(target.source.folder, device=device, dtype=dtype, models=2):
        layered = [open_layered(each, device=device, dtype=dtype) for each in folders]
        base, baked = (one.skeleton.model for one in layered)
    else:
        layered = []
        base, baked = (load_model(each, device=device, dtype=dtype) for each in folders)
    return verify_logits(baked, base, target, what, packed, progress, layered=layered, streaming=streaming)


def read_held_out(target: Target, texts: Mapping[str, Text], *, tokens: int, context: int) -> dict[str, Packed]:
    """Tokenize the held-out part of each language's text. Raises CorpusError when a language has too little of it."""
    packed = read_texts(target, texts, tokens=tokens, context=context, held_out=True)
    for language, one in packed.items():
        if not one.tokens:
            raise CorpusError(
                f"{language} has too few documents for one to be held out (every {HELD_OUT_EVERY}th is), so nothing can be "
                f"proved on text in {language}. Add documents in {language}."
            )
        require(one, min(tokens, MINIMUM_TOKENS))
    return packed


def verify_logits(
    baked: Any,
    base: Any,
    target: Target,
    what: Carried,
    texts: Mapping[str, Packed],
    progress: Progress | None = None,
    *,
    layered: Sequence[Layered] = (),
    streaming: Streaming = AUTO,
    stored: str | None = None,
    uncut: Carried | None = None,
) -> Logits:
    """(b) and (c): `baked` and `base` are live models of the checkpoint and its base, `layered` both if they run so.

    `stored` is the dtype that edits were rounded to, by default that of the base; `uncut` is a plan of which `what` is a
    part, to say what the rest would have done.
    """
    family, steps = target.feed_forward.family, what.plan
    modules, control = (
        activation_modules(base, family),
        random_plan(steps, target.feed_forward.width, blocks=target.feed_forward.blocks),
    )
    deviations = Deviations(baked, target, what)
    moved = what.tokens.redirection if what.tokens else None
    drawn = random_redirection(moved) if moved else None
    meant = what.tokens.asked or moved if what.tokens else None
    approximate = (
        what.calibration is not None
        or (what.tokens is not None and what.tokens.asked is not None)
        or not all(vector.exact for vector in what.vectors)
    )
    head = base.get_output_embeddings() if what.tokens and what.tokens.one_table and not approximate else None
    rows = (stored or open_embedding(target).tensor.dtype) if moved else None

    def exactly() -> AbstractContextManager[None]:
        routers = router_biases(base, family) if steps.experts else None  # those that are there now
        others = applied(
            base, target, modules, steps, meant, head=head, vectors=what.vectors, routers=routers,
            stored=None if approximate else rows,
        )  # fmt: skip
        return _hooked(base, what, others)

    def at_random() -> AbstractContextManager[None]:
        return applied(base, target, modules, control, drawn, vectors=random_vectors(what.vectors))

    exact = Variant("hooked", base, exactly)
    hooked = [_stand_in(base, target, what, modules, rows), replace(exact, name="exact")] if approximate else [exact]
    variants = (
        Variant("base", base),
        Variant("this model", baked, deviations.recorded),
        Variant("random neurons", base, at_random),
        *hooked,
    )
    gone = what.silenced.gone if what.silenced else None
    if uncut is not None:
        whole = replace(exact, inside=lambda: steered(modules, uncut.plan))
        if uncut.calibration is not None:
            whole = _stand_in(base, target, uncut, modules)
        variants = (*variants, replace(whole, name="uncut"))
    measured = measure(
        variants, texts, compare=[one.name for one in variants[3:]], to="this model", silenced=gone, progress=progress,
        layered=layered, streaming=streaming,
    )  # fmt: skip
    approximation = None
    if approximate:
        deviation = None if what.calibration is None else deviations.result()
        approximation = Approximation(measured.difference["exact"], measured.log_loss["exact"], deviation)
    dtype = stored or target.feed_forward.outputs[0][1].dtype
    rounded = (
        moved is not None
        or bool(what.vectors)
        or (what.silenced is not None and (what.silenced.tied or what.silenced.quietened))
        or steps.constant
        or any(np.any(np.log2(np.abs(f[f != 0])) % 1) for f in (x.factors for x in steps.layers))
    )
    relative = ROUNDING[dtype] if rounded else FLOAT32_NOISE
    kl_bound = KL_BOUND[dtype if rounded else "F32"]
    agree = SAME_TOP["rounded" if rounded else "exact"]
    problems = []
    for language, difference in measured.difference["hooked"].items():
        bound = relative * max(1.0, difference.scale)
        if not difference.max_logit <= bound:
            problems.append(f"{language}: a logit differs by {difference.max_logit:.2e}, more than {bound:.2e}.")
        if not abs(difference.kl) <= kl_bound:
            problems.append(f"{language}: KL is {difference.kl:.2e} nats, more than {kl_bound:.0e}.")
        if not difference.same_top >= agree:
            problems.append(f"{language}: the top token agrees in {difference.same_top:.1%}, less than {agree:.1%}.")
    for language, apart in measured.unwritten.get("hooked", {}).items():
        bound = ROUNDING[what.silenced.head.output[1].dtype if what.silenced else dtype] * max(1.0, apart.scale)
        if not apart.max_logit <= bound:
            problems.append(f"{language}: a silenced logit differs by {apart.max_logit:.2e}, more than {bound:.2e}.")
        if not apart.highest <= UNWRITTEN:
            problems.append(
                f"{language}: silenced tokens reach a probability of e^{apart.highest:.0f} together, more than "
                f"e^{UNWRITTEN:.0f}."
            )
    return Logits(measured, relative, tuple(problems), approximation)


def _stand_in(base: Any, target: Target, what: Carried, modules: Sequence[Any], rows: str | None = None) -> Variant:
    """Return the base with w·x for 1, and one table for two, as the checkpoint has them, by hooks.

    Rows of tokens that move are rounded to the dtype `rows`.
    """
    family = target.feed_forward.family
    inputs, calibration = input_modules(base, family), what.calibration
    names = {tensor.name for _, tensor in target.checkpoint.tensors()}
    exact_add = not family.gated and target.feed_forward.name(family.out, 0, "bias") in names
    moved = what.tokens.redirection if what.tokens else None

    @contextmanager
    def inside() -> Iterator[None]:
        with ExitStack() as stack:
            if calibration is None:
                stack.enter_context(steered(modules, what.plan))
            else:
                stack.enter_context(calibrated(modules, inputs, what.plan, calibration, exact_add=exact_add))
            stack.enter_context(unrouted(router_biases(base, family), what.plan))
            stack.enter_context(redirected(base.get_input_embeddings(), moved, rows))
            if what.vectors:
                stack.enter_context(carried_vectors(what.vectors, calibration, **vector_parts(base, target, modules)))
            if what.tokens and what.tokens.one_table:
                stack.enter_context(written(base.get_output_embeddings(), what.tokens.redirection))
            yield

    return Variant("hooked", base, lambda: _hooked(base, what, inside()))


@contextmanager
def _hooked(base: Any, what: Carried, others: AbstractContextManager[None]) -> Iterator[None]:
    """Keep silenced tokens down too, where there are some."""
    silent = what.silenced
    if silent is None:
        with others:
            yield
        return
    with others, silenced(base, silent.silence, silent.scripts, tied=silent.tied):
        yield


class Deviations:
    """The deviations of a checkpoint with a calibrated carrier, while it runs.

    They say how far the activation of the neurons that carry a constant (those that are pinned, the slots of `add`, and those
    that carry a vector), which should be act(t) on every token, is from it: a/act(t) − 1. All of a layer are alike, so one is
    looked at.
    """

    def __init__(self, baked: Any, target: Target, what: Carried) -> None:
        self.squares: dict[int, float] = {}
        self.first_token: dict[int, float] = {}
        self.positions: dict[int, int] = {}
        if what.calibration is None:  # a Llama by another name has other modules than its base
            self.watched: list[tuple[int, Any, int, float]] = []
            return
        modules = activation_modules(baked, target.feed_forward.family)
        self.watched = [
            (number, module, int(carrying[0]), float(what.calibration.levels[number]))
            for number, (module, layer) in enumerate(zip(modules, what.plan.layers, strict=True))
            if len(carrying := layer.neurons[layer.pinned] if layer.pinned.any() else layer.freed[: layer.added.sum()])
        ]
        seen = {number for number, *_ in self.watched}
        self.watched += [
            (each.block, modules[each.block], each.slot, float(what.calibration.levels[each.block]))
            for each in what.vectors
            if each.calibrated and each.slot is not None and each.block not in seen
        ]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        handles = [
            module.register_forward_hook(self._hook(number, neuron, level))
            for number, module, neuron, level in self.watched
        ]
        with attached(handles):
            yield

    def _hook(self, number: int, neuron: int, level: float) -> Any:
        import torch

        def look(module: Any, inputs: Any, output: Any) -> None:
            a = output[..., neuron].double()  # (B, T), or (B·T,) where a family flattens
            off = a / module.forward(torch.full_like(output[..., :1], level)).double()[..., 0] - 1
            if off.ndim > 1:
                self.first_token[number] = float(off[0, 0])
                off = off[:, 1:]
            self.squares[number] = self.squares.get(number, 0.0) + float(off.square().sum())
            self.positions[number] = self.positions.get(number, 0) + off.numel()

        return look

    def result(self) -> dict[str, Any]:
        """Root mean square per layer, that of all, and the deviation at a context's first token where it was told apart."""
        by_layer = {number: (self.squares[number] / max(1, self.positions[number])) ** 0.5 for number in self.squares}
        whole = sum(self.squares.values()) / max(1, sum(self.positions.values()))
        return {"all": whole**0.5, "layers": by_layer, "first_token": dict(self.first_token)}
