"""The files of a baked checkpoint: their names, headers, index and config, and the shard of new biases.

What biases there should be is asked of transformers: it is given the baked config and builds the model.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import tiny
from support.tiny import CASES, EXACT, logits

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Recipe
from monoglot.editor.files.checkpoint import INDEX, read_checkpoint
from monoglot.editor.live.load import load_model
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

pytestmark = pytest.mark.usefixtures("one_thread")


ONE_EACH = [("llama", "flag"), ("phi3", "llama"), ("gpt2", "native"), ("glm4", "calibrated")]


def baked(base: Path, recipe: Recipe, out: Path) -> Path:
    target = open_target(resolve(str(base)))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    bake(target, neurons, recipe, out)
    return out


def new_shard(folder: Path) -> Path:
    return max(folder.glob("model-*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("op", ["pin", "add", "shift"])
@pytest.mark.parametrize("case", [*EXACT["flag"], *EXACT["llama"]])
def test_the_new_shard_holds_the_biases_that_transformers_creates(
    saved: Callable[..., Path], case: str, op: str, tmp_path: Path
) -> None:
    """All of them in the base's dtype, and numbers only where a neuron of the plan has its place."""
    model_type, config = CASES[case]
    base = saved(model_type, **config, dtype="bfloat16")
    carrier = "flag" if case in EXACT["flag"] else "llama"
    out = baked(base, tiny.recipe(op, carrier), tmp_path / "out")
    built = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(out))
    needed = {name: tensor.shape for name, tensor in built.state_dict().items() if name.endswith(".bias")}
    had = set(load_file(base / "model.safetensors"))
    made = load_file(new_shard(out))
    assert {name: bias.shape for name, bias in made.items()} == {k: v for k, v in needed.items() if k not in had}
    assert {bias.dtype for bias in made.values()} == {torch.bfloat16}
    target = open_target(resolve(str(base)))
    gated, width = target.feed_forward.family.gated, target.feed_forward.width
    neurons = tiny.to_steer(target.feed_forward.layers, width)
    own, value = neurons.indices["xx"], neurons.values["mean"]["xx"]
    for layer in range(tiny.LAYERS):
        prefix = next(name for name in made if f".{layer}." in name).split(f".{layer}.")[0] + f".{layer}."
        biases = {name.removeprefix(prefix): bias for name, bias in made.items() if name.startswith(prefix)}
        filled = {name: bias.nonzero().flatten().tolist() for name, bias in biases.items() if bias.any()}
        held = sorted(own[layer][value[layer] != 0].tolist())
        network = "feed_forward" if model_type in ("bamba", "falcon_h1") else "mlp"
        first = (
            f"{network}.gate_proj.bias"
            if gated
            else "mlp.up_proj.bias"
            if model_type != "falcon"
            else "mlp.dense_h_to_4h.bias"
        )
        last = "mlp.dense_4h_to_h.bias" if model_type == "falcon" else f"{network}.down_proj.bias"
        if op == "add" and gated:
            held = sorted(set(neurons.indices["off"][layer]) - set(own[layer]))[: len(held)]  # the slots
        elif op == "add":
            first, held = last, list(range(target.feed_forward.hidden))
        assert filled == {first: held}
        if op == "shift":
            numbers = torch.from_numpy(1.5 * value[layer][value[layer] != 0]).to(torch.bfloat16)
            assert torch.equal(biases[first][held], numbers)


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("case", ["llama", "falcon", "qwen2", "phi3"])
def test_names_and_index(saved: Callable[..., Path], case: str, shards: bool, tmp_path: Path) -> None:
    """Files are named as transformers names them, with no plain model.safetensors beside the index, which knows every
    tensor, the size of all, and what else the base's said."""
    base = tmp_path / "base"
    shutil.copytree(saved(case, shards=shards), base)
    if shards:
        index = json.loads((base / INDEX).read_text())
        parameters = index["metadata"]["total_parameters"]
        (base / INDEX).write_text(json.dumps(index | {"metadata": index["metadata"] | {"note": "é"}}))
    carrier = "flag" if case in EXACT["flag"] else "llama"
    out = baked(base, tiny.recipe("shift", carrier), tmp_path / "out")
    count = len(list(base.glob("*.safetensors"))) + 1
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    assert sorted(path.name for path in out.glob("*.safetensors*")) == [*names, INDEX]
    held = {}
    for name in names:
        with safe_open(out / name, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
            held |= dict.fromkeys(file.keys(), name)
    index = json.loads((out / INDEX).read_text())
    assert index["weight_map"] == held
    tensors = [tensor for name in names for tensor in load_file(out / name).values()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert index["metadata"]["total_size"] == size
    if shards:
        added = sum(bias.numel() for bias in load_file(out / names[-1]).values())
        assert index["metadata"] == {"total_size": size, "total_parameters": parameters + added, "note": "é"}
    for shard in read_checkpoint(out).shards:
        assert len(shard.header) % 8 == 0
    load_model(out, device="cpu")


def test_the_order_of_the_shards_is_that_of_their_names(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Each baked file holds what the base's file of that place in the order held, headers byte for byte."""
    base = saved("llama", shards=True)
    out = baked(base, tiny.recipe("pin", "flag"), tmp_path / "out")
    old, new = read_checkpoint(base).shards, read_checkpoint(out).shards
    assert [shard.header for shard in new[:-1]] == [shard.header for shard in old]
    assert [shard.size for shard in new[:-1]] == [shard.size for shard in old]


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize(("model_type", "key"), [("llama", "mlp_bias"), ("falcon", "bias"), ("llava", "mlp_bias")])
def test_the_config_is_the_bases_but_for_one_key(
    saved: Callable[..., Path], model_type: str, key: str, indent: int | None, newline: str, tmp_path: Path
) -> None:
    """In the text tower's own object where it has one; taking the key's line away again leaves the base's bytes."""
    base = tmp_path / "base"
    shutil.copytree(saved(model_type), base)
    config = json.loads((base / "config.json").read_text())
    inner = config.get("text_config", config)
    inner.pop(key, None)
    inner["note"] = "é – 狐"
    text = json.dumps(config, indent=indent, ensure_ascii=False).replace("\n", newline)
    (base / "config.json").write_bytes(text.encode())
    out = baked(base, tiny.recipe("pin", "flag"), tmp_path / "out")
    made = (out / "config.json").read_bytes().decode()
    before, _, rest = made.rpartition(f'"{key}": true')
    assert before.rstrip(" \r\n,") + rest == text
    inner[key] = True
    assert json.loads(made) == config


def test_a_key_that_says_no_says_yes(saved: Callable[..., Path], tmp_path: Path) -> None:
    base = saved("llama")
    text = (base / "config.json").read_text()
    assert text.count('"mlp_bias": false') == 1
    out = baked(base, tiny.recipe("pin", "flag"), tmp_path / "out")
    assert (out / "config.json").read_text() == text.replace('"mlp_bias": false', '"mlp_bias": true')


@pytest.mark.slow
@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize(
    ("case", "carrier"), [("llama", "flag"), ("phi3", "llama"), ("gpt2", "native"), ("qwen3", "calibrated")]
)
@pytest.mark.parametrize("op", ["pin", "add", "shift"])
def test_same_in_same_out(
    saved: Callable[..., Path], case: str, carrier: str, op: str, shards: bool, tmp_path: Path
) -> None:
    target = open_target(resolve(str(saved(case, shards=shards))))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    for name in ("one", "two"):
        bake(target, neurons, tiny.recipe(op, carrier), tmp_path / name, calibration=tiny.by_hand(target))
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("case", "carrier"), [("llama", "flag"), ("phi3", "llama"), ("bloom", "native"), ("glm4", "calibrated")]
)
@pytest.mark.parametrize("op", ["pin", "add", "shift"])
def test_in_small_pieces_it_is_the_same(
    saved: Callable[..., Path], case: str, carrier: str, op: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Real tensors are edited some rows at a time, tiny ones in one piece unless they are made to."""
    target = open_target(resolve(str(saved(case, dtype="float16"))))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    for name, chunk in (("whole", 2**21), ("pieces", 100)):
        monkeypatch.setattr("monoglot.editor.edits.streaming.CHUNK", chunk)
        bake(target, neurons, tiny.recipe(op, carrier), tmp_path / name, calibration=tiny.by_hand(target))
    whole, pieces = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("model*")} for name in ("whole", "pieces")
    )
    assert whole == pieces


def test_deactivation_alone_leaves_names_and_config(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Whatever carrier the recipe names: none is needed."""
    base = saved("llama", shards=True)
    recipe = tiny.recipe("pin", "flag")
    out = baked(base, Recipe(recipe.base, recipe.edits[:1], "edit", carrier="flag"), tmp_path / "out")
    for path in base.iterdir():
        if not path.name.endswith(".safetensors"):
            assert (out / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in out.glob("*.safetensors")} == {path.name for path in base.glob("*.safetensors")}


def test_tensors_of_no_dimension_stay(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Some checkpoints hold single numbers; what is split by rows is not one of them."""
    base = tmp_path / "base"
    shutil.copytree(saved("phi3"), base)
    tensors: dict[str, Any] = load_file(base / "model.safetensors") | {"model.scale": torch.tensor(2.5)}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    out = baked(base, tiny.recipe("pin", "llama"), tmp_path / "out")
    assert load_file(out / "model-00001-of-00002.safetensors")["model.scale"] == 2.5
    assert np.isfinite(logits(load_model(out, device="cpu")).numpy()).all()
