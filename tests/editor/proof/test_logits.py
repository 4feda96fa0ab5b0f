"""The logits of a baked checkpoint against those of the base under hooks."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny
from support.proved import C_FC, GATE, baked, carried, change_tensor, live

from monoglot.editor.edits.recipe import CONSTANT_OPS, Edit
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.text.corpus import open_corpus


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("edit", [Edit("fr", "deactivate"), Edit("fr", "scale", 2.0), Edit("fr", "scale", 1.7)])
def test_logits_agree_with_the_hooked_base(
    neurons_file: Path, corpus: Path, tmp_path: Path, dtype: str, edit: Edit
) -> None:
    """Within the bounds that the module states, in every dtype; and the edit does something."""
    target = open_target(resolve(str(tiny.save_model(tmp_path / "base", dtype=dtype))))
    out = baked(target, neurons_file, tmp_path / "out", edit)
    found = live(out, target, corpus)
    assert found.problems == ()
    loss = found.measured.log_loss
    assert any(abs(loss["this model"][k] - loss["base"][k]) > 1e-3 for k in ("en", "fr", "zh"))
    assert all(abs(loss["this model"][k] - loss["hooked"][k]) < 1e-2 for k in ("en", "fr", "zh"))
    if edit.strength != 1.7:
        assert all(d.max_logit < 1e-5 for d in found.measured.difference["hooked"].values())


@pytest.mark.slow
@pytest.mark.parametrize("op", CONSTANT_OPS)
@pytest.mark.parametrize(
    ("name", "carrier", "dtype"),
    [
        ("llama", "flag", "bfloat16"),
        ("phi3", "llama", "float32"),
        ("gpt2", "native", "float16"),
        ("qwen3", "calibrated", "float32"),
        ("gpt2", "calibrated", "float32"),
    ],
)
def test_logits_with_constants_agree_with_the_hooked_base(
    saved: Callable[..., Path], corpus: Path, name: str, carrier: str, dtype: str, op: str, tmp_path: Path
) -> None:
    """Pass as baked; and do not when a bias, or a row, is another than was baked."""
    out = tmp_path / "out"
    target = carried(saved, name, carrier, op, out, dtype=dtype, tokenizer=True)
    found = live(out, target, corpus)
    assert found.problems == ()
    assert (found.approximation is not None) == (carrier == "calibrated")
    tensor = C_FC if name == "gpt2" else GATE
    if carrier != "calibrated" and not (name == "gpt2" and op == "add"):
        change_tensor(out, f"{tensor}.bias", lambda b: b.mul_(-1))
    else:
        change_tensor(out, f"{tensor}.weight", lambda w: w.mul_(-1))
    assert live(out, target, corpus).problems


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


def test_log_loss_against_a_plain_second_implementation(
    target: Target, neurons_file: Path, model: Path, corpus: Path, tmp_path: Path
) -> None:
    """transformers' own loss on the same contexts, averaged by hand."""
    import transformers

    from monoglot.editor.live.log_loss import measure
    from monoglot.editor.live.logits import Variant
    from monoglot.editor.text.tokens import read_texts

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
