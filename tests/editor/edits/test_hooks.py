"""The reference itself: hooks multiply exactly the plan's activations, and are gone afterwards."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from monoglot.editor.edits.controls import random_plan
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.plan import LayerPlan, Plan

WIDTH = 12


Does = float | tuple[float, float, float]  # a factor alone, or factor, constant, shift


def _layer(does: Mapping[int, Does]) -> LayerPlan:
    rows = [(f, 0.0, 0.0) if isinstance(f := does[j], float) else f for j in sorted(does)]
    factors, constants, shifts = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return LayerPlan(np.array(sorted(does), np.int64), factors, constants, shifts)


def a_plan(*layers: Mapping[int, Does]) -> Plan:
    return Plan(tuple(_layer(f) for f in layers), {}, {})


@pytest.mark.parametrize("shape", [(2, 5, WIDTH), (10, WIDTH), (WIDTH,)], ids=["batch", "flattened tokens", "one"])
def test_factors_reach_their_neurons(shape: tuple[int, ...]) -> None:
    modules, x = [torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity()], torch.randn(shape)
    with steered(modules, a_plan({0: 0.0, 3: 2.0, 11: -0.5}, {}, {7: 0.25})):
        first, second, third = (module(x) for module in modules)
    factors = torch.ones(WIDTH)
    factors[[0, 3, 11]] = torch.tensor([0.0, 2.0, -0.5])
    assert torch.equal(first, x * factors)
    assert torch.equal(second, x)
    assert torch.equal(third[..., 7], x[..., 7] / 4)
    assert torch.equal(third[..., :7], x[..., :7])


def test_the_modules_own_output_is_not_written_to() -> None:
    """An activation that returns its input (ReLU of what is positive, in place or not) must not change it."""
    module, x = torch.nn.Identity(), torch.ones(3, WIDTH)
    with steered([module], a_plan({1: 0.0})):
        module(x)
    assert torch.equal(x, torch.ones(3, WIDTH))


def test_constants_and_shifts_reach_their_neurons() -> None:
    """pin, add and shift on a real activation function, against the formula written for each."""
    module, x = torch.nn.SiLU(), torch.randn(4, WIDTH)
    silu = torch.nn.functional.silu
    with steered([module], a_plan({1: (0.0, 2.5, 0.0), 4: (1.0, -0.75, 0.0), 9: (1.0, 0.0, 0.5)})):
        out = module(x)
    assert torch.equal(out[:, 1], torch.full((4,), 2.5))
    assert torch.equal(out[:, 4], silu(x)[:, 4] - 0.75)
    assert torch.allclose(out[:, 9], silu(x[:, 9] + 0.5), atol=1e-6)
    others = [j for j in range(WIDTH) if j not in (1, 4, 9)]
    assert torch.equal(out[:, others], silu(x)[:, others])
    assert torch.equal(module(x), silu(x))


def test_an_inactive_neuron_is_zero_whatever_it_was() -> None:
    module = torch.nn.Identity()
    with steered([module], a_plan({0: 0.0, 1: 0.0, 2: 2.0})):
        out = module(torch.tensor([float("inf"), float("nan"), float("inf"), 1.0]))
    assert out.tolist() == [0.0, 0.0, float("inf"), 1.0]


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    module, x = torch.nn.Identity(), torch.ones(WIDTH)
    with pytest.raises(KeyError), steered([module], a_plan({0: 0.0})):
        raise KeyError
    assert torch.equal(module(x), x)
    with pytest.raises(ValueError, match="zip"), steered([module], a_plan({0: 0.0}, {1: 0.0})):
        pass
    assert torch.equal(module(x), x)


def test_a_factor_is_not_rounded_to_the_models_dtype() -> None:
    """The product is rounded once: 0.7 in bfloat16 is 0.69921875, and 144 · 0.7 = 100.8 becomes 101, not 100.5."""
    module = torch.nn.Identity()
    with steered([module], a_plan({0: 0.7})):
        out = module(torch.tensor([144.0, 1.0], dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.tolist() == [101.0, 1.0]


def test_the_control_is_as_many_other_neurons_with_the_same_factors() -> None:
    plan = a_plan({0: 0.0, 4: 2.0, 5: (0.0, 3.0, 0.0), 6: (1.0, 0.0, 0.5)}, {}, {1: 0.0})
    control = random_plan(plan, WIDTH, seed=3)
    for own, other in zip(plan.layers, control.layers, strict=True):
        assert len(own.neurons) == len(other.neurons) == len(np.unique(other.neurons))
        assert not set(own.neurons) & set(other.neurons)
        assert (np.diff(other.neurons) > 0).all()
        what, control_what = (
            sorted(zip(each.factors, each.constants, each.shifts, strict=True)) for each in (own, other)
        )
        assert what == control_what
    again = random_plan(plan, WIDTH, seed=3)
    assert all((a.neurons == b.neurons).all() for a, b in zip(control.layers, again.layers, strict=True))


def test_the_control_of_more_than_half_a_layer_is_what_is_left() -> None:
    control = random_plan(a_plan(dict.fromkeys(range(9), 0.0)), WIDTH)
    assert control.layers[0].neurons.tolist() == [9, 10, 11]
    assert control.layers[0].factors.tolist() == [0.0, 0.0, 0.0]
