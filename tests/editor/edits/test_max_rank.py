"""Adapters of a limited rank: what is left out, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest
from support import tiny

from monoglot.editor.edits import max_rank as module
from monoglot.editor.edits.carriers import carried
from monoglot.editor.edits.max_rank import fitted
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import RecipeError
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target

OFF = Recipe(Base("tiny"), (Edit("off", "deactivate"),), "edit")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return open_target(resolve(str(tiny.save_model(tmp_path / "base", "llama"))))


def test_what_fits_is_left_as_it_is(target: Target) -> None:
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    what = carried(target, OFF, neurons)
    found = fitted(target, what, neurons, 7)
    assert (found.rank, found.needed, found.left_out) == (7, 7, {"off": 0})
    for before, after in zip(what.plan.layers, found.carried.plan.layers, strict=True):
        assert np.array_equal(before.neurons, after.neurons)


def test_the_neurons_that_matter_most_stay(target: Target) -> None:
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    found = fitted(target, carried(target, OFF, neurons), neurons, 3)
    assert (found.rank, found.needed) == (3, 7)
    assert found.left_out == {"off": found.carried.plan.edited["off"] * 4 // 3}
    live = tiny.live(target.source.folder)
    for number, layer in enumerate(found.carried.plan.layers):
        mlp, own = live.model.layers[number].mlp, neurons.indices["off"][number]
        up, out = mlp.up_proj.weight.detach(), mlp.down_proj.weight.detach()
        means = {  # a neuron that two languages own has the larger of its means
            int(j): max(
                abs(float(v[np.flatnonzero(i == j)[0]]))
                for i, v in ((neurons.indices[k][number], neurons.values["mean"][k][number]) for k in neurons.languages)
                if j in i
            )
            for j in own
        }
        sizes = {j: mean * up[j].norm().item() * out[:, j].norm().item() for j, mean in means.items()}
        assert sorted(layer.neurons.tolist()) == sorted(sorted(sizes, key=lambda j: -sizes[j])[:3])


@pytest.mark.parametrize("op", ["pin", "add", "all"])
@pytest.mark.parametrize("case", ["llama", "phi3", "mpt"])
def test_every_layer_fits_and_add_keeps_its_slots(case: str, op: str, tmp_path: Path) -> None:
    target = open_target(resolve(str(tiny.save_model(tmp_path / "base", case))))
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    what = carried(target, tiny.recipe(op, "calibrated"), neurons, tiny.by_hand(target))
    whole = fitted(target, what, neurons, None)
    for limit in range(2, whole.needed + 1):
        found = fitted(target, what, neurons, limit)
        assert found.rank <= limit and found.needed == whole.needed
        for layer in found.carried.plan.layers:
            assert len(layer.freed) >= (int(layer.added.sum()) if case != "mpt" else bool(layer.added.any()))
    assert fitted(target, what, neurons, whole.needed).carried.plan.size == what.plan.size


@pytest.mark.parametrize("rank", [0, -1])
def test_no_rank_is_below_one(rank: int, target: Target) -> None:
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    with pytest.raises(RecipeError, match="the smallest rank is 1"):
        fitted(target, carried(target, OFF, neurons), neurons, rank)


def test_more_than_servers_take_is_refused_with_what_to_leave_out(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RANK_LIMIT", 4)
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"), Edit("half", "deactivate")), "edit")
    with pytest.raises(RecipeError) as caught:
        fitted(target, carried(target, recipe, neurons), neurons, None)
    message = str(caught.value)
    assert "rank 9, 5 more than servers take" in message and "neurons of off 7, half 2" in message
    assert "3 layers are over the limit" in message and "`max_rank`" in message
    assert fitted(target, carried(target, recipe, neurons), neurons, 9).rank == 9  # whoever asks for more gets it
