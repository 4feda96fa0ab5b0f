"""verify catches every way in which a checkpoint could be other than its manifest says."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import folders, tiny
from support.proved import C_FC, C_PROJ, GATE, OUT, UP, baked, carried, change_tensor, resign

from monoglot.editor.edits import calibration
from monoglot.editor.edits.recipe import CONSTANT_OPS, Edit
from monoglot.editor.errors import VerificationError
from monoglot.editor.files import streams
from monoglot.editor.files.checkpoint import INDEX
from monoglot.editor.files.kinds import FILE
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof import bytes as verify

DOWN = "model.layers.0.mlp.down_proj.weight"


def problems(folder: Path, target: Target) -> tuple[str, ...]:
    return verify.verify_bytes(folder, target, neurons.load(folder / "neurons.json")).problems


@pytest.mark.parametrize("edit", [Edit("fr", "deactivate"), Edit("fr", "scale", 0.7), Edit("zh", "scale", -3.0)])
def test_a_sound_checkpoint_passes(target: Target, neurons_file: Path, tmp_path: Path, edit: Edit) -> None:
    out = baked(target, neurons_file, tmp_path / "out", edit)
    found = verify.verify_bytes(out, target, neurons.load(neurons_file))
    assert found.problems == ()
    assert found.columns == neurons.load(neurons_file).count(edit.language)


MUTATIONS: dict[str, tuple[str, Callable[[torch.Tensor], None]]] = {
    "another column of an edited tensor": (DOWN, lambda w: w[:, 20].mul_(2)),
    "one number of an unedited tensor": ("model.embed_tokens.weight", lambda w: w[3].add_(1)),
    "an edited column is back": (DOWN, lambda w: w[:, 3].fill_(0.5)),
    "a negative zero in an edited column": (DOWN, lambda w: w[0, 3].mul_(-1)),
    "the gate instead of the output": ("model.layers.0.mlp.gate_proj.weight", lambda w: w[3].zero_()),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_weight_is_found_even_when_the_hashes_are_forged(
    target: Target, neurons_file: Path, tmp_path: Path, mutation: str
) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    assert problems(out, target) == ()
    change_tensor(out, *MUTATIONS[mutation])
    assert problems(out, target)


def test_an_unchanged_copy_of_the_base_fails(target: Target, neurons_file: Path, model: Path, tmp_path: Path) -> None:
    """The forerunner's mistake in its purest form: nothing was steered at all."""
    out = baked(target, neurons_file, tmp_path / "out")
    shutil.copy(model / "model.safetensors", out / "model.safetensors")
    resign(out)
    assert problems(out, target)


def test_a_wrong_factor_is_found(target: Target, neurons_file: Path, tmp_path: Path) -> None:
    out = baked(target, neurons_file, tmp_path / "out", Edit("fr", "scale", 2.0))
    record = folders.manifest_data(out)
    record["recipe"]["edits"][0]["strength"] = 2.5
    folders.write_manifest(out, record)
    assert any("not what the recipe makes" in problem for problem in problems(out, target))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_side_files_are_held_against_manifest_and_base(
    target: Target, neurons_file: Path, tmp_path: Path, name: str
) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    (out / name).write_text((out / name).read_text() + " ")
    assert any("another sha256" in problem for problem in problems(out, target))
    resign(out)
    assert any("differs from the base's" in problem for problem in problems(out, target))
    (out / name).unlink()
    assert any("is missing" in problem for problem in problems(out, target))


def test_weights_that_a_runtime_might_load_instead_are_found(
    target: Target, neurons_file: Path, tmp_path: Path
) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    (out / "consolidated.safetensors").write_bytes(b"")
    assert any("a runtime may load it" in problem for problem in problems(out, target))


# --- constants ------------------------------------------------------------------------------------------------------

