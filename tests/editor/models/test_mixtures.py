"""Mixtures of experts, and models whose layers are not alike, from their files to their proof.

The references: the live model of transformers with each of its implementations of experts, a plain loop over experts written
here, and the tensors of the files themselves.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support import tiny
from support.hub_layouts import stacked, transposed
from support.mixtures import changed_parts, routing, tensors_of
from support.tiny import IDS, MIXED, MIXTURES, MOVED, TOLERANCE, logits

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.controls import random_plan
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CheckpointError, MalformedError, ModelError, RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, trunk
from monoglot.editor.models.families import FAMILIES
from monoglot.editor.models.identity import Base, Block, ModelInfo
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons as neurons_file
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.proof.bytes import verify_bytes

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        int(transformers.__version__.partition(".")[0]) < 5, reason="experts run in one module from transformers 5 on"
    ),
]

CASES = {name: (name, {}) for name in MIXTURES} | {
    f"{name}, a mixture": (name, config) for name, config in MIXED.items()
}
# Dense, but with layers of two widths, or without a network.
UNEVEN = {
    "gemma4_text, wide": (
        "gemma4_text",
        {"use_double_wide_mlp": True, "num_kv_shared_layers": 2,
         "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"],
         "num_hidden_layers": 5},
    ),
    "gemma3n_text, widths": ("gemma3n_text", {"intermediate_size": [24, 40, 24]}),
    "nemotron_h, no experts": ("nemotron_h", {"hybrid_override_pattern": "M-*-", "num_hidden_layers": 4}),
}  # fmt: skip
EVERY = CASES | UNEVEN
EDITS = {"off": Edit("xx", "deactivate"), "half": Edit("xx", "scale", 0.5)}


def opened(saved: Callable[..., Path], name: str, **more: Any) -> Target:
    model_type, config = EVERY[name]
    return open_target(resolve(str(saved(model_type, **config, **more))))


def pick(target: Target, seed: int = 1, share: float = 0.5) -> Neurons:
    """One to five random neurons in about half of the blocks, and in the first."""
    generator = np.random.default_rng(seed)
    blocks = [
        np.sort(generator.choice(block.width, generator.integers(1, 6), replace=False))
        if number == 0 or generator.random() < share
        else np.zeros(0, np.int64)
        for number, block in enumerate(target.feed_forward.networks)
    ]
    return Neurons({"xx": tuple(blocks)}, {}, model_info(target))


def assert_baked(target: Target, neurons: Neurons, edit: Edit, out: Path) -> None:
    """Baked equals hooked, and by the bytes every chosen block's W_out changed, and nothing else."""
    made = bake(target, neurons, Recipe(Base("tiny"), (edit,)), out)
    model = load_model(target.source.folder, device="cpu")
    before = logits(model)
    with steered(activation_modules(model, target.feed_forward.family), made.carried.plan):
        hooked = logits(model)
    after = logits(load_model(out, device="cpu"))
    assert float((after - hooked).abs().max()) <= TOLERANCE * max(1.0, float(hooked.abs().max()))
    assert float((hooked - before).abs().max()) > MOVED
    chosen = [number for number, own in enumerate(neurons.indices["xx"]) if len(own)]
    expected = {target.feed_forward.outputs[number][1].name for number in chosen}
    assert changed_parts(target.source.folder, out) == expected
    assert len(expected) == len(chosen)
    assert not verify_bytes(out, target, neurons).problems


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("name", EVERY)
def test_baked_equals_hooked_and_only_chosen_blocks_change(
    saved: Callable[..., Path], name: str, edit: Edit, tmp_path: Path
) -> None:
    target = opened(saved, name)
    assert_baked(target, pick(target), edit, tmp_path / "out")


