"""Mixtures in the layouts of published files: opened, recorded, baked and loaded; exactly the chosen neurons' bytes change.

The references know nothing of the table of families: names of tensors and axes of neurons are those that
`support.hub_layouts` has, written down by hand, and the tensors are read by safetensors.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import tiny
from support.hub_layouts import LAYOUTS, Layout, Place, as_on_the_hub
from support.mixtures import tensors_of
from support.tiny import IDS, MIXED, MIXTURES, MOVED, TOLERANCE, logits

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, trunk
from monoglot.editor.models.families import text_config
from monoglot.editor.models.identity import Base, Block
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.statistics.recorder import Recorder

pytestmark = pytest.mark.usefixtures("one_thread")
EDITS = {"off": (Edit("xx", "deactivate"), 0.0), "half": (Edit("xx", "scale", 0.5), 0.5)}


@pytest.fixture(scope="module")
def published(saved: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family in the Hub's layout, made once."""
    tiny.need_5("experts run in one module from transformers 5 on")
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            layout = LAYOUTS[name]
            base = saved(layout.model_type, **layout.config)
            made[name] = as_on_the_hub(base, layout, tmp_path_factory.mktemp("hub") / name)
        return made[name]

    return make


def place_of(layout: Layout, block: Block) -> Place:
    place = layout.experts if block.expert else layout.shared if block.part else layout.dense
    assert place is not None, f"{block} should not be there"
    return place


def weights(tensors: dict[str, torch.Tensor], layout: Layout, block: Block) -> torch.Tensor:
    """W_out of a block, a row a neuron, by the names that the layout says."""
    place = place_of(layout, block)
    tensor = tensors[place.name.format(l=block.layer, e=block.part)]
    if block.expert and "{e}" not in place.name:
        tensor = tensor[int(block.part)]
    return tensor.movedim(place.axis, 0)


def pick(target: Target, seed: int) -> Neurons:
    """One to five neurons in about half of the blocks, and in every expert, shared and dense network of some layer."""
    generator = np.random.default_rng(seed)
    seen: set[str] = set()
    own = []
    for block in target.feed_forward.networks:
        chosen = block.part not in seen or generator.random() < 0.5
        seen.add(block.part)
        count = generator.integers(1, 6) if chosen else 0
        own.append(np.sort(generator.choice(block.width, count, replace=False)))
    return Neurons({"xx": tuple(own)}, {}, model_info(target))


def recorded(folder: Path) -> Iterator[Any]:
    target = open_target(resolve(str(folder)))
    model = load_model(folder, device="cpu")
    info = model_info(target)
    modules = activation_modules(model, target.feed_forward.family)
    recorder = Recorder(modules, info.width, torch.device("cpu"), blocks=info.blocks)
    with torch.inference_mode(), recorder.attached():
        recorder.start(*IDS.shape, 1)
        trunk(model)(input_ids=IDS, use_cache=False)
        recorder.commit()
    yield from (recorder.active_count, recorder.total, recorder.routed)


def test_every_mixture_has_its_layout() -> None:
    """Rows are named for the family; of some the whole model too, in its wrapper."""
    assert LAYOUTS.keys() - {"qwen3_5_moe", "kimi_k25"} == {*MIXTURES, *MIXED}


@pytest.mark.parametrize("name", LAYOUTS)
def test_files_of_the_hub_are_the_same_model(
    published: Callable[[str], Path], saved: Callable[..., Path], name: str
) -> None:
    """What transformers loads of them is the model that it saved, and so are the networks and what is recorded of them."""
    layout, folder = LAYOUTS[name], published(name)
    base = saved(layout.model_type, **layout.config)
    assert torch.equal(logits(load_model(folder, device="cpu")), logits(load_model(base, device="cpu")))
    target = open_target(resolve(str(folder)))
    tensors = tensors_of(folder)
    blocks = target.feed_forward.networks
    for block in blocks:
        assert weights(tensors, layout, block).shape == (block.width, tiny.HIDDEN)
    experts = {(block.layer, int(block.part)) for block in blocks if block.expert}
    layers = {layer for layer, _ in experts}
    assert experts == {(layer, expert) for layer in layers for expert in range(tiny.EXPERTS)}
    layers_said = text_config(target.checkpoint.config).get("num_hidden_layers", 6)  # nemotron_h: its pattern's letters
    assert {block.layer for block in blocks} <= set(range(layers_said))
    for here, there in zip(recorded(folder), recorded(base), strict=True):
        assert np.array_equal(here, there)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_exactly_the_chosen_neurons_bytes_change(
    published: Callable[[str], Path], name: str, edit: str, tmp_path: Path
) -> None:
    """Of every chosen expert, shared and dense network, and of nothing else: not a neighbour, not a draft head, not a tower.
    And transformers computes with it what the hooks do."""
    layout, base, out = LAYOUTS[name], published(name), tmp_path / "out"
    target = open_target(resolve(str(base)))
    neurons, (asked, factor) = pick(target, len(name)), EDITS[edit]
    made = bake(target, neurons, Recipe(Base("tiny"), (asked,)), out)

    expected, after = tensors_of(base), tensors_of(out)  # what the tensors should be, by hand
    for block, own in zip(target.feed_forward.networks, neurons.indices["xx"], strict=True):
        rows = weights(expected, layout, block)
        before = rows[own].clone()
        rows[own] = before * factor
        assert not len(own) or not torch.equal(rows[own], before)
    assert expected.keys() == after.keys()
    assert [each for each in expected if not torch.equal(expected[each], after[each])] == []
    for file in base.glob("*.safetensors"):  # each where it was
        assert load_file(file).keys() == load_file(out / file.name).keys()
    assert not verify_bytes(out, target, neurons).problems

    model = load_model(base, device="cpu")
    unsteered = logits(model)
    with steered(activation_modules(model, target.feed_forward.family), made.carried.plan):
        hooked = logits(model)
    found = logits(load_model(out, device="cpu"))
    assert float((found - hooked).abs().max()) <= TOLERANCE * max(1.0, float(hooked.abs().max()))
    assert float((hooked - unsteered).abs().max()) > MOVED