CARRIED = [("llama", "flag"), ("qwen2", "llama"), ("phi3", "llama"), ("gpt2", "native"), ("qwen3", "calibrated"),
           ("gpt2", "calibrated"), ("glm4", "calibrated"), ("mpt", "calibrated")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("op", CONSTANT_OPS)
@pytest.mark.parametrize(("name", "carrier"), CARRIED)
def test_constants_pass(
    saved: Callable[..., Path],
    name: str,
    carrier: str,
    op: str,
    shards: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In every way that they can be carried, and with tensors compared some rows at a time."""
    target = carried(saved, name, carrier, op, tmp_path / "out", dtype="bfloat16", shards=shards)
    own = neurons.load(tmp_path / "out" / "neurons.json")
    found = verify.verify_bytes(tmp_path / "out", target, own)
    assert found.problems == found.notes == ()
    monkeypatch.setattr(streams, "CHUNK", 100)
    assert verify.verify_bytes(tmp_path / "out", target, own) == found


def first(op: str, width: int = tiny.WIDTH) -> int:
    """In layer 0, the first neuron with a constant; for `add` the first slot."""
    own = tiny.to_steer(tiny.LAYERS, width)
    if op == "add":
        return int(min(set(own.indices["off"][0]) - set(own.indices["xx"][0])))
    return next(int(j) for j, v in zip(own.indices["xx"][0], own.values["mean"]["xx"][0], strict=True) if v)


PIN, SLOT = first("pin"), first("add")
CONSTANTS: dict[str, tuple[str, str, str, str, Callable[[torch.Tensor], Any]]] = {
    "the bias of a pinned neuron": ("llama", "flag", "pin", f"{GATE}.bias", lambda b: b[PIN].mul_(1.01)),
    "the bias of a shifted neuron": ("llama", "flag", "shift", f"{GATE}.bias", lambda b: b[PIN].mul_(-1)),
    "the bias of a slot": ("llama", "flag", "add", f"{GATE}.bias", lambda b: b[SLOT].zero_()),
    "a bias of zero": ("llama", "flag", "pin", f"{UP}.bias", lambda b: b[0].add_(1e-3)),
    "a bias of zero at the output": ("llama", "flag", "pin", f"{OUT}.bias", lambda b: b[3].add_(1e-3)),
    "a bias of minus zero": ("llama", "flag", "pin", f"{OUT}.bias", lambda b: b[3].mul_(-1)),
    "a bias of zero in attention": ("qwen2", "llama", "pin", "model.layers.0.self_attn.o_proj.bias", lambda b: b[0].add_(1)),
    "a gate row is back": ("llama", "flag", "pin", f"{GATE}.weight", lambda w: w[PIN].fill_(0.3)),
    "the gate row of a slot is back": ("llama", "flag", "add", f"{GATE}.weight", lambda w: w[SLOT, 2].fill_(0.3)),
    "a column that is not multiplied": ("llama", "flag", "pin", f"{OUT}.weight", lambda w: w[:, PIN].mul_(16)),
    "the up row of a slot": ("llama", "flag", "add", f"{UP}.weight", lambda w: w[SLOT].mul_(-1)),
    "the up row of a pinned neuron": ("llama", "flag", "pin", f"{UP}.weight", lambda w: w[PIN].mul_(2)),
    "the column of a slot": ("llama", "flag", "add", f"{OUT}.weight", lambda w: w[:, SLOT].zero_()),
    "one of the parts of a tensor": ("phi3", "llama", "pin", "model.layers.0.self_attn.k_proj.weight", lambda w: w.mul_(2)),
    "the gate row in a part": ("phi3", "llama", "pin", f"{GATE}.weight", lambda w: w[PIN].fill_(0.3)),
    "the up row in a part": ("phi3", "llama", "add", f"{UP}.weight", lambda w: w[SLOT].mul_(2)),
    "a column of Conv1D is back": ("gpt2", "native", "pin", f"{C_FC}.weight", lambda w: w[:, PIN].fill_(0.3)),
    "a native bias": ("gpt2", "native", "shift", f"{C_FC}.bias", lambda b: b[PIN].add_(0.1)),
    "another native bias": ("gpt2", "native", "shift", f"{C_FC}.bias", lambda b: b[(PIN + 1) % 24].add_(0.1)),
    "the output's native bias": ("gpt2", "native", "add", f"{C_PROJ}.bias", lambda b: b[5].mul_(1.5)),
    "a calibrated row": ("qwen3", "calibrated", "pin", f"{GATE}.weight", lambda w: w[PIN].mul_(1.1)),
    "a calibrated row that is zero": ("qwen3", "calibrated", "pin", f"{GATE}.weight", lambda w: w[PIN].zero_()),
    "a calibrated shift": ("qwen3", "calibrated", "shift", f"{GATE}.weight", lambda w: w[PIN].add_(0.1)),
    "the calibrated row of a slot": ("qwen3", "calibrated", "add", f"{GATE}.weight", lambda w: w[SLOT].mul_(-1)),
    "the native bias beside a calibrated row": ("gpt2", "calibrated", "pin", f"{C_FC}.bias", lambda b: b[PIN].add_(1)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mutation", CONSTANTS)
def test_a_changed_constant_is_found_even_when_the_hashes_are_forged(
    saved: Callable[..., Path], mutation: str, tmp_path: Path
) -> None:
    """By the one problem that it is: all else is as it was."""
    name, carrier, op, tensor, change = CONSTANTS[mutation]
    target = carried(saved, name, carrier, op, tmp_path / "out")
    assert problems(tmp_path / "out", target) == ()
    change_tensor(tmp_path / "out", tensor, change)
    assert len(problems(tmp_path / "out", target)) == 1


def rewrite_json(path: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data, indent=2))


def another_calibration(out: Path) -> None:
    made = calibration.load(out / calibration.FILE)
    calibration.save(replace(made, directions=made.directions[::-1].copy()), out / calibration.FILE)


def another_level(out: Path) -> None:
    made = calibration.load(out / calibration.FILE)
    calibration.save(replace(made, levels=made.levels * 2), out / calibration.FILE)


def another_tolerance(out: Path) -> None:
    made = calibration.load(out / calibration.FILE)
    worse = (replace(made.errors[0], after=5.0), *made.errors[1:])
    calibration.save(replace(made, errors=worse), out / calibration.FILE)


def narrower(out: Path) -> None:
    made = calibration.load(out / calibration.FILE)
    calibration.save(replace(made, directions=made.directions[:, 1:].copy()), out / calibration.FILE)


def a_tensor_more(out: Path) -> None:
    path = out / "model-00002-of-00002.safetensors"
    save_file(load_file(path) | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}, path, {"format": "pt"})


def a_shard_more(out: Path) -> None:
    """In the index and in the manifest, as if it belonged."""
    path = out / "model-00003-of-00003.safetensors"
    save_file({"model.layers.0.self_attn.q_proj.bias": torch.ones(16)}, path, {"format": "pt"})
    rewrite_json(out / INDEX, lambda d: d["weight_map"].update({"model.layers.0.self_attn.q_proj.bias": path.name}))
    rewrite_json(out / FILE, lambda d: d["files"].update({path.name: {}}))


def names_swapped(out: Path) -> None:
    """Keys and values of the first layer change places, in the header alone."""
    path = out / "model-00001-of-00002.safetensors"
    parts = re.split(rb"(layers\.0\.self_attn\.)([kv])(_proj)", path.read_bytes())
    path.write_bytes(b"".join({b"k": b"v", b"v": b"k"}.get(part, part) for part in parts))


def other_names(out: Path) -> None:
    """The weights with other biases, in a file that the index names instead."""
    path = out / "model-00002-of-00002.safetensors"
    other = out / "other.safetensors"
    save_file({name: bias + 1 for name, bias in load_file(path).items()}, other, {"format": "pt"})
    rewrite_json(out / INDEX, lambda d: d["weight_map"].update(
        {name: other.name for name, file in d["weight_map"].items() if file == path.name}
    ))  # fmt: skip
    rewrite_json(out / FILE, lambda d: d["files"].update({other.name: {}}))


def beside_the_index(out: Path) -> None:
    shutil.copy(out / "model-00001-of-00002.safetensors", out / "model.safetensors")
    rewrite_json(out / FILE, lambda d: d["files"].update({"model.safetensors": {}}))


FILES: dict[str, tuple[str, str, Callable[[Path], Any], str]] = {
    "the flag is off": ("llama", "flag", lambda out: rewrite_json(out / "config.json", lambda d: d.update(mlp_bias=False)),
                        "config.json is not what the recipe makes of it"),
    "the flag is gone": ("llama", "flag", lambda out: rewrite_json(out / "config.json", lambda d: d.pop("mlp_bias")),
                         "config.json is not what the recipe makes of it"),
    "the model_type is back": ("qwen2", "llama",
                               lambda out: rewrite_json(out / "config.json", lambda d: d.update(model_type="qwen2")),
                               "config.json is not what the recipe makes of it"),
    "the base's config": ("qwen3", "calibrated", lambda out: rewrite_json(out / "config.json", lambda d: d.update(x=1)),
                          "config.json differs from the base's"),
    "the index points elsewhere": ("llama", "flag", other_names, "index.json is not what the recipe makes of it"),
    "the index is of another size": ("llama", "flag", lambda out: rewrite_json(
        out / INDEX, lambda d: d["metadata"].update(total_size=1)), "index.json is not what the recipe makes of it"),
    "a shard more": ("llama", "flag", a_shard_more, "the shards have other names than they should"),
    "a shard less": ("llama", "flag", lambda out: (out / "model-00002-of-00002.safetensors").unlink(), "is missing"),
    "a plain file beside the index": ("llama", "flag", beside_the_index, "holds both"),
    "a tensor more in the new shard": ("llama", "flag", a_tensor_more, "00002.safetensors is not what the recipe makes"),
    "names that changed places": ("phi3", "llama", names_swapped, "00001-of-00002.safetensors has another header"),
    "another direction": ("qwen3", "calibrated", another_calibration, "is not what the recipe makes of it"),
    "another level": ("qwen3", "calibrated", another_level, "is not what the recipe makes of it"),
}  # fmt: skip


@pytest.mark.parametrize("mutation", FILES)
def test_a_changed_file_is_found_even_when_the_hashes_are_forged(
    saved: Callable[..., Path], mutation: str, tmp_path: Path
) -> None:
    name, carrier, change, message = FILES[mutation]
    out = tmp_path / "out"
    target = carried(saved, name, carrier, "pin", out)
    assert problems(out, target) == ()
    change(out)
    record = folders.manifest_data(out)
    for file in [file for file in record["files"] if (out / file).is_file()]:
        record["files"][file] = folders.listed((out / file).read_bytes())
    folders.write_manifest(out, record)
    found = problems(out, target)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_tolerance, "cannot be carried out: the calibration of 1 layers is worse than 0.15"),
        (narrower, "cannot be carried out: the calibration does not have the shape of qwen3"),
        (lambda out: (out / calibration.FILE).unlink(), "cannot be carried out: qwen3 has no biases"),
        (lambda out: (out / calibration.FILE).write_bytes(b"x"), "cannot be carried out: .*is damaged"),
        (lambda out: rewrite_json(out / FILE, lambda d: d["recipe"].update(carrier="flag")),
         "cannot be carried out: qwen3 cannot carry constants by flag"),
        (lambda out: rewrite_json(out / FILE, lambda d: d["recipe"]["edits"][1].update(value="p90")),
         "cannot be carried out: the neurons of xx have no p90"),
        (lambda out: rewrite_json(out / FILE, lambda d: d["recipe"].update(tolerance="much")),
         "the manifest's recipe cannot be read: .*tolerance is not a number"),
    ],
    ids=["errors", "shape", "no file", "damaged", "carrier", "value", "tolerance"],
)  # fmt: skip
def test_what_cannot_have_been_done_is_an_error(
    saved: Callable[..., Path], change: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    target = carried(saved, "qwen3", "calibrated", "pin", tmp_path / "out")
    change(tmp_path / "out")
    with pytest.raises(VerificationError, match=message):
        problems(tmp_path / "out", target)


def test_another_strength_or_operation_than_was_baked_is_found(saved: Callable[..., Path], tmp_path: Path) -> None:
    for number, change in enumerate(({"strength": 1.6}, {"op": "add"}, {"op": "shift"})):
        out = tmp_path / str(number)
        target = carried(saved, "llama", "flag", "pin", out)
        rewrite_json(out / FILE, lambda d, change=change: d["recipe"]["edits"][1].update(change))  # type: ignore[misc]
        assert any("not what the recipe makes" in problem for problem in problems(out, target))


def test_another_base_is_refused(target: Target, neurons_file: Path, tmp_path: Path) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    other = open_target(resolve(str(tiny.save_model(tmp_path / "other", seed=1))))
    with pytest.raises(VerificationError, match="not the model this checkpoint was made from"):
        problems(out, other)