@pytest.mark.parametrize("name", EVERY)
def test_blocks_are_those_of_the_config(saved: Callable[..., Path], name: str) -> None:
    """As many experts as it says, each as wide as it says; dense layers before and between; one width a layer."""
    target = opened(saved, name)
    config = transformers.AutoConfig.from_pretrained(target.source.folder).get_text_config(decoder=True)
    blocks = target.feed_forward.networks
    assert target.feed_forward.layers == config.num_hidden_layers
    assert [block.layer for block in blocks] == sorted(block.layer for block in blocks)
    experts = [block for block in blocks if block.expert]
    layers = {block.layer for block in experts}
    assert {block.layer: 0 for block in experts}.keys() == layers
    for layer in layers:
        assert [block.part for block in experts if block.layer == layer] == [str(e) for e in range(tiny.EXPERTS)]
    assert bool(experts) == (name in CASES)
    if experts:
        wide = getattr(config, "moe_intermediate_size", None)
        assert {block.width for block in experts} == {wide if isinstance(wide, int) else config.intermediate_size}


def test_the_uneven_ones() -> None:
    """The test above reads widths of experts only."""
    assert len(UNEVEN) == 3


def test_layers_of_two_widths_and_without_a_network(saved: Callable[..., Path]) -> None:
    names = {name: [block.name for block in opened(saved, name).feed_forward.networks] for name in UNEVEN}
    widths = {name: [block.width for block in opened(saved, name).feed_forward.networks] for name in UNEVEN}
    assert names["nemotron_h, no experts"] == ["1", "3"]
    assert widths["gemma4_text, wide"] == [24, 24, 24, 48, 48]
    assert widths["gemma3n_text, widths"] == [24, 40, 24]


# --- recording ------------------------------------------------------------------------------------------------------

IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")


def plain(target: Target, layer: int, expert: int, x: torch.Tensor) -> torch.Tensor:
    """a of one expert for the tokens x, (n, d), from the tensors of the file."""
    tensors = tensors_of(target.source.folder)
    located = next(
        (number, each) for number, each in enumerate(target.feed_forward.located)
        if each.block.expert and (each.block.layer, int(each.block.part)) == (layer, expert)
    )  # fmt: skip
    number, each = located
    into = target.feed_forward.name(each.network.into, number)
    weight = tensors[into.partition("[")[0]][expert] if "[" in into else tensors[into]
    bias = tensors.get(target.feed_forward.name(each.network.into, number, "bias").partition("[")[0])
    weight = weight.T if each.network.conv1d else weight
    z = x @ weight.T + (bias[expert] if bias is not None else 0)
    z = z[:, ::2] if each.network.interleaved else z[:, : each.block.width]
    if target.feed_forward.model_type == "gpt_oss":
        z = z.clamp(max=7.0)
        return z * torch.sigmoid(1.702 * z)
    config = transformers.AutoConfig.from_pretrained(target.source.folder).get_text_config(decoder=True)
    name = getattr(config, "mlp_hidden_act", None) or getattr(config, "hidden_act", None)
    name = name or getattr(config, "hidden_activation", "silu")
    return transformers.activations.ACT2FN[name](z)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_recording_is_a_plain_loop_over_experts(saved: Callable[..., Path], name: str, implementation: str) -> None:
    """Active counts, sums and routed tokens of every expert, the first position of each context left out; whatever
    implementation the model was built with computes the same logits with hooks as without."""
    from monoglot.editor.statistics.recorder import Recorder

    target = opened(saved, name)
    model = load_model(target.source.folder, device="cpu")
    decoder = trunk(model)  # which may have it where its wrapper's class has not: Mistral 4's
    (model if model._can_set_experts_implementation() else decoder).set_experts_implementation(implementation)
    assert decoder.config._experts_implementation == implementation
    with routing(model) as seen:
        before = logits(model)
    info, skip = model_info(target), 1
    modules = activation_modules(model, target.feed_forward.family)
    recorder = Recorder(modules, info.width, torch.device("cpu"), blocks=info.blocks)
    with torch.inference_mode(), recorder.attached():
        recorder.start(*IDS.shape, skip)
        trunk(model)(input_ids=IDS, use_cache=False)
        recorder.commit()
    assert float((logits(model) - before).abs().max()) <= TOLERANCE * float(before.abs().max())
    layers = sorted({block.layer for block in info.blocks if block.expert})
    counts, sums = info.split(recorder.active_count), info.split(recorder.total)
    routed_in_all = 0
    for number, block in enumerate(info.blocks):
        if not block.expert:
            continue
        ((hidden, chosen, _),) = seen[layers.index(block.layer)]
        tokens = torch.tensor(
            [t for t in range(len(chosen)) if int(block.part) in chosen[t].tolist()], dtype=torch.int64
        )
        tokens = tokens[tokens % IDS.shape[1] >= skip]
        a = plain(target, block.layer, int(block.part), hidden[tokens])
        assert recorder.routed[number] == len(tokens)
        routed_in_all += len(tokens)
        torch.testing.assert_close(torch.from_numpy(sums[number]), a.double().sum(0), atol=1e-4, rtol=1e-4)
        sure = (a.abs() > 1e-6).all(0).numpy()  # noise does not tell on which side of 0 it is
        assert np.array_equal(counts[number][sure], (a > 0).sum(0).numpy()[sure])
    assert routed_in_all == len(layers) * (IDS.numel() - len(IDS) * skip) * seen[0][0][1].shape[1]


