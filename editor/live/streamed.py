"""Hidden states of variants of models that run layer by layer: for log-losses and differences of logits.

A layer is read once for all variants of its model: each runs under its own hooks, which are attached anew for every layer, so
what they hang on is there when they look at it. What the head is given lies in memory, or in a scratch folder, until the head
is read.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.hf import silent
from ..progress import Progress
from .layered import Layered, State
from .logits import Variant
from .memory import plan_layers
from .states import States
from .streaming import Streaming

if TYPE_CHECKING:
    import torch


@contextmanager
def streamed(
    variants: Sequence[Variant],
    models: Sequence[Layered],
    ids: "Sequence[torch.Tensor]",
    streaming: Streaming,
    progress: Progress | None = None,
) -> Iterator["Streamed"]:
    """Run the trunk of every variant on every batch, (B, T); within the block its states are there, and the models' heads.

    `models` are those of the variants, layer by layer. Raises ModelError when there is no room for a layer, OutputError when
    there is none for hidden states.
    """
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=streaming.scratch, prefix=".monoglot-"))
        made = Streamed([variant.name for variant in variants], len(ids))
        steps = len(ids) * sum(len(one.layers) * _count(variants, one) for one in models)
        step = 0

        def told(layered: Layered, layer: int) -> None:
            nonlocal step
            step += 1
            if progress:
                progress(f"layer {layer + 1} of {len(layered.layers)}", step, steps)

        for number, layered in enumerate(models):
            folder = Path(scratch, str(number))
            folder.mkdir()
            states = stack.enter_context(closing(States(folder, keeping=False)))
            _run(variants, layered, ids, states, streaming, told)
            made.take(variants, layered, states)
        with silent():
            for layered in models:
                layered.skeleton.load_head()
        try:
            yield made
        finally:
            for layered in models:
                layered.skeleton.unload_head()


def through_layers(
    layered: Layered, ids: "Sequence[torch.Tensor]", streaming: Streaming, begin: Callable[[int, int], None]
) -> None:
    """Run batches, (B, T), through every layer, for what hooks see there; `begin` is told each layer and batch before.

    Raises ModelError when there is no room for a layer, OutputError when there is none for hidden states.
    """
    import torch

    ahead, left = plan_layers(layered, max((batch.numel() for batch in ids), default=1), streaming.memory)
    device = layered.skeleton.device
    with (
        tempfile.TemporaryDirectory(dir=streaming.scratch, prefix=".monoglot-") as scratch,
        closing(States(Path(scratch), keeping=False)) as states,
        layered.running(),
        torch.inference_mode(),
    ):
        for layer in layered.each(ahead=ahead):
            for number, batch in enumerate(ids):
                begin(layer, number)
                before = states.get(number)
                after = layered.run(batch, layer, before.on(device) if before else None)
                if layer == number == 0:
                    states.expect(after.size * sum(one.numel() for one in ids) // batch.numel(), left)
                states.put(number, after)
            states.turn()


class Streamed:
    """What the heads of variants are given."""

    def __init__(self, names: Sequence[str], batches: int) -> None:
        self._names, self._batches = list(names), batches
        self._states: dict[str, tuple[States, Any]] = {}

    def take(self, variants: Sequence[Variant], layered: Layered, states: States) -> None:
        """Take in the states of a model's variants."""
        for variant in variants:
            if variant.model is layered.skeleton.model:
                self._states[variant.name] = states, layered.skeleton.device

    def states(self, name: str, batch: int) -> "torch.Tensor":
        """Return those of a variant on a batch, to predict all tokens but the first: (B·(T−1), d)."""
        states, device = self._states[name]
        found = states.get(self._names.index(name) * self._batches + batch)
        part = found.parts[0] if found else None
        if part is None:
            raise ValueError(f"{name} did not run on batch {batch}")
        return part.to(device)[:, :-1].flatten(0, 1)


def _count(variants: Sequence[Variant], layered: Layered) -> int:
    return sum(variant.model is layered.skeleton.model for variant in variants)


def _run(
    variants: Sequence[Variant],
    layered: Layered,
    ids: "Sequence[torch.Tensor]",
    states: States,
    streaming: Streaming,
    told: Any,
) -> None:
    """Run the variants of one model through its layers, and what lies behind them."""
    import torch

    own = [(at, variant) for at, variant in enumerate(variants) if variant.model is layered.skeleton.model]
    largest = max((batch.numel() for batch in ids), default=1)
    ahead, left = plan_layers(layered, largest, streaming.memory)
    device, expected = layered.skeleton.device, False

    def given(number: int) -> State | None:
        before = states.get(number)
        return before.on(device) if before else None

    with layered.running(tables=True), torch.inference_mode():
        for layer in layered.each(ahead=ahead):
            for at, variant in own:
                with variant.inside():
                    for number, batch in enumerate(ids, at * len(ids)):
                        after = layered.run(batch, layer, given(number))
                        if not expected:
                            whole = len(own) * sum(one.numel() for one in ids)
                            states.expect(after.size * whole // batch.numel(), left)
                            expected = True
                        states.put(number, after)
                        told(layered, layer)
            states.turn()
        for at, variant in own:
            with variant.inside():
                for number, batch in enumerate(ids, at * len(ids)):
                    before = given(number)
                    if before is not None:
                        states.put(number, State((layered.finish(batch, before),)))
        states.turn()
