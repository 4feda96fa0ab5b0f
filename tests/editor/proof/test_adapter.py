"""The proof of adapters: of one that is right, of one that was tampered with, on another base, made again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny

from monoglot.editor.edits import manifest as manifest_file
from monoglot.editor.edits.adapter import bake_adapter
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CheckpointError, ModelError, VerificationError
from monoglot.editor.files.companions import ADAPTER_WEIGHTS as WEIGHTS
from monoglot.editor.live.adapted import attach
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.proof.adapter import verify_adapter
from monoglot.editor.proof.prove import prove
from monoglot.editor.proof.rebuild import rebuild
from monoglot.editor.text.corpus import open_corpus

OFF = Recipe(Base("tiny"), (Edit("off", "deactivate"), Edit("half", "scale", 0.5)), "edit")
NEURONS = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return open_target(resolve(str(tiny.save_model(tmp_path / "base", "llama"))))


@pytest.fixture
def adapter(target: Target, tmp_path: Path) -> Path:
    bake_adapter(target, NEURONS, OFF, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_one_that_is_right_passes(target: Target, adapter: Path, tmp_path: Path) -> None:
    texts = open_corpus([str(tiny.save_corpus(tmp_path / "texts"))], [])
    proof = prove(adapter, target, lambda: texts, tokens=128, context=64)
    assert proof.passed and proof.adapter
    certificate = manifest_file.read(adapter).certificate
    assert certificate and certificate.logits and certificate.logits.passed and certificate.cut is None
    assert certificate.bytes.edited_tensors == 3 and certificate.bytes.changed_columns == 3 * 9
    assert certificate.effect and certificate.effect.log_loss["this model"] != certificate.effect.log_loss["base"]


def test_constants_pass_too(target: Target, tmp_path: Path) -> None:
    texts = open_corpus([str(tiny.save_corpus(tmp_path / "texts"))], [])
    recipe = tiny.recipe("all", "calibrated")
    bake_adapter(target, NEURONS, recipe, tmp_path / "adapter", calibration=tiny.by_hand(target))
    proof = prove(tmp_path / "adapter", target, lambda: texts, tokens=128, context=64)
    assert proof.problems == []
    assert proof.certificate.approximation


def test_what_a_limit_left_out_is_measured(target: Target, tmp_path: Path) -> None:
    texts = open_corpus([str(tiny.save_corpus(tmp_path / "texts"))], [])
    bake_adapter(target, NEURONS, OFF, tmp_path / "adapter", max_rank=3)
    proof = prove(tmp_path / "adapter", target, lambda: texts, tokens=128, context=64)
    assert proof.passed
    cut = proof.certificate.cut
    assert cut and sum(cut.left_out.values()) > 0
    assert all(row.kl > 1e-4 for row in cut.by_language.values())
    assert cut.log_loss != proof.certificate.effect.log_loss["this model"]  # type: ignore[union-attr]


def test_another_number_is_seen(target: Target, adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    name = sorted(tensors)[0]
    tensors[name][0, 0] += 1
    save_file(tensors, adapter / WEIGHTS, metadata={"format": "pt"})
    problems = verify_adapter(adapter, target, NEURONS).problems
    assert any("sha256" in problem for problem in problems)
    assert any("is not what the recipe makes of" in problem for problem in problems)


def test_another_config_or_file_is_seen(target: Target, adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2 * config["r"]}))
    (adapter / "more.safetensors").write_bytes(b"")
    problems = verify_adapter(adapter, target, NEURONS).problems
    assert any("adapter_config.json is not what the recipe makes of it" in problem for problem in problems)
    assert any("a runtime may load it" in problem for problem in problems)


def test_an_adapter_with_other_neurons_than_it_says_does_not_pass(target: Target, adapter: Path) -> None:
    assert any(
        "is not what the recipe makes" in one
        for one in verify_adapter(adapter, target, tiny.to_steer(3, 24, 9)).problems
    )


def test_another_base_is_told(adapter: Path, tmp_path: Path) -> None:
    other = open_target(resolve(str(tiny.save_model(tmp_path / "other", "llama", seed=3))))
    with pytest.raises(VerificationError, match="is not the model this checkpoint was made from"):
        verify_adapter(adapter, other, NEURONS)


def test_it_is_made_again(target: Target, adapter: Path, tmp_path: Path) -> None:
    found = rebuild(adapter, target, tmp_path / "again")
    assert not found.differ
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()


def test_a_limit_is_kept_when_it_is_made_again(target: Target, tmp_path: Path) -> None:
    bake_adapter(target, NEURONS, OFF, tmp_path / "adapter", max_rank=3)
    assert not rebuild(tmp_path / "adapter", target, tmp_path / "again").differ
    assert manifest_file.read(tmp_path / "again").adapter == manifest_file.read(tmp_path / "adapter").adapter


def test_a_model_without_the_modules_takes_no_adapter(adapter: Path, tmp_path: Path) -> None:
    other = tiny.live(tiny.save_model(tmp_path / "other", "gpt2"))
    with pytest.raises(ModelError, match="which GPT2LMHeadModel doesn't have"):
        attach(other, adapter)


def test_a_matrix_that_is_none_is_refused(adapter: Path, target: Target) -> None:
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(3)}, adapter / WEIGHTS)
    with pytest.raises(CheckpointError, match="is no matrix"):
        attach(tiny.live(target.source.folder), adapter)


def test_a_manifest_that_lies_of_its_adapter_is_refused(adapter: Path) -> None:
    manifest = manifest_file.read(adapter)
    assert manifest.adapter
    data = replace(manifest, adapter=replace(manifest.adapter, rank=8)).to_data()
    data["adapter"]["rank"] = 0
    (adapter / "monoglot.json").write_text(json.dumps(data))
    with pytest.raises(VerificationError, match="malformed"):
        manifest_file.read(adapter)


def test_one_of_a_mixture_passes_and_counts_what_it_edits(tmp_path: Path) -> None:
    tiny.need_5("mixtures are tried with transformers 5 and later")
    target = open_target(resolve(str(tiny.save_model(tmp_path / "base", "deepseek_v3"))))
    texts = open_corpus([str(tiny.save_corpus(tmp_path / "texts"))], [])
    blocks = target.feed_forward.networks
    neurons = tiny.to_steer(len(blocks), min(block.width for block in blocks))
    bake_adapter(target, neurons, OFF, tmp_path / "adapter")
    proof = prove(tmp_path / "adapter", target, lambda: texts, tokens=128, context=64)
    assert proof.problems == []
    assert proof.certificate.bytes.edited_tensors == len(blocks)  # W_up of each, and none of the zeros beside them
    assert proof.certificate.logits and proof.certificate.logits.passed
    assert not rebuild(tmp_path / "adapter", target, tmp_path / "again").differ