# --- the layouts that files on the Hub have -------------------------------------------------------------------------


def relaid(base: Path, out: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    shutil.copytree(base, out)
    save_file(change(load_file(base / "model.safetensors")), out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.parametrize(("model_type", "change"), [("qwen3_5_moe_text", stacked), ("qwen3_vl_moe_text", transposed)])
def test_the_layout_of_the_hub(
    saved: Callable[..., Path], model_type: str, change: Callable[..., Any], tmp_path: Path
) -> None:
    base = relaid(saved(model_type), tmp_path / "base", change)
    assert torch.equal(logits(load_model(base, device="cpu")), logits(load_model(saved(model_type), device="cpu")))
    target = open_target(resolve(str(base)))
    assert target.feed_forward.networks == open_target(resolve(str(saved(model_type)))).feed_forward.networks
    assert_baked(target, pick(target), EDITS["half"], tmp_path / "out")


def test_layers_that_draft_tokens_are_neither_counted_nor_touched(saved: Callable[..., Path], tmp_path: Path) -> None:
    """DeepSeek V3 and GLM-4.5 files hold such a layer behind the last one."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        more = {
            name.replace(".2.", ".3.", 1): tensor.clone() for name, tensor in tensors.items() if "layers.2." in name
        }
        return tensors | more | {"model.layers.3.eh_proj.weight": torch.ones(tiny.HIDDEN, 2 * tiny.HIDDEN)}

    base = relaid(saved("glm4_moe"), tmp_path / "base", change)
    tiny.edit_config(base, num_nextn_predict_layers=0)
    with pytest.raises(CheckpointError, match="the config says 3 layers, the file has 4"):
        open_target(resolve(str(base)))
    tiny.edit_config(base, num_nextn_predict_layers=1)
    target = open_target(resolve(str(base)))
    assert {block.layer for block in target.feed_forward.networks} == {0, 1, 2}
    assert_baked(target, pick(target), EDITS["off"], tmp_path / "out")


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 4}, "the config says 4 layers, the file has 3"),
        ({"num_experts": 8}, r"the config says 8 experts \(num_experts\), layer 0 has 4"),
        ({"moe_intermediate_size": 16},
         r"the config says 16 neurons an expert \(moe_intermediate_size\), expert 0 of layer 0 has 12"),
    ],
)  # fmt: skip
def test_config_and_file_that_disagree(
    saved: Callable[..., Path], config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert_disagree(saved("qwen3_moe"), config, message, tmp_path)


def assert_disagree(saved: Path, config: dict[str, Any], message: str, folder: Path) -> None:
    base = shutil.copytree(saved, folder / "base")
    tiny.edit_config(base, **config)
    with pytest.raises(CheckpointError, match=message):
        open_target(resolve(str(base)))


@pytest.mark.parametrize("name", [name for name, (_, config) in CASES.items() if not config])
def test_a_config_that_says_another_width_of_experts(saved: Callable[..., Path], name: str, tmp_path: Path) -> None:
    """Whichever key says it in a family; and one that says another width of the network beside them."""
    base = saved(name)
    config = transformers.AutoConfig.from_pretrained(base)
    text, nested = config.get_text_config(decoder=True), config.get_text_config(decoder=True) is not config
    saved_config = json.loads((base / "config.json").read_text())
    own = saved_config["text_config"] if nested else saved_config

    def other(**values: Any) -> dict[str, Any]:
        return {"text_config": {**own, **values}} if nested else values

    key = "moe_intermediate_size" if hasattr(text, "moe_intermediate_size") else "intermediate_size"
    dense = not hasattr(text, "moe_intermediate_size") and any(
        not block.part for block in open_target(resolve(str(base))).feed_forward.networks
    )
    message = "neurons (a layer|an expert)" if dense else "neurons an expert"
    assert_disagree(base, other(**{key: 40}), rf"the config says 40 {message} \({key}\)", tmp_path / "a")
    beside = [key for key, value in own.items() if "shared" in key and value == tiny.SHARED_WIDTH]
    for number, key in enumerate(beside):
        message = rf"the config says 40 neurons beside the experts \({key}\), layer \d has 20"
        assert_disagree(base, other(**{key: 40}), message, tmp_path / str(number))
    assert bool(beside) == (tiny.SHARED_WIDTH in tiny.MIXTURES[name].values())


def test_a_layer_behind_the_last_that_drafts_nothing(saved: Callable[..., Path], tmp_path: Path) -> None:
    """A config that may have layers that draft tokens makes no such layer of a decoder's."""
    message = "the config says 2 layers, the file has 3"
    assert_disagree(saved("deepseek_v3"), {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}, message, tmp_path)


def test_dense_layers_of_a_width_of_their_own(saved: Callable[..., Path]) -> None:
    """In Cohere 2's mixture the config has a key for it."""
    base = saved("cohere2_moe", first_k_dense_replace=1, prefix_dense_intermediate_size=40)
    widths = [block.width for block in open_target(resolve(str(base))).feed_forward.networks]
    assert widths == [40, *[tiny.WIDTH] * tiny.EXPERTS * 2]


def drop(*ends: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith(ends)}


def rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (drop("1.mlp.experts.2.down_proj.weight"), CheckpointError, r"layer 1 has no expert 2 \(3 are there\)"),
        (drop("1.mlp.experts.2.gate_proj.weight"), CheckpointError, r"has no model\.layers\.1\.mlp\.experts\.2\.gate_proj"),
        (drop("1.mlp.experts.3.down_proj.weight", "1.mlp.experts.3.up_proj.weight", "1.mlp.experts.3.gate_proj.weight"),
         CheckpointError, r"the config says 4 experts \(num_(local_)?experts\), layer 1 has 3"),
        (rename(".2.mlp.experts.", ".2.mlp.experts.deep."), CheckpointError, "layer 2 has no|says 3 layers, the file has 2"),
        (lambda tensors: tensors | {"model.layers.1.mlp.experts.extra": torch.ones(2)}, ModelError,
         r"in a layout that qwen3_moe models are not known to have: model\.layers\.1\.mlp\.experts\.extra"),
        (lambda tensors: tensors | {k: v for k, v in stacked(tensors).items() if ".1.mlp.experts." in k}, CheckpointError,
         "are the same network in two layouts"),
    ],
)  # fmt: skip
def test_files_that_do_not_hold_together(
    saved: Callable[..., Path], change: Callable[..., Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    base = relaid(saved("qwen3_moe"), tmp_path / "base", change)
    with pytest.raises(error, match=message):
        open_target(resolve(str(base)))


@pytest.mark.parametrize("projection", ["gate_proj", "up_proj"])
@pytest.mark.parametrize("network", ["0.mlp", "1.mlp.shared_experts"])
def test_a_network_that_lacks_a_projection(
    saved: Callable[..., Path], network: str, projection: str, tmp_path: Path
) -> None:
    """Also where it is none of an expert: dense, or beside them."""
    base = relaid(saved("deepseek_v3"), tmp_path / "base", drop(f"{network}.{projection}.weight"))
    with pytest.raises(CheckpointError, match=rf"has no model\.layers\.{network}\.{projection}\.weight\. Download"):
        open_target(resolve(str(base)))


def test_an_expert_that_is_missing_in_one_shard(saved: Callable[..., Path], tmp_path: Path) -> None:
    """From the shard and from the index, so that nothing but the experts' numbers tells."""
    base = shutil.copytree(saved("qwen3_moe", shards=True), tmp_path / "base")
    index = json.loads((base / "model.safetensors.index.json").read_text())
    gone = [name for name in index["weight_map"] if ".2.mlp.experts.1." in name]
    assert len(gone) == 3
    for name in gone:
        file = base / index["weight_map"].pop(name)
        tensors = load_file(file)
        del tensors[name]
        save_file(tensors, file, metadata={"format": "pt"})
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        CheckpointError, match=r"layer 2 has no expert 1 \(3 are there\)\. A shard is missing or damaged"
    ):
        open_target(resolve(str(base)))


@pytest.mark.parametrize("op", ["pin", "add", "shift"])
def test_constants_are_refused_without_biases(saved: Callable[..., Path], op: str) -> None:
    from monoglot.editor.edits.carriers import carried

    target = opened(saved, "qwen3_moe")
    blocks = target.feed_forward.networks
    neurons = pick(target)
    values = {"mean": {"xx": tuple(np.ones(len(own)) for own in neurons.indices["xx"])}}
    with pytest.raises(
        RecipeError, match=r"can hold no constants: its experts have no biases.* Use deactivate or scale"
    ):
        carried(target, Recipe(Base("tiny"), (Edit("xx", op, 1.0, "mean"),)), Neurons(neurons.indices, values))
    assert len(blocks) == 12


@pytest.mark.parametrize("op", ["pin", "add", "shift"])
def test_gpt_oss_holds_constants_in_its_own_biases(saved: Callable[..., Path], op: str, tmp_path: Path) -> None:
    """Gate and up are interleaved there, and a neuron's output is act(gate)·(up + 1)."""
    target = opened(saved, "gpt_oss")
    generator = np.random.default_rng(3)
    drawn = [generator.permutation(block.width) for block in target.feed_forward.networks]
    indices = {"xx": tuple(np.sort(own[:3]) for own in drawn), "off": tuple(np.sort(own[3:8]) for own in drawn)}
    values = {"mean": {k: tuple(generator.uniform(0.4, 1.5, len(n)) for n in own) for k, own in indices.items()}}
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"), Edit("xx", op, 1.5, "mean")))
    made = bake(target, Neurons(indices, values), recipe, tmp_path / "out")
    assert made.carried.carrier == "native"
    model = load_model(target.source.folder, device="cpu")
    before = logits(model)
    with steered(activation_modules(model, target.feed_forward.family), made.carried.plan):
        hooked = logits(model)
    after = logits(load_model(tmp_path / "out", device="cpu"))
    assert float((after - hooked).abs().max()) <= TOLERANCE * float(hooked.abs().max())
    assert float((before - hooked).abs().max()) > MOVED


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deepseek_v3", "nemotron_h", "gemma4_text, wide", "qwen3_moe"])
def test_neurons_of_blocks_come_back(saved: Callable[..., Path], name: str, tmp_path: Path) -> None:
    target = opened(saved, name)
    found = pick(target)
    values = {"mean": {"xx": tuple(np.arange(len(own)) + 0.5 for own in found.indices["xx"])}}
    spare = tuple(np.arange(min(2, len(own))) for own in found.indices["xx"])
    neurons_file.save(Neurons(found.indices, values, found.model, {}, spare), tmp_path / "neurons.json")
    again = neurons_file.load(tmp_path / "neurons.json")
    assert again.model == model_info(target)
    for one, two in ((found.indices["xx"], again.indices["xx"]), (values["mean"]["xx"], again.values["mean"]["xx"])):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(spare, again.spare, strict=True))
    data = json.loads((tmp_path / "neurons.json").read_text())
    names = {
        block.name for block, own in zip(target.feed_forward.networks, found.indices["xx"], strict=True) if len(own)
    }
    assert set(data["languages"]["xx"]) == names


