"""The same edits as forward hooks on a live model: the reference that `verify` holds `bake` against.

It shares nothing with `bake` but the plan: where `bake` rewrites columns of W_out in a file, a hook multiplies the output
of the activation function, a_j → factor_j · a_j, in the unedited model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .recipe import LayerPlan, Plan


@contextmanager
def steered(modules: Sequence[Any], plan: Plan) -> Iterator[None]:
    """Apply a plan to a live model while the block runs. `modules` are `families.activation_modules(model, …)`."""
    import torch

    handles = []
    try:
        for module, layer in zip(modules, plan.layers, strict=True):
            if not len(layer.neurons):
                continue
            neurons = torch.from_numpy(layer.neurons)
            factors = torch.from_numpy(layer.factors)

            def multiply(module: Any, inputs: Any, output: Any, neurons: Any = neurons, factors: Any = factors) -> Any:
                changed = output.clone()
                where, by = neurons.to(output.device), factors.to(output.device, torch.float32)
                # the product is rounded, not the factor; and 0 · inf is not what "inactive" means
                scaled = (output[..., where].float() * by).to(output.dtype)
                changed[..., where] = scaled.masked_fill(by == 0, 0)
                return changed

            handles.append(module.register_forward_hook(multiply))
        yield
    finally:
        for handle in handles:
            handle.remove()


def random_plan(plan: Plan, width: int, seed: int = 0) -> Plan:
    """The control: in every layer as many neurons as the plan edits, drawn with a seed from those it doesn't, with the
    plan's factors."""
    generator = np.random.default_rng(seed)
    layers = []
    for layer in plan.layers:
        others = np.setdiff1d(np.arange(width), layer.neurons)
        count = min(len(layer.neurons), len(others))
        drawn = np.sort(generator.choice(others, count, replace=False))
        layers.append(LayerPlan(drawn, generator.permutation(layer.factors)[:count]))
    return Plan(tuple(layers), {}, {})
