"""The same edits as forward hooks on a live model: the reference that `verify` holds `bake` against.

It shares nothing with `bake` but the plan: where `bake` rewrites rows, columns and biases in a file, a hook adds to the
input of the activation function and rewrites its output, in the unedited model:

    act(z_j)  →  factor_j · act(z_j + shift_j) + constant_j

That is what every checkpoint should do. `calibrated` is what one with a calibrated carrier does do: in place of the
constant 1 it has s = w·x, which is computed here at run time from what the feed-forward network reads,

    pin c    a_j = c · act(t·s) / act(t)          shift δ    z_j → z_j + δ·s
    add δ    a_j → a_j + δ · act(t·s) / act(t)    (δ itself in a plain network, which has a bias at its output)

Experts that are switched off: −∞ in the bias that the live router adds to their scores, for as long as the block runs.
Tokens and vectors have hooks of their own, in token_hooks and vector_hooks; `edited` is all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .plan import LayerPlan, Plan
from .token_hooks import redirected, written
from .vector_hooks import added

if TYPE_CHECKING:
    from .calibration import Calibration
    from .layer_vector import LayerVector
    from .redirect import Redirection


@contextmanager
def steered(modules: Sequence[Any], plan: Plan) -> Iterator[None]:
    """Apply a plan to a live model while the block runs. `modules` are `families.activation_modules(model, …)`."""
    handles = []
    try:
        for module, layer in zip(modules, plan.layers, strict=True):
            if np.any(layer.shifts):
                handles.append(module.register_forward_pre_hook(_before(layer)))
            if np.any(layer.factors != 1) or np.any(layer.constants):
                handles.append(module.register_forward_hook(_after(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(layer: LayerPlan) -> Any:
    import torch

    neurons, shifts = torch.from_numpy(layer.neurons), torch.from_numpy(layer.shifts)

    def shift(module: Any, inputs: Any) -> Any:
        changed = inputs[0].clone()  # the module may keep its input, or share it
        where, by = neurons.to(changed.device), shifts.to(changed.device, torch.float32)
        changed[..., where] = (changed[..., where].float() + by).to(changed.dtype)
        return (changed, *inputs[1:])

    return shift


def _after(layer: LayerPlan) -> Any:
    import torch

    neurons = torch.from_numpy(layer.neurons)
    factors, constants = torch.from_numpy(layer.factors), torch.from_numpy(layer.constants)

    def rewrite(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        where = neurons.to(output.device)
        by, plus = factors.to(output.device, torch.float32), constants.to(output.device, torch.float32)
        # the result is rounded, not the factor; and 0 · inf is not what "inactive" means
        kept = (output[..., where].float() * by).masked_fill(by == 0, 0)
        changed[..., where] = (kept + plus).to(output.dtype)
        return changed

    return rewrite


@contextmanager
def calibrated(
    modules: Sequence[Any], inputs: Sequence[Any], plan: Plan, calibration: "Calibration", *, exact_add: bool
) -> Iterator[None]:
    """Apply a plan with w·x for 1 while the block runs.

    `inputs` are `families.input_modules(model, …)`; `exact_add` says that what `add` adds is in a bias at the network's
    output.
    """
    with ExitStack() as stack:
        rows = zip(modules, inputs, plan.layers, calibration.directions, calibration.levels, strict=True)
        for module, reads, layer, direction, level in rows:
            if not layer.constant:
                stack.enter_context(steered([module], Plan((layer,), {}, {})))
                continue
            for hook in _stand_in(module, reads, layer, direction, float(level), exact_add):
                stack.callback(hook.remove)
        yield


def _stand_in(module: Any, reads: Any, layer: LayerPlan, direction: Any, level: float, exact_add: bool) -> list[Any]:
    """Attach the hooks of one layer: s is computed where x is read, and used before and after the activation function."""
    import torch

    seen: dict[str, torch.Tensor] = {}
    neurons, w = torch.from_numpy(layer.neurons), torch.from_numpy(direction)
    factors, constants, shifts, pinned = map(
        torch.from_numpy, (layer.factors, layer.constants, layer.shifts, layer.pinned)
    )

    def read(module: Any, inputs: Any) -> None:
        seen["s"] = inputs[0].double() @ w.to(inputs[0].device)  # (…)

    def before(module: Any, inputs: Any) -> Any:
        changed = inputs[0].clone()
        where, by = neurons.to(changed.device), shifts.to(changed.device)
        z = changed[..., where].double()
        changed[..., where] = (z + by * seen["s"].reshape(*z.shape[:-1], 1)).to(changed.dtype)
        return (changed, *inputs[1:])

    def after(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        where, by, plus, pins = (each.to(output.device) for each in (neurons, factors, constants, pinned))
        a = output[..., where].double()
        z = level * seen["s"].reshape(*a.shape[:-1], 1).float()
        one = (module.forward(z) / module.forward(torch.full_like(z, level))).double()  # forward: without these hooks
        held = torch.where(pins, one, torch.ones_like(one)) if exact_add else one
        changed[..., where] = ((a * by).masked_fill(by == 0, 0) + plus * held).to(output.dtype)
        return changed

    return [
        reads.register_forward_pre_hook(read),
        module.register_forward_pre_hook(before),
        module.register_forward_hook(after),
    ]


@contextmanager
def edited(
    modules: Sequence[Any],
    plan: Plan,
    embedding: Any,
    redirection: "Redirection | None",
    head: Any = None,
    layers: Sequence[Any] = (),
    vectors: "Sequence[LayerVector]" = (),
    routers: Mapping[int, Any] | None = None,
    stored: str | None = None,
) -> Iterator[None]:
    """Apply a plan, move tokens and add vectors while the block runs; tokens move in the output layer too if it is given.

    `routers` are needed where experts are switched off; moved rows are rounded to the dtype `stored`.
    """
    with ExitStack() as stack:
        stack.enter_context(unrouted(routers or {}, plan))
        stack.enter_context(added(layers, vectors))
        stack.enter_context(steered(modules, plan))
        stack.enter_context(redirected(embedding, redirection, stored))
        if head is not None and redirection is not None:
            stack.enter_context(written(head, redirection))
        yield


@contextmanager
def unrouted(routers: Mapping[int, Any], plan: Plan) -> Iterator[None]:
    """Send no token to the experts that a plan switches off; `routers` are `modules.router_biases(model)`."""
    import torch

    live = {layer: routers[layer] for layer in dict.fromkeys(layer for layer, _ in plan.experts)}
    before = {layer: bias.detach().clone() for layer, bias in live.items()}
    try:
        with torch.no_grad():
            for layer, expert in plan.experts:
                live[layer][..., expert] = -torch.inf
        yield
    finally:
        with torch.no_grad():
            for layer, bias in before.items():
                live[layer].copy_(bias)