def test_runs_of_experts_are_written_as_one() -> None:
    blocks = (Block(0, 24), Block(1, 20, "shared"), *(Block(1, 12, str(e)) for e in range(4)), Block(2, 24))
    info = ModelInfo("m", None, "t", 3, 24, "f", blocks)
    assert info.to_data()["blocks"] == [["0", 24], ["1.shared", 20], ["1.0-3", 12], ["2", 24]]
    assert ModelInfo.of_data(json.loads(json.dumps(info.to_data()))) == info
    assert info.shape == (24 + 20 + 48 + 24,)
    assert "blocks" not in ModelInfo("m", None, "t", 3, 24, "f").to_data()


@pytest.mark.parametrize(
    "blocks",
    [
        [["0", 0]],
        [["x", 1]],
        [["1", 24], ["0", 24]],
        [["0", 24], ["0", 24]],
        [["9", 24]],
        [["0.0-99999", 24]] * 20,
        7,
    ],
)
def test_blocks_that_are_none_are_refused(blocks: Any) -> None:
    data = {
        "name": "m",
        "revision": None,
        "model_type": "t",
        "layers": 3,
        "width": 24,
        "fingerprint": "f",
        "blocks": blocks,
    }
    with pytest.raises(MalformedError, match=r"model\.blocks"):
        ModelInfo.of_data(data)


