"""Vectors in the residual stream as forward hooks on a live model: exact ones, and those of a calibrated carrier."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import Calibration
    from .layer_vector import LayerVector


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
