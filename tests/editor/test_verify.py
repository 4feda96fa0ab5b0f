"""verify catches every way in which a checkpoint could be other than its manifest says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monoglot.editor import manifest, neurons, verify
from monoglot.editor.bake import Target, bake, open_target
from monoglot.editor.corpus import open_corpus
from monoglot.editor.errors import VerificationError
from monoglot.editor.recipe import Base, Edit, Recipe
from monoglot.editor.source import resolve
from safetensors import safe_open
from safetensors.torch import load_file, save_file

DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def target(model: Path) -> Target:
    return open_target(resolve(str(model)))


def baked(target: Target, neurons_file: Path, out: Path, *edits: Edit) -> Path:
    recipe = Recipe(Base("tiny"), edits or (Edit("fr", "deactivate"),), shared="edit")
    bake(target, neurons.load(neurons_file), recipe, out)
    return out


def resign(folder: Path) -> None:
    """Make the manifest's hashes right again, as a forger would."""
    record = manifest.read(folder)
    for name in record["files"]:
        record["files"][name] = manifest.entry((folder / name).read_bytes())
    manifest.write(folder, record)


def change_tensor(folder: Path, name: str, change: Callable[[torch.Tensor], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors[name])
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, folder / "model.safetensors", metadata=metadata)
    resign(folder)


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
    record = manifest.read(out)
    record["recipe"]["edits"][0]["strength"] = 2.5
    manifest.write(out, record)
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


def test_another_base_is_refused(target: Target, neurons_file: Path, tmp_path: Path) -> None:
    import tiny

    out = baked(target, neurons_file, tmp_path / "out")
    other = open_target(resolve(str(tiny.save_model(tmp_path / "other", seed=1))))
    with pytest.raises(VerificationError, match="not the model this checkpoint was made from"):
        problems(out, other)


def live(out: Path, target: Target, corpus: Path) -> verify.Logits:
    found = neurons.load(out / "neurons.json")
    return verify.verify_live(out, target, found, open_corpus([str(corpus)]), tokens=120, context=64, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("edit", [Edit("fr", "deactivate"), Edit("fr", "scale", 2.0), Edit("fr", "scale", 1.7)])
def test_logits_agree_with_the_hooked_base(
    neurons_file: Path, corpus: Path, tmp_path: Path, dtype: str, edit: Edit
) -> None:
    """Within the bounds that the module states, in every dtype; and the edit does something."""
    import tiny

    target = open_target(resolve(str(tiny.save_model(tmp_path / "base", dtype=dtype))))
    out = baked(target, neurons_file, tmp_path / "out", edit)
    found = live(out, target, corpus)
    assert found.problems == ()
    loss = found.measured.log_loss
    assert any(abs(loss["this model"][k] - loss["base"][k]) > 1e-3 for k in ("en", "fr", "zh"))
    assert all(abs(loss["this model"][k] - loss["hooked"][k]) < 1e-2 for k in ("en", "fr", "zh"))
    if edit.strength != 1.7:
        assert all(d.max_logit < 1e-5 for d in found.measured.difference.values())


def test_logits_of_an_unsteered_copy_fail(
    target: Target, neurons_file: Path, model: Path, corpus: Path, tmp_path: Path
) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    shutil.copy(model / "model.safetensors", out / "model.safetensors")
    assert live(out, target, corpus).problems


def test_nan_logits_fail(target: Target, neurons_file: Path, corpus: Path, tmp_path: Path) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    change_tensor(out, "model.norm.weight", lambda w: w.fill_(float("nan")))
    assert live(out, target, corpus).problems


def test_the_certificate_holds_the_figures(target: Target, neurons_file: Path, corpus: Path, tmp_path: Path) -> None:
    out = baked(target, neurons_file, tmp_path / "out")
    found = verify.verify_bytes(out, target, neurons.load(neurons_file))
    certificate = json.loads(json.dumps(verify.certificate(found, live(out, target, corpus))))
    assert certificate["bytes"]["passed"] and certificate["logits"]["passed"]
    assert certificate["effect"]["tokens"] == {"en": 120, "fr": 120, "zh": 120}
    assert set(certificate["effect"]["log_loss"]) == {"base", "this model", "random neurons"}


def test_log_loss_against_a_plain_second_implementation(
    target: Target, neurons_file: Path, model: Path, corpus: Path, tmp_path: Path
) -> None:
    """transformers' own loss on the same contexts, averaged by hand."""
    import transformers
    from monoglot.editor.detect import read_texts
    from monoglot.editor.evaluate import Variant, measure

    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(model)
    packed = read_texts(target, open_corpus([str(corpus)]), tokens=120, context=64, held_out=True)
    measured = measure([Variant("base", loaded)], packed)
    for language, text in packed.items():
        total = 0.0
        for context in text.contexts:
            ids = torch.from_numpy(context)[None]
            with torch.no_grad():
                total += loaded(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        assert measured.log_loss["base"][language] == pytest.approx(total / text.tokens, rel=1e-5)