def test_random_neurons_are_drawn_in_each_block(saved: Callable[..., Path]) -> None:
    target = opened(saved, "deepseek_v3")
    from monoglot.editor.edits.carriers import carried

    plan = carried(target, Recipe(Base("tiny"), (EDITS["off"],)), pick(target)).plan
    control = random_plan(plan, target.feed_forward.width, blocks=target.feed_forward.blocks)
    for own, drawn, block in zip(plan.layers, control.layers, target.feed_forward.networks, strict=True):
        assert len(drawn.neurons) == len(own.neurons)
        assert not len(drawn.neurons) or drawn.neurons[-1] < block.width
        assert not set(own.neurons) & set(drawn.neurons)


def by_hand(name: str, seed: int = 0) -> Any:
    """Statistics of three blocks, a dense one and two experts, of two languages; the second expert was given 3 tokens of
    text in `zh`."""
    from monoglot.editor.statistics.statistics import Statistics

    blocks = (Block(0, 6), Block(1, 4, "0"), Block(1, 4, "1"))
    info = ModelInfo(name, None, "qwen3_moe", 2, 6, "f" * 64, blocks)
    routed = {"en": np.array([1000, 700, 300]), "zh": np.array([1000, 997, 3])}
    generator = np.random.default_rng(seed)
    tokens = {language: np.repeat(each, [6, 4, 4]) for language, each in routed.items()}
    active = {language: (generator.random(14) * each).astype(np.int64) for language, each in tokens.items()}
    total = {language: generator.normal(0, 1, 14) * each for language, each in tokens.items()}
    return Statistics(info, {"en": 1000, "zh": 1000}, active, total, {"en": ("a",), "zh": ("b",)}, {}, routed=routed)


