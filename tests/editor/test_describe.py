"""What a file or a folder is, held against what it was made from."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.torch import load_file, save_file
from support import checkpoints, folders, measured, tiny

from monoglot.editor.describe import describe
from monoglot.editor.edits import calibration
from monoglot.editor.edits import recipe as recipes
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CheckpointError, ModelError, MonoglotError, VerificationError
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.statistics import statistics
from monoglot.editor.statistics.histogram import BINS
from monoglot.editor.statistics.inputs import Inputs, Part, Sample


def target_of(model: Path) -> Target:
    return open_target(resolve(str(model)))


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama, to be changed."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


@pytest.fixture
def out(model: Path, neurons_file: Path, tmp_path: Path) -> Path:
    recipe = Recipe(Base("tiny"), (Edit("fr", "deactivate"), Edit("zh", "scale", 0.5)), "edit")
    bake(target_of(model), neurons.load(neurons_file), recipe, tmp_path / "out")
    return tmp_path / "out"


def test_a_model(model: Path) -> None:
    found, tensors = describe(str(model)), load_file(model / "model.safetensors")
    config = transformers.AutoConfig.from_pretrained(model)
    assert (found["kind"], found["name"], found["model_type"], found["editable"]) == ("model", "tiny", "llama", True)
    assert (found["layers"], found["width"], found["hidden"], found["neurons"]) == (3, 24, 16, 72)
    assert found["numbers"] == sum(tensor.numel() for tensor in tensors.values())
    assert found["dtypes"] == {"F32": found["numbers"]} and found["tensors"] == len(tensors)
    assert found["bytes"] == (model / "model.safetensors").stat().st_size and found["shards"] == 1
    assert found["tied"] is config.tie_word_embeddings is False
    assert (found["activation_function"], found["gated"]) == ("silu", True)
    assert (found["biases"], found["bias_flag"], found["ignored_biases"]) == (False, "mlp_bias", [])
    assert (found["tokenizer"], found["chat_template"]) == (True, False)
    assert found["fingerprint"] == target_of(model).fingerprint
    assert found["operations"] == dict.fromkeys(("deactivate", "scale", "pin", "add", "shift", "vector", "redirect"))
    assert {name for name, why in found["carriers"].items() if not why} == {"flag", "calibrated"}
    assert found["carrier"] == "calibrated"


@pytest.mark.parametrize(
    ("case", "facts"),
    [
        ("gpt2", {"gated": False, "biases": True, "carrier": "native", "tied": True, "hidden": 16}),
        ("phi3", {"gated": True, "biases": False, "layout": "mlp.gate_up_proj → mlp.down_proj (gate and up in one tensor)"}),
        ("qwen2+tied", {"tied": True, "carriers": {"native": True, "flag": True, "llama": False, "calibrated": False}}),
        ("gemma3", {"inside": "gemma3", "model_type": "gemma3_text", "layers": 3}),
    ],
)  # fmt: skip
def test_families(saved: Any, case: str, facts: dict[str, Any]) -> None:
    model_type, config = tiny.CASES.get(case, tiny.Case(case, {}))
    found = describe(str(saved(model_type, **config)))
    if "carriers" in facts:
        found["carriers"] = {name: bool(why) for name, why in found["carriers"].items()}
    assert {key: found[key] for key in facts} == facts and found["editable"]


def test_a_wrapper_says_itself_whether_its_output_is_tied(tmp_path: Path) -> None:
    """Its text part may say otherwise: a config that transformers saves of some wrappers does."""
    model = tiny.save_model(tmp_path / "model", "llava", tokenizer=False)
    assert not describe(str(model))["tied"]
    text = json.loads((model / "config.json").read_text())["text_config"]
    tiny.edit_config(model, tie_word_embeddings=True, text_config={**text, "tie_word_embeddings": False})
    assert describe(str(model))["tied"]


def test_no_model_is_built(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(transformers.PreTrainedModel, "__init__", built)
    monkeypatch.setattr(np, "memmap", built)
    assert describe(str(model))["editable"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "unheard"}, "unknown model family 'unheard'"),
        ({"model_type": "x_moe"}, "mixture of experts"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised (gptq)"),
        ({"model_type": "gpt2"}, "has no h.*.mlp.c_proj.weight"),
    ],
)
def test_what_cannot_be_edited_is_an_answer(folder: Path, config: dict[str, Any], reason: str) -> None:
    tiny.edit_config(folder, **config)
    found = describe(str(folder))
    assert found["kind"] == "model" and not found["editable"] and reason in found["reason"]
    assert (found["layers"], found["width"], found["hidden"], found["tensors"]) == (3, None, 16, 30)


def test_constants_that_cannot_be(folder: Path) -> None:
    tiny.edit_config(folder, hidden_act="unheard")
    found = describe(str(folder))["operations"]
    assert found["scale"] is None and "unheard" in found["pin"] and found["shift"] == found["add"] == found["pin"]


def test_biases_that_the_config_ignores(folder: Path) -> None:
    import torch

    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.layers.0.mlp.down_proj.bias": torch.ones(16)}, folder / "model.safetensors")
    found = describe(str(folder))
    assert found["ignored_biases"] == ["model.layers.0.mlp.down_proj.bias"]
    assert "down_proj.bias" in found["operations"]["add"] and found["operations"]["deactivate"] is None


def test_damage_is_an_error(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="truncated"):
        describe(str(folder))


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template(folder: Path, where: str) -> None:
    path = folder / where
    if path.suffix == ".json":
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": "x"}))
    else:
        path.write_text("x")
    assert describe(str(folder))["chat_template"]


# A checkpoint


def test_a_checkpoint(out: Path, model: Path) -> None:
    found = describe(str(out))
    assert found["kind"] == "checkpoint" and found["editable"] and found["width"] == 24
    assert found["base"] == {"model": "tiny", "revision": None, "fingerprint": target_of(model).fingerprint}
    assert found["edited"] == {"fr": 6, "zh": 5} and found["neurons_edited"] == 10  # one of both
    assert found["constants_in"] is None and found["certificate"] == {} and found["evaluation"] == []
    assert found["files"]["missing"] == found["files"]["changed"] == [] and found["files"]["by"] == "size"
    assert describe(str(out / "monoglot.json")) == found == describe(str(out / "config.json"))


def test_what_was_measured_of_it(out: Path) -> None:
    record = folders.manifest_data(out)
    record |= {
        "certificate": {**checkpoints.PROVED, "logits": {**checkpoints.PROVED["logits"], "passed": False}},
        "evaluation": {name: measured.evaluation()[name] for name in ("profile", "activated")},
        "strength": {**measured.strength(), "language": "fr", "reached": True},
    }
    folders.write_manifest(out, record)
    found = describe(str(out))
    assert found["certificate"] == {"bytes": True, "logits": False}
    assert found["evaluation"] == ["activated", "profile"]
    assert found["strength"] == {"language": "fr", "reached": True}


def test_files_that_changed(out: Path) -> None:
    weights, card = out / "model.safetensors", out / "recipe.yaml"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    card.write_text("x")
    (out / "tokenizer.json").unlink()
    by_size, by_hash = describe(str(out))["files"], describe(str(out), hashes=True)["files"]
    assert by_size["changed"] == ["recipe.yaml"] and by_hash["changed"] == ["model.safetensors", "recipe.yaml"]
    assert by_size["missing"] == by_hash["missing"] == ["tokenizer.json"]
    assert by_hash["by"] == "sha256"


@pytest.mark.parametrize(
    "key", ["recipe", "base", "files", "edited", "kept", "neurons_edited", "certificate", "carrier"]
)
@pytest.mark.parametrize("value", ["x", [1], 3])
def test_a_manifest_that_is_malformed(out: Path, key: str, value: Any) -> None:
    record = folders.manifest_data(out)
    record[key] = [] if key == "neurons_edited" else value
    folders.write_manifest(out, record)
    with pytest.raises(VerificationError, match="malformed"):
        describe(str(out))


def test_a_recipe_in_the_manifest_that_says_something_impossible(out: Path) -> None:
    record = folders.manifest_data(out)
    record["recipe"]["edits"][0]["op"] = "unheard"
    folders.write_manifest(out, record)
    with pytest.raises(VerificationError, match=r"malformed.*unheard"):
        describe(str(out))


# The other files


def test_neurons(neurons_file: Path) -> None:
    found = describe(str(neurons_file))
    assert (found["kind"], found["layers"], found["neurons"], found["values"], found["spare"]) == (
        "neurons",
        3,
        12,
        [],
        0,
    )
    assert found["languages"]["fr"] == {"neurons": 6, "alone": 4, "by_layer": [3, 1, 2]}
    assert found["model"]["name"] == "tiny" and found["method"] == {"name": "hand"}


def test_statistics(model: Path, tmp_path: Path) -> None:
    info = model_info(target_of(model))
    shape = (info.layers, info.width)
    counts = {"en": np.ones(shape, np.int64), "fr": np.zeros(shape, np.int64)}
    sums = {language: np.zeros(shape) for language in counts}
    sample = Sample(np.ones((3, 2, 16), np.float32), np.ones(2, np.int64), np.zeros(2, np.int64), ("other",) * 2,
                    (Part("en", "0" * 64, 2),))  # fmt: skip
    inputs = Inputs(7, np.ones((3, 16, 16)), np.ones((3, 16)), 1, np.ones((3, 16)), sample)
    plain = statistics.Statistics(info, {"en": 10, "fr": 20}, counts, sums, {"en": ("a",), "fr": ("b", "c")})
    texts = {"en": np.ones((5, *shape), np.float32), "fr": np.ones((6, *shape), np.float32)}
    full = statistics.Statistics(
        info, plain.tokens, counts, sums, plain.texts, {"context": 8},
        {k: np.zeros((*shape, BINS), np.uint32) for k in counts}, inputs, texts,
    )  # fmt: skip
    statistics.save(plain, tmp_path / "plain.dat")  # whatever its name
    statistics.save(full, tmp_path / "full.safetensors")
    found = describe(str(tmp_path / "plain.dat"))
    assert found["languages"] == {"en": {"tokens": 10, "texts": 1}, "fr": {"tokens": 20, "texts": 2}}
    assert (found["kind"], found["histograms"], found["per_text"], found["inputs"]) == ("statistics", False, None, None)
    found = describe(str(tmp_path / "full.safetensors"))
    assert (found["histograms"], found["per_text"]) == (True, {"en": 5, "fr": 6})
    assert found["inputs"] == {"tokens": 7, "sample": 2, "hidden": 16} and found["settings"] == {"context": 8}


def test_a_calibration_and_a_recipe(model: Path, tmp_path: Path) -> None:
    target = target_of(model)
    calibration.save(tiny.by_hand(target), tmp_path / "c.safetensors")
    found = describe(str(tmp_path / "c.safetensors"))
    assert (found["kind"], found["layers"], found["hidden"]) == ("calibration", 3, 16)
    assert (found["fingerprint"], found["errors"]) == (target.fingerprint, [0.01] * 3)
    (tmp_path / "r.yaml").write_text(recipes.to_yaml(tiny.recipe("pin")))
    found = describe(str(tmp_path / "r.yaml"))
    assert found["kind"] == "recipe" and not found["neurons_there"] and found["edits"][1]["op"] == "pin"


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.txt", b"hello"), ("b.json", b"{}"), ("c.json", b"[1]"), ("d", b""), ("e.json", b'{"abcd":{"x": 1}}')],
)
def test_any_other_file_is_refused_with_what_can_be_inspected(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=r"statistics, a calibration, a vocabulary, a silence, or a recipe\.yaml"):
        describe(str(tmp_path / name))


def test_weights_alone_and_nothing_at_all(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Inspect its folder"):
        describe(str(model / "model.safetensors"))
    shutil.copy(model / "model.safetensors", tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"no config\.json lies beside it"):
        describe(str(tmp_path / "w.safetensors"))
    for what in (tmp_path / "nowhere", tmp_path, "x" * 5000):
        with pytest.raises(MonoglotError):
            describe(str(what))


def test_hashes_in_pieces(tmp_path: Path) -> None:
    from monoglot.editor.files.streams import CHUNK
    from monoglot.editor.files.streams import sha256 as ours

    data = bytes(range(256)) * (CHUNK // 256 + 3)
    (tmp_path / "x").write_bytes(data)
    assert ours(tmp_path / "x") == sha256(data).hexdigest()
