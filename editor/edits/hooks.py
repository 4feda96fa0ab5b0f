"""The same edits as forward hooks on a live model: the reference that `verify` holds `bake` against.

It shares nothing with `bake` but the plan: where `bake` rewrites rows, columns and biases in a file, a hook adds to the
input of the activation function and rewrites its output, in the unedited model:

    act(z_j)  →  factor_j · act(z_j + shift_j) + constant_j

That is what every checkpoint should do. `calibrated` is what one with a calibrated carrier does do: in place of the
constant 1 it has s = w·x, which is computed here at run time from what the feed-forward network reads,

    pin c    a_j = c · act(t·s) / act(t)          shift δ    z_j → z_j + δ·s
    add δ    a_j → a_j + δ · act(t·s) / act(t)    (δ itself in a plain network, which has a bias at its output)

Experts that are switched off: −∞ in the bias that the live router adds to their scores, for as long as the block runs.

Redirected tokens: to the embedding module's output on token t is added Σ_s P(s | t) · (how far s moves), times the factor
that the module multiplies rows of its table with. Where the output layer has the same table, to the logit of token t is added
h·(the same sum), h being what the layer is given.

Silenced tokens: what the output layer gives for token t, with h what it reads and w the direction of the silence,

    silence    becomes −β·w·h               tied   −β·w·h is added, and −β·w to the token's embedding
    quieten    −n·w·h is added
    by a bias  −DROP or −n is added
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.identity import Block, blocks_of
from .plan import LayerPlan, Plan

if TYPE_CHECKING:
    from .calibration import Calibration
    from .layer_vector import LayerVector
    from .redirect import Redirection
    from .script_edit import ScriptEdit
    from .silence import Silence


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
def redirected(embedding: Any, redirection: "Redirection | None") -> Iterator[None]:
    """Move tokens of a live model while the block runs. `embedding` is its `get_input_embeddings()`."""
    if redirection is None:
        yield
        return
    handle = embedding.register_forward_hook(_move(embedding, redirection))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def written(head: Any, redirection: "Redirection") -> Iterator[None]:
    """Move the rows of a live model's output layer while the block runs. `head` is its `get_output_embeddings()`."""
    import torch

    ids, shares, moves = map(torch.from_numpy, (redirection.ids, redirection.shares, redirection.moves))

    def add(module: Any, inputs: Any, output: Any) -> Any:
        along = inputs[0].double() @ moves.to(output.device).T  # (…, S)
        changed = output.clone()
        changed[..., ids.to(output.device)] += (along @ shares.to(output.device).T).to(output.dtype)
        return changed

    handle = head.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def added(layers: Sequence[Any], vectors: "Sequence[LayerVector]") -> Iterator[None]:
    """Add vectors to what layers put out while the block runs. `layers` are `modules.layer_modules(model, …)`."""
    import torch

    if any(each.gate is not None for each in vectors):
        raise ValueError("what a neuron reads is not added on every token: see carried_vectors")

    def adding(value: Any) -> Any:
        def add(module: Any, inputs: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            moved = (states.double() + value.to(states.device)).to(states.dtype)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return add

    handles = [layers[each.layer].register_forward_hook(adding(torch.from_numpy(each.value))) for each in vectors]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def carried_vectors(
    vectors: "Sequence[LayerVector]", calibration: "Calibration | None", *, inputs: Sequence[Any], modules: Sequence[Any],
    outputs: Sequence[Any], norms: Sequence[Any], gated: bool,
) -> Iterator[None]:  # fmt: skip
    """Add vectors in the way that a checkpoint does while the block runs: into the output of the networks.

    By a neuron that is on for every token, w·x for 1, or that reads a language, or by a bias; and behind a norm with its
    weight multiplied. `inputs`, `modules` and `outputs` are the input projections, the activations and the output projections
    by layer, `norms` what is behind the networks where anything is.
    """
    with ExitStack() as stack:
        for each in vectors:
            rows = None if each.gate is None else (each.gate, each.up)
            level = each.level
            if each.calibrated and calibration is not None:
                w, level = calibration.directions[each.block], float(calibration.levels[each.block])
                rows = (level * w, w)
            hooks = _vector_hooks(
                each, rows, level, inputs[each.layer], modules[each.block], outputs[each.layer],
                norms[each.layer] if norms else None, gated=gated,
            )  # fmt: skip
            for handle in hooks:
                stack.callback(handle.remove)
        yield


def _vector_hooks(
    vector: "LayerVector",
    rows: Any,
    level: float,
    reads: Any,
    module: Any,
    out: Any,
    norm: Any,
    *,
    gated: bool,
) -> list[Any]:
    import torch

    seen: dict[str, torch.Tensor] = {}
    amount = torch.from_numpy(vector.added)

    def read(module: Any, inputs: Any) -> None:
        gate, up = (torch.from_numpy(row).to(inputs[0].device) for row in rows)
        seen["z"], seen["u"] = inputs[0].double() @ gate, inputs[0].double() @ up

    def clear(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        changed[..., vector.slot] = 0
        return changed

    def add(own: Any, inputs: Any, output: Any) -> Any:
        one = torch.ones(output.shape[:-1], dtype=torch.float64, device=output.device)
        if rows is not None:
            z = seen["z"].reshape(output.shape[:-1]).float()[..., None]
            one = (module.forward(z) / module.forward(torch.full_like(z, level)))[..., 0].double()
            one = one * seen["u"].reshape(output.shape[:-1]) if gated else one
        return (output.double() + one[..., None] * amount.to(output.device)).to(output.dtype)

    def multiply(own: Any, inputs: Any, output: Any) -> Any:
        return output * vector.gain

    handles = [out.register_forward_hook(add)]
    if rows is not None:
        handles += [reads.register_forward_pre_hook(read), module.register_forward_hook(clear)]
    if norm is not None:
        handles.append(norm.register_forward_hook(multiply))
    return handles


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
) -> Iterator[None]:
    """Apply a plan, move tokens and add vectors while the block runs; tokens move in the output layer too if it is given.

    `routers` are needed where experts are switched off.
    """
    with ExitStack() as stack:
        stack.enter_context(unrouted(routers or {}, plan))
        stack.enter_context(added(layers, vectors))
        stack.enter_context(steered(modules, plan))
        stack.enter_context(redirected(embedding, redirection))
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


def _move(embedding: Any, redirection: "Redirection") -> Any:
    import torch

    shares = torch.zeros(len(embedding.weight), len(redirection.moves), dtype=torch.float64)  # (V, S)
    shares[torch.from_numpy(redirection.ids)] = torch.from_numpy(redirection.shares)
    moves = torch.from_numpy(redirection.moves)
    scale = _scale(embedding)

    def move(module: Any, inputs: Any, output: Any) -> Any:
        ids = inputs[0]
        delta = shares.to(ids.device)[ids] @ moves.to(ids.device)  # (B, T, d)
        return (output.double() + scale * delta.to(output.device)).to(output.dtype)

    return move


@contextmanager
def silenced(
    model: Any, silence: "Silence | None", scripts: "Sequence[ScriptEdit]", *, tied: bool = False
) -> Iterator[None]:
    """Keep a live model from writing scripts, as a recipe's `scripts` say, while the block runs."""
    if silence is None or not scripts:
        yield
        return
    handles = [model.get_output_embeddings().register_forward_hook(_hold_down(silence, scripts, tied))]
    if tied:
        embedding = model.get_input_embeddings()
        handles.append(embedding.register_forward_hook(_shift_reading(embedding, silence, scripts)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hold_down(silence: "Silence", scripts: "Sequence[ScriptEdit]", tied: bool) -> Any:
    import torch

    def rewrite(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        one = (
            1.0
            if silence.direction is None
            else inputs[0].double() @ torch.from_numpy(silence.direction).to(output.device)
        )
        for edit in scripts:
            where = torch.from_numpy(silence.ids[edit.script]).to(output.device)
            before = output[..., where].double()
            down = torch.as_tensor(_amount(silence, edit) * one, device=output.device)
            down = (down if silence.direction is None else down[..., None]).expand(before.shape)
            replaced = edit.nats is None and silence.direction is not None and not tied
            changed[..., where] = (-down if replaced else before - down).to(output.dtype)
        return changed

    return rewrite


def _shift_reading(embedding: Any, silence: "Silence", scripts: "Sequence[ScriptEdit]") -> Any:
    import torch

    amounts = torch.zeros(len(embedding.weight), dtype=torch.float64)  # (V,)
    for edit in scripts:
        amounts[torch.from_numpy(silence.ids[edit.script])] = _amount(silence, edit)
    scale = _scale(embedding)

    def move(module: Any, inputs: Any, output: Any) -> Any:
        by = amounts.to(output.device)[inputs[0]][..., None] * torch.from_numpy(silence.direction).to(output.device)
        return (output.double() - scale * by).to(output.dtype)

    return move


def _amount(silence: "Silence", edit: "ScriptEdit") -> float:
    """Return what stands before w·h, or before 1 where there is a bias."""
    from .silence import DROP

    if edit.nats is not None:
        return edit.nats
    return silence.floor.strength if silence.floor else DROP


def _scale(embedding: Any) -> float:
    """Return what a module multiplies rows of its table with: √d in Gemma, 1 in most. Measured on its largest row."""
    import torch

    row = embedding.weight.detach().abs().amax(dim=1).argmax()
    out, stored = embedding.forward(row[None])[0].double(), embedding.weight.detach()[row].double()
    place = stored.abs().argmax()
    with torch.inference_mode():
        return float(out[place] / stored[place])


def random_redirection(redirection: "Redirection", seed: int = 0) -> "Redirection":
    """Return the control: the same tokens moved as far, in directions drawn with a seed."""
    drawn = np.random.default_rng(seed).normal(size=redirection.moves.shape)
    lengths = np.linalg.norm(redirection.moves, axis=1, keepdims=True)
    return replace(redirection, moves=drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * lengths)


def random_vectors(vectors: "Sequence[LayerVector]", seed: int = 0) -> "list[LayerVector]":
    """Return the control: vectors as long, after the same layers, in directions drawn with a seed."""
    generator = np.random.default_rng(seed)
    made = []
    for vector in vectors:
        drawn = generator.normal(size=vector.value.shape)
        drawn *= np.linalg.norm(vector.value) / np.linalg.norm(drawn)
        made.append(replace(vector, value=drawn, added=drawn * np.linalg.norm(vector.added) / np.linalg.norm(drawn)))
    return made


def random_plan(plan: Plan, width: int, seed: int = 0, *, blocks: Sequence[Block] = ()) -> Plan:
    """Return the control: in every block as many neurons as the plan edits, with what the plan does to its own.

    They are drawn with a seed from those that the plan doesn't edit. `blocks` are the model's where they are not all
    `width` wide.
    """
    generator = np.random.default_rng(seed)
    layers = []
    for layer, block in zip(plan.layers, blocks_of(len(plan.layers), width, blocks), strict=True):
        others = np.setdiff1d(np.arange(block.width), layer.neurons)
        count = min(len(layer.neurons), len(others))
        drawn = np.sort(generator.choice(others, count, replace=False))
        dealt = generator.permutation(len(layer.neurons))[:count]
        layers.append(LayerPlan(drawn, layer.factors[dealt], layer.constants[dealt], layer.shifts[dealt]))
    return Plan(tuple(layers), {}, {})