def test_both_probabilities_are_kept(tmp_path: Path) -> None:
    from monoglot.editor.statistics import statistics

    made = by_hand("m")
    statistics.save(made, tmp_path / "s")
    again = statistics.load(tmp_path / "s")
    assert again.model == made.model
    given, joint = again.probability("zh"), again.probability("zh", routed=False)
    assert np.array_equal(given[-4:], made.active_count["zh"][-4:] / 3)
    assert np.array_equal(joint[-4:], made.active_count["zh"][-4:] / 1000)
    assert np.array_equal(given[:6], joint[:6])
    assert np.array_equal(again.mean("zh")[-4:], made.total["zh"][-4:] / 3)
    twice = statistics.merge([made, replace(by_hand("m", 1), texts={"en": ("c",), "zh": ("d",)})])
    assert twice.routed is not None
    assert twice.routed["zh"].tolist() == [2000, 1994, 6]


def test_experts_that_were_given_too_few_tokens_are_left_out_and_named() -> None:
    from monoglot.editor.neurons.find import find

    made = by_hand("m")
    found = find(made, "lape", rate=0.3, quantile=0.5)
    assert found.method["left_out"] == ["1.1"]
    assert found.method["probability"] == "of the expert's tokens"
    assert all(not len(found.indices[language][2]) for language in ("en", "zh"))
    assert any(len(found.indices[language][1]) for language in ("en", "zh"))
    joint = find(made, "lape", rate=0.3, quantile=0.5, joint=True)
    assert (joint.method["left_out"], joint.method["probability"]) == ([], "of all tokens")
    p = np.stack([made.active_count[language] / 1000 for language in ("en", "zh")])  # by hand, on all tokens
    share = p / np.maximum(p.sum(0), 1e-300)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(0)
    bar = np.sort(p.ravel())[round(0.5 * p.size) - 1]
    candidates = [j for j in np.argsort(np.round(entropy, 12), kind="stable") if (p[:, j] > bar).any()][
        : round(0.3 * 14)
    ]
    expected = {(k, int(j)) for j in candidates for k in range(2) if p[k, j] > bar}
    starts = [0, 6, 10]
    got = {
        (k, starts[number] + int(j))
        for k, language in enumerate(("en", "zh")) for number, own in enumerate(joint.indices[language]) for j in own
    }  # fmt: skip
    assert got == expected


