"""Neurons switched off in quantised checkpoints, from the recipe to the files: bytes, proof, and the model that runs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import packed_models
from support.packed_models import HIDDEN, LAYERS, WIDTH, changed_bytes
from support.redirected import REDIRECTS, TEXTS, vocabulary_of

from monoglot.editor import describe
from monoglot.editor.edits import manifest
from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.redirect import redirection
from monoglot.editor.edits.token_hooks import redirected
from monoglot.editor.errors import MonoglotError, RecipeError
from monoglot.editor.files import streams
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, layer_modules
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import NONE, Neurons
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.proof.rebuild import open_base, rebuild
from monoglot.editor.statistics.residual import Residual
from monoglot.editor.statistics.vocabulary import Vocabulary

OFF = [[0, 3, 4, 77, 127], [5, 64, 65]]
IDS = torch.tensor([[5, 17, 200, 3, 42, 99, 250, 11], [9, 9, 120, 77, 31, 2, 66, 280]])
EACH = (
    "gptq-3-act-order", "gptq-4", "gptq-8-v2", "awq", "ct-int4-group-asymmetric", "ct-int8-tensor", "ct-w8a8-asymmetric",
    "fp8-blocks", "fp8-scalar", "fp8-mxfp8", "fp8-fbgemm", "fp8-ct-channel", "fp4-nvfp4", "fp4-mxfp4", "fp4-modelopt",
    "fp4-deepseek", "bnb-nf4-nested", "bnb-fp4", "bnb-int8", "hqq-4", "mlx-5", "torchao-Float8Tensor",
    "torchao-IntxUnpackedToInt8Tensor", "torchao-Int4Tensor",
)  # fmt: skip
NO_COLUMNS = ("hqq", "mlx", "torchao-Int4")


def neurons() -> Neurons:
    indices = {"zh": tuple(np.array(layer, np.int64) for layer in OFF)}
    return Neurons(indices, {"mean": {"zh": tuple(np.ones(len(layer)) for layer in OFF)}})


def target_of(folder: Path) -> Target:
    return open_target(resolve(str(folder)))


def recipe(target: Target, op: str = "deactivate", **more: Any) -> Recipe:
    return Recipe(target.base, (Edit("zh", op, **more),))


def baked(packed: Path, out: Path) -> tuple[Target, Baked]:
    target = target_of(packed)
    return target, bake(target, neurons(), recipe(target), out)


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("name", EACH)
def test_a_quantised_model_is_read_and_switched_off_exactly(tmp_path: Path, name: str) -> None:
    packed, twin = packed_models.save(tmp_path, name)
    target, made = baked(packed, tmp_path / "out")
    assert target.quantised and made.manifest.quantised == target.quantised
    assert manifest.read(tmp_path / "out").to_data() == made.manifest.to_data()
    proved = verify_bytes(tmp_path / "out", target, neurons())
    assert not proved.problems and proved.columns > 0
    assert all(".up_proj." in tensor for tensor in changed_bytes(packed, tmp_path / "out"))
    base, ours, floats = (load_model(folder) for folder in (packed, tmp_path / "out", twin))
    torch.testing.assert_close(logits(base), logits(floats), rtol=1e-4, atol=1e-4)
    modules = activation_modules(base, target.feed_forward.family)
    with steered(modules, made.carried.plan):
        hooked = logits(base)
    assert torch.equal(logits(ours), hooked)
    assert (logits(base) - hooked).abs().max() > 1e-3


@pytest.mark.parametrize(
    "name", ["gptq-4", "awq", "ct-int4-group", "fp8-blocks", "bnb-nf4", "hqq-4", "torchao-Int8Tensor"]
)
@pytest.mark.parametrize("model_type", ["phi3", "gpt_neox"])
def test_fused_and_plain_networks(tmp_path: Path, name: str, model_type: str) -> None:
    packed, _ = packed_models.save(tmp_path, name, model_type)
    target, made = baked(packed, tmp_path / "out")
    assert not verify_bytes(tmp_path / "out", target, neurons()).problems
    touched = changed_bytes(packed, tmp_path / "out")
    if model_type == "gpt_neox":
        rows = name.startswith(NO_COLUMNS)
        assert all((".dense_h_to_4h." in tensor) == rows for tensor in touched)
        assert rows == any(tensor.endswith(".dense_h_to_4h.bias") for tensor in touched)
    base, ours = load_model(packed), load_model(tmp_path / "out")
    with steered(activation_modules(base, target.feed_forward.family), made.carried.plan):
        hooked = logits(base)
    assert torch.equal(logits(ours), hooked)
    assert (logits(base) - hooked).abs().max() > 1e-3


CONSTANT = {"strength": 1.0, "value": "mean"}


@pytest.mark.parametrize(
    ("op", "more"), [("pin", CONSTANT), ("add", CONSTANT), ("shift", CONSTANT), ("scale", {"strength": 0.5})]
)
def test_everything_else_is_refused_with_the_reason(tmp_path: Path, op: str, more: dict[str, Any]) -> None:
    packed, _ = packed_models.save(tmp_path, "gptq-4")
    target = target_of(packed)
    with pytest.raises(RecipeError, match=r"quantised \(GPTQ \(4 bits, groups of 32\)\): only deactivate is exact"):
        bake(target, neurons(), recipe(target, op, **more), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_were_left_in_floats_are_edited_as_ever(tmp_path: Path) -> None:
    packed, _ = packed_models.save(
        tmp_path, "ct-int4-group", plain_layers=[0], settings=lambda own: {**own, "ignore": [r"re:.*layers\.0\.mlp"]}
    )
    target, _ = baked(packed, tmp_path / "out")
    assert not verify_bytes(tmp_path / "out", target, neurons()).problems
    touched = changed_bytes(packed, tmp_path / "out")
    assert sorted(touched) == [
        "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.up_proj.bias", "model.layers.1.mlp.up_proj.weight_scale",
    ]  # fmt: skip
    columns = {offset % (WIDTH * 4) // 4 for offset in touched["model.layers.0.mlp.down_proj.weight"]}
    assert columns == set(OFF[0])
    scaled = bake(target, neurons(), recipe(target, "scale", strength=0.5, layers=(0, 0)), tmp_path / "scaled")
    assert scaled.carried.plan.size == len(OFF[0])
    with pytest.raises(RecipeError, match="only deactivate is exact"):
        bake(target, neurons(), recipe(target, "scale", strength=0.5), tmp_path / "both")


@pytest.mark.parametrize("chunk", [streams.CHUNK, 100])
def test_the_proof_sees_a_byte_more_and_a_byte_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(streams, "CHUNK", chunk)
    packed, _ = packed_models.save(tmp_path, "bnb-nf4")
    target, _ = baked(packed, tmp_path / "out")
    assert not verify_bytes(tmp_path / "out", target, neurons()).problems
    shard = read_checkpoint(tmp_path / "out", quantised=True).shards[0]
    up = next(tensor for tensor in shard.tensors if tensor.name == "model.layers.1.mlp.up_proj.weight")
    whole = shard.path.read_bytes()
    row = OFF[1][0] * packed_models.HIDDEN // 2
    for offset in (row + 1, row - 1):
        broken = bytearray(whole)
        broken[up.begin + offset] ^= 0x10
        shard.path.write_bytes(broken)
        problems = verify_bytes(tmp_path / "out", target, neurons()).problems
        assert any(f"{up.name}: byte {offset:,} is not what the recipe makes of it" in problem for problem in problems)
    other = next(tensor for tensor in shard.tensors if tensor.name.endswith("0.mlp.down_proj.weight.absmax"))
    broken = bytearray(whole)
    broken[other.begin] ^= 1
    shard.path.write_bytes(broken)
    problems = verify_bytes(tmp_path / "out", target, neurons()).problems
    assert any(f"{other.name} changed, which the recipe doesn't touch" in problem for problem in problems)


def test_made_again_it_is_the_same(tmp_path: Path) -> None:
    packed, _ = packed_models.save(tmp_path, "awq")
    target, _ = baked(packed, tmp_path / "out")
    base = open_base(manifest.read(tmp_path / "out"), str(packed), beside=tmp_path / "out")
    assert base.fingerprint == target.fingerprint and base.quantised == target.quantised
    again = rebuild(tmp_path / "out", base, tmp_path / "again")
    assert not again.differ and "model.safetensors" in again.same


def test_what_inspect_says(tmp_path: Path) -> None:
    packed, _ = packed_models.save(tmp_path, "fp8-ct-channel")
    found = describe.of_model(resolve(str(packed)))
    form = "compressed-tensors float-quantized (8 bits, a scale for each row)"
    assert found["editable"] and found["quantised"] == form and (found["layers"], found["width"]) == (LAYERS, WIDTH)
    assert [op for op, why in found["operations"].items() if not why] == ["deactivate", "redirect", "vector"]
    assert form in found["operations"]["pin"]
    assert [name for name, why in found["carriers"].items() if not why] == ["native"] == [found["carrier"]]


@pytest.mark.parametrize("name", ["gptq-4", "fp8-blocks", "bnb-nf4", "mlx-4"])
@pytest.mark.parametrize("model_type", ["phi3", "gpt_neox"])
def test_what_inspect_offers_works(tmp_path: Path, name: str, model_type: str) -> None:
    """Token embeddings are plain tensors: their rows are moved, and nothing else."""
    packed, _ = packed_models.save(tmp_path, name, model_type)
    target = target_of(packed)
    found = describe.of_model(resolve(str(packed)))["operations"]
    assert found["redirect"] is None and found["vector"] is None
    table = open_embedding(target).tensor.name
    vocabulary = vocabulary_of(target)
    weight = load_model(packed).get_input_embeddings().weight.detach()
    english, french, chinese = (weight[torch.from_numpy(TEXTS[each])].mean(0) for each in ("en", "fr", "zh"))
    vector = Edit("fr", "vector", 2.0, point="embedding")
    for number, edits in enumerate((REDIRECTS, (vector,))):
        out = tmp_path / f"out{number}"
        bake(target, NONE, Recipe(target.base, edits), out, vocabulary=vocabulary)
        assert set(changed_bytes(packed, out)) == {table}
        assert not verify_bytes(out, target, NONE).problems
        base = load_model(packed)
        plain = logits(base)
        if edits == REDIRECTS:
            with redirected(base.get_input_embeddings(), redirection(edits, vocabulary)):
                hooked = logits(base)
        else:
            value = 2 * (french - (english + chinese) / 2)
            base.get_input_embeddings().register_forward_hook(lambda _, __, made, value=value: made + value)
            hooked = logits(base)
        torch.testing.assert_close(logits(load_model(out)), hooked, rtol=1e-5, atol=1e-4)
        assert (hooked - plain).abs().max() > 1e-2


def with_means(target: Target) -> Vocabulary:
    """Counts of tokens, and means of a residual stream that no one recorded."""
    centres = np.random.default_rng(3).normal(0, 0.3, (3, LAYERS, HIDDEN)).astype(np.float32)
    return replace(vocabulary_of(target), residual=Residual(centres, np.array([0.5, 0.8])))


@pytest.mark.parametrize(("name", "model_type"), [("gptq-4", "llama"), ("bnb-nf4", "gpt_neox")])
def test_a_vector_after_a_layer_lives_in_its_bias(tmp_path: Path, name: str, model_type: str) -> None:
    packed, _ = packed_models.save(tmp_path, name, model_type)
    target = target_of(packed)
    vocabulary = with_means(target)
    edit = Edit("fr", "vector", 1.5, point=1)
    bake(target, NONE, Recipe(target.base, (edit,)), tmp_path / "out", vocabulary=vocabulary)
    out = target.feed_forward.located[1].network.out
    assert set(changed_bytes(packed, tmp_path / "out")) == {target.feed_forward.name(out, 1, "bias")}
    assert not verify_bytes(tmp_path / "out", target, NONE).problems
    assert vocabulary.residual is not None
    value = torch.from_numpy(1.5 * vocabulary.residual.vector(vocabulary.languages.index("fr"), 1)).float()
    base = load_model(packed)
    plain = logits(base)
    layer = layer_modules(base, target.feed_forward.family)[1]
    layer.register_forward_hook(
        lambda _, __, made: (made[0] + value, *made[1:]) if isinstance(made, tuple) else made + value
    )
    torch.testing.assert_close(logits(load_model(tmp_path / "out")), logits(base), rtol=1e-5, atol=1e-4)
    assert (logits(base) - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("carrier", "reason"),
    [
        ("auto", "layer 1 .* quantised .* has no bias at its output, so nothing there can hold a vector exactly"),
        ("flag", "can hold no constants by flag: its weights are quantised"),
        ("llama", "can hold no constants by llama: its weights are quantised"),
        ("calibrated", "can hold no constants by calibrated: its weights are quantised"),
    ],
)
@pytest.mark.parametrize("name", ["awq", "fp8-blocks"])
def test_a_quantised_neuron_holds_no_vector(tmp_path: Path, name: str, carrier: str, reason: str) -> None:
    packed, _ = packed_models.save(tmp_path, name, "phi3")
    target = target_of(packed)
    asked = Recipe(target.base, (Edit("fr", "vector", 1.5, point=1),), carrier=carrier)
    with pytest.raises(RecipeError, match=reason):
        bake(target, NONE, asked, tmp_path / "out", vocabulary=with_means(target))
    assert not (tmp_path / "out").exists()


def test_a_table_of_codes_is_offered_for_nothing(tmp_path: Path) -> None:
    packed, _ = packed_models.save(tmp_path, "gptq-4", "phi3")
    shard = packed / "model.safetensors"
    tensors = load_file(shard)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].to(torch.int8)
    save_file(tensors, shard, {"format": "pt"})
    found = describe.of_model(resolve(str(packed)))["operations"]
    assert [op for op, why in found.items() if not why] == ["deactivate"]
    assert "table of token embeddings is not stored as floats" in found["redirect"]
    target = target_of(packed)
    with pytest.raises(RecipeError, match=r"then quantise the result\.$"):
        bake(target, neurons(), recipe(target, "pin", **CONSTANT), tmp_path / "out")


def test_a_config_that_is_of_another_model(tmp_path: Path) -> None:
    packed, twin = packed_models.save(tmp_path, "gptq-4")
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"]["bits"] = 8
    shutil.copytree(packed, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(MonoglotError, match=r"config\.json says gptq \(bits 8, group_size 32"):
        target_of(tmp_path / "other")
    shutil.copytree(twin, tmp_path / "floats")
    (tmp_path / "floats" / "config.json").write_text((packed / "config.json").read_text())
    with pytest.raises(MonoglotError, match="should have qweight; the file has bias F32"):
        target_of(tmp_path / "floats")
    shutil.copytree(packed, tmp_path / "silent")
    (tmp_path / "silent" / "config.json").write_text((twin / "config.json").read_text())
    with pytest.raises(MonoglotError, match=r"has no layers\.\*\.mlp\.down_proj\.weight"):
        target_of(tmp_path / "silent")


def test_an_index_of_the_one_file_is_read(tmp_path: Path) -> None:
    """As mlx-lm writes it."""
    packed, _ = packed_models.save(tmp_path, "mlx-4")
    names = [tensor.name for _, tensor in read_checkpoint(packed, quantised=True).tensors()]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    (packed / "model.safetensors.index.json").write_text(json.dumps(index))
    target, _ = baked(packed, tmp_path / "out")
    assert not verify_bytes(tmp_path / "out", target, neurons()).problems
    assert (tmp_path / "out" / "model.safetensors.index.json").read_bytes() == (
        packed / "model.safetensors.index.json"
    ).read_bytes()
