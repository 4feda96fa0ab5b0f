"""The plan of a recipe: which neurons of each layer get which factor or constant."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import NeuronsError, RecipeError
from ..models.identity import Block, blocks_of
from ..neurons.neurons import DECIMALS, Neurons, check_fit, check_languages
from .recipe import EXPERT, VALUES, Edit, Recipe, check


@dataclass(frozen=True)
class LayerPlan:
    """Of one layer: sorted neurons, int64 (n,), and what becomes of each one's activation, float64 (n,) each:

    act(z_j)  →  factor_j · act(z_j + shift_j) + constant_j

    deactivate is (0, 0, 0), scale (k, 0, 0), pin (0, k·v, 0), add (1, k·v, 0), shift (1, 0, k·v).
    """

    neurons: npt.NDArray[np.int64]
    factors: npt.NDArray[np.float64]
    constants: npt.NDArray[np.float64]
    shifts: npt.NDArray[np.float64]

    @property
    def pinned(self) -> npt.NDArray[np.bool_]:
        chosen: npt.NDArray[np.bool_] = (self.factors == 0) & (self.constants != 0)
        return chosen

    @property
    def added(self) -> npt.NDArray[np.bool_]:
        chosen: npt.NDArray[np.bool_] = (self.factors != 0) & (self.constants != 0)
        return chosen

    @property
    def freed(self) -> npt.NDArray[np.int64]:
        """The deactivated neurons."""
        chosen: npt.NDArray[np.int64] = self.neurons[(self.factors == 0) & (self.constants == 0)]
        return chosen

    @property
    def constant(self) -> bool:
        """Whether it needs a carrier."""
        return bool(np.any(self.constants) or np.any(self.shifts))

    def with_freed(self, neurons: npt.NDArray[np.int64]) -> "LayerPlan":
        """Return the same with other neurons, not in it yet, deactivated too."""
        order = np.argsort(np.concatenate([self.neurons, neurons]), kind="stable")
        nothing = np.zeros(len(neurons))
        parts = ((self.neurons, neurons), *((own, nothing) for own in (self.factors, self.constants, self.shifts)))
        return LayerPlan(*(np.concatenate(part)[order] for part in parts))

    def take(self, chosen: npt.NDArray[np.bool_]) -> "LayerPlan":
        return LayerPlan(self.neurons[chosen], self.factors[chosen], self.constants[chosen], self.shifts[chosen])


@dataclass(frozen=True)
class Plan:
    """The plan of a recipe: what it does to each block (most models have one a layer).

    Per language it has how many neurons are edited and how many kept because they are shared.
    """

    layers: tuple[LayerPlan, ...]
    edited: dict[str, int]
    kept: dict[str, int]
    experts: tuple[tuple[int, int], ...] = ()  # switched off: (layer, expert)

    @property
    def size(self) -> int:
        return sum(len(layer.neurons) for layer in self.layers)

    @property
    def constant(self) -> bool:
        """Whether it needs a carrier."""
        return any(layer.constant for layer in self.layers)


def plan(recipe: Recipe, neurons: Neurons, *, layers: int, width: int, blocks: Sequence[Block] = ()) -> Plan:
    """Return what becomes of which neuron, in a model of so many layers of one width, or of these blocks.

    Nothing becomes of any where the recipe edits tokens only.

    A neuron may belong to several languages. With shared="keep" it is edited only when every language it belongs to asks
    for the same operation at the same strength; with "edit" it is edited by whichever language asks. Where several ask
    for different things, a constant (pin, add, shift) wins over deactivation, deactivation over scaling, and of two of a
    kind the later one in the recipe. `edited` and `kept` count each language's own neurons, so a shared one counts once
    for each of its languages; `size` counts it once.
    Raises NeuronsError when neurons and model don't fit, or a language or the value to pin to is missing, RecipeError when
    nothing is left.
    """
    check(recipe)
    edits = recipe.of_neurons
    if not edits:
        nothing = LayerPlan(np.zeros(0, np.int64), *np.zeros((3, 0)))
        return Plan((nothing,) * len(blocks_of(layers, width, blocks)), {}, {}, named_experts(recipe, neurons))
    if not neurons.languages:
        raise NeuronsError("the recipe edits neurons, and none are given. Find them with `monoglot find`.")
    check_fit(neurons, layers, width, recipe.base.model, blocks)
    check_languages(neurons, [edit.language for edit in edits])
    values = {edit.language: _values(edit, neurons) for edit in edits}
    wish_of = {edit.language: (edit.op, edit.strength, edit.value) for edit in edits}
    order = sorted(edits, key=lambda edit: {"scale": 0, "deactivate": 1}.get(edit.op, 2))
    edited, kept = dict.fromkeys(wish_of, 0), dict.fromkeys(wish_of, 0)
    plans = []
    for i, block in enumerate(blocks_of(layers, width, blocks)):
        width = block.width
        factors, constants, shifts = np.ones(width), np.zeros(width), np.zeros(width)
        chosen = np.zeros(width, dtype=np.bool_)
        wishes = {edit.language: wish_of[edit.language] for edit in edits if edit.reaches(block.layer)}
        for edit in order:
            if not edit.reaches(block.layer):
                continue
            own, value = neurons.indices[edit.language][i], values[edit.language][i]
            if recipe.shared == "keep":
                free = np.ones(width, dtype=np.bool_)
                for other in neurons.languages:
                    if wishes.get(other) != wishes[edit.language]:
                        free[neurons.indices[other][i]] = False
                kept[edit.language] += int((~free[own]).sum())
                own, value = own[free[own]], value[free[own]]
            edited[edit.language] += len(own)
            chosen[own] = True
            factors[own] = {"deactivate": 0.0, "pin": 0.0, "scale": edit.strength}.get(edit.op, 1.0)
            constants[own] = value if edit.op in ("pin", "add") else 0.0
            shifts[own] = value if edit.op == "shift" else 0.0
        indices = np.flatnonzero(chosen)
        plans.append(LayerPlan(indices, factors[indices], constants[indices], shifts[indices]))
    for edit in edits:
        if edit.layers and edit.layers[1] >= layers:
            raise RecipeError(
                f"{edit.language} is to be edited up to layer {edit.layers[1]}; the last one is {layers - 1}."
            )
    result = Plan(tuple(plans), edited, kept, named_experts(recipe, neurons))
    if not result.size:
        shared = sum(kept.values())
        hint = f" All {shared} are shared with other languages: see `shared` edit." if shared else ""
        raise RecipeError(f"no neuron of {', '.join(wish_of)} would be edited.{hint}")
    return result


def named_experts(recipe: Recipe, neurons: Neurons) -> tuple[tuple[int, int], ...]:
    """Return the experts that a recipe names, by number or as a language's, in order.

    Raises NeuronsError when none are known of a language.
    """
    names = []
    for name in recipe.experts:
        if EXPERT.fullmatch(name):
            names.append(name)
        elif name in neurons.experts:
            names += neurons.experts[name]
        else:
            known = f"those of {', '.join(neurons.experts)}" if neurons.experts else "none"
            raise NeuronsError(
                f"no experts of {name} are known; the neurons file has {known}. `monoglot find` finds them in statistics of "
                "a mixture of experts, where the router sends a language's tokens elsewhere than others'."
            )
    found = {(int(layer), int(expert)) for layer, _, expert in (name.partition(".") for name in names)}
    return tuple(sorted(found))


def _values(edit: Edit, neurons: Neurons) -> tuple[npt.NDArray[np.float64], ...]:
    """k·v_j of a language's neurons, per layer; zeros for what needs none."""
    if not edit.constant:
        return tuple(np.zeros(len(own)) for own in neurons.indices[edit.language])
    known = neurons.values.get(str(edit.value), {})
    if edit.language not in known:
        have = [name for name in VALUES if edit.language in neurons.values.get(name, {})]
        raise NeuronsError(
            f"the neurons of {edit.language} have no {edit.value} to {edit.op} to"
            + (f", they have {', '.join(have)}. Use `value` {have[0]}, or find them" if have else ". Find them")
            + " in statistics made with `monoglot detect"
            + ("`." if str(edit.value).startswith("mean") else " --quantiles`.")
        )
    # as their file holds them, so that neurons in memory give the checkpoint that verify expects of those in the file
    held = (np.array([round(value, DECIMALS) for value in own.tolist()], np.float64) for own in known[edit.language])
    return tuple(float(edit.strength or 0) * own for own in held)