@pytest.mark.parametrize("model_type", ["qwen3_moe", "deepseek_v3", "nemotron_h", "gemma4_text, wide"])
def test_from_text_to_proof(
    monoglot: Callable[..., Any], saved: Callable[..., Path], corpus: Path, model_type: str, tmp_path: Path
) -> None:
    """Each step by its command: detect, find, bake, verify, inspect."""
    name, config = EVERY[model_type]
    base = saved(name, tokenizer=True, **config)
    found, neurons, out = tmp_path / "s", tmp_path / "n.json", tmp_path / "out"
    monoglot("detect", base, "--corpus", corpus, "--tokens", "1500", "--context", "32", "-o", found)
    monoglot("find", found, "--rate", "0.05", "-o", neurons)
    monoglot("bake", base, neurons, "--deactivate", "zh", "--shared", "edit", "-o", out)
    code, said, _ = monoglot("verify", out, "--base", base, "--corpus", corpus, "--tokens", "128", "--context", "32")
    assert code == 0, said
    record = json.loads((out / "monoglot.json").read_text())
    assert record["certificate"]["bytes"]["passed"]
    assert record["certificate"]["logits"]["passed"]
    assert f"{record['base']['networks']:,} networks up to" in " ".join(monoglot("inspect", base)[1].split())
    assert "networks up to" in (out / "README.md").read_text()


def test_every_mixture_of_the_table_is_here() -> None:
    listed = {name for family in FAMILIES if any(n.part for n in family.networks) for name in family.model_types}
    assert listed == {*MIXTURES, *MIXED}


def test_a_mixture_in_floats_that_calls_itself_quantised_is_refused(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", "qwen3_moe", tokenizer=False)
    tiny.edit_config(folder, quantization_config={"quant_method": "fp8"})
    with pytest.raises(CheckpointError, match=r"is quantised \(fp8\): config\.json says fp8 .* in the file it is F32"):
        open_target(resolve(str(folder)))
