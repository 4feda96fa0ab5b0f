"""Vectors after a layer: against hooks on the layer, and against a second way to what the file should hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.redirected import REDIRECTS, TEXTS, opened, vocabulary_of
from support.tiny import (
    HIDDEN,
    LAYERS,
    MOVED,
    TOLERANCE,
    by_hand,
    live,
    logits,
    need,
    save_corpus,
    save_model,
    to_steer,
)

from monoglot.editor.edits import manifest_base
from monoglot.editor.edits.bake import Baked, bake
from monoglot.editor.edits.carriers import carried
from monoglot.editor.edits.controls import random_vectors
from monoglot.editor.edits.layer_vector import LayerVector
from monoglot.editor.edits.plan import Plan
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.vector_hooks import carried_vectors
from monoglot.editor.edits.vectors import layer_vectors
from monoglot.editor.errors import ModelError, RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, input_modules, layer_modules, output_modules
from monoglot.editor.models import residual
from monoglot.editor.models.families import KNOWN
from monoglot.editor.models.identity import Base
from monoglot.editor.models.target import Target
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.proof.bytes import verify_bytes
from monoglot.editor.proof.certificate import make_certificate
from monoglot.editor.proof.logits import Logits, verify_logits
from monoglot.editor.proof.rebuild import rebuild
from monoglot.editor.statistics import vocabulary as vocabulary_file
from monoglot.editor.statistics.record_residual import CONTEXT, TOKENS, record_residual
from monoglot.editor.statistics.residual import Residual
from monoglot.editor.statistics.vocabulary import Vocabulary
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import Packed, read_texts

FRENCH = Edit("fr", "vector", 1.5, point=1)
NATIVE = ("gpt2", "gpt_neox", "bloom", "phi", "opt", "starcoder2")
CALIBRATED = ("llama", "granite", "qwen2", "phi3", "nemotron", "gemma3_text", "olmo2", "glm4")


def learned(target: Target) -> Vocabulary:
    """Counts of TEXTS, and means of a residual stream that no one recorded."""
    centres = np.random.default_rng(3).normal(0, 0.3, (3, LAYERS, HIDDEN)).astype(np.float32)
    return replace(vocabulary_of(target), residual=Residual(centres, np.array([0.5, 0.8, 1.1])))


def value_of(target: Target) -> np.ndarray[Any, Any]:
    """1.5 times the mean of French after layer 1, less the mean of the two others' means."""
    english, french, chinese = learned(target).residual.centres[:, 1].astype(np.float64)  # type: ignore[union-attr]
    made: np.ndarray[Any, Any] = 1.5 * (french - (english + chinese) / 2)
    return made


def baked(folder: Path, destination: Path, *edits: Edit, neurons: Any = NONE, **more: Any) -> Baked:
    target = opened(folder)
    made = Recipe(Base("tiny"), edits or (FRENCH,), "edit", **more)
    return bake(target, neurons, made, destination, vocabulary=learned(target), calibration=by_hand(target))


def by_hook(folder: Path, value: Any, layer: int = 1) -> torch.Tensor:
    """Logits of the base with a vector added to what a layer puts out."""
    base, target = live(folder), opened(folder)

    def add(module: Any, inputs: Any, output: Any) -> Any:
        moved = (output[0] if isinstance(output, tuple) else output) + torch.from_numpy(value).float()
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = layer_modules(base, target.feed_forward.family)[layer].register_forward_hook(add)
    try:
        return logits(base)
    finally:
        handle.remove()


def proved(folder: Path, ours: Any, neurons: Any = NONE, *, out: Path) -> Logits:
    target = opened(folder)
    what = manifest_base.carried_in(out, target, neurons)
    texts = {k: Packed(k, (own[:64],), 0, 64, k) for k, own in TEXTS.items()}
    return verify_logits(ours, load_model(folder, device="cpu"), target, what, texts)


@pytest.mark.parametrize("model_type", NATIVE)
def test_a_bias_that_is_there(model_type: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    result = baked(folder, tmp_path / "out")
    hooked = by_hook(folder, value_of(opened(folder)))
    made = logits(load_model(tmp_path / "out", device="cpu"))
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    assert (made - logits(live(folder))).abs().max() > MOVED
    assert verify_bytes(tmp_path / "out", opened(folder), NONE).problems == ()
    assert result.carried.carrier == "native"
    assert "calibration.monoglot" not in result.manifest.files


@pytest.mark.parametrize("model_type", ["llama", "granite", "nemotron"])
def test_biases_of_a_flag(model_type: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    baked(folder, tmp_path / "out", carrier="flag")
    hooked = by_hook(folder, value_of(opened(folder)))
    made = logits(load_model(tmp_path / "out", device="cpu"))
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()
    assert verify_bytes(tmp_path / "out", opened(folder), NONE).problems == ()


@pytest.mark.parametrize("model_type", [name for name in residual.KNOWN if name not in residual.NORMED])
def test_what_becomes_of_the_networks_output(model_type: str, tmp_path: Path) -> None:
    """Of every family: what is added to the output of the network is the vector after the layer."""
    need(model_type)
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    target, base = opened(folder), live(folder)
    family, value = target.feed_forward.family, value_of(target)
    vector = LayerVector(1, 1, value, value / residual.route_of(target).factor)
    outputs, inputs, modules = (
        output_modules(base, family),
        input_modules(base, family),
        activation_modules(base, family),
    )
    with carried_vectors([vector], None, inputs=inputs, modules=modules, outputs=outputs, norms=[], gated=family.gated):
        made = logits(base)
    hooked = by_hook(folder, value)
    assert (made - hooked).abs().max() <= TOLERANCE * hooked.abs().max()


@pytest.mark.parametrize("model_type", sorted(residual.NORMED))
def test_behind_a_norm(model_type: str, tmp_path: Path) -> None:
    """On an output y of the size r that is at right angles to what is added, the norm's own formula gives the vector."""
    need(model_type)
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    target, base = opened(folder), live(folder)
    recipe = Recipe(Base("tiny"), (FRENCH,))
    plan = carried(target, recipe, NONE, by_hand(target), learned(target)).plan
    (vector,) = layer_vectors(target, recipe, learned(target), plan, NONE, biased=False)
    norm = output_modules(base, target.feed_forward.family, residual.route_of(target).norm)[1]
    y = np.random.default_rng(5).normal(size=HIDDEN)
    y -= y @ vector.added / (vector.added @ vector.added) * vector.added
    y *= 0.8 / np.sqrt(np.mean(y**2))
    with torch.inference_mode():
        before = norm(torch.from_numpy(y).float()[None])
        after = norm(torch.from_numpy(y + vector.added).float()[None]) * vector.gain
    wanted = before + torch.from_numpy(value_of(target)).float()
    assert torch.allclose(after, wanted, atol=2e-4)


@pytest.mark.parametrize("model_type", CALIBRATED)
def test_by_a_neuron_that_is_on(model_type: str, tmp_path: Path) -> None:
    """The proof compares it with the base under hooks that do the same, and says how far it is from the exact vector."""
    need(model_type)
    folder, out = save_model(tmp_path / "model", model_type, tokenizer=False), tmp_path / "out"
    result = baked(folder, out)
    found, in_bytes = proved(folder, load_model(out, device="cpu"), out=out), verify_bytes(out, opened(folder), NONE)
    assert in_bytes.problems == ()
    assert found.problems == ()
    certificate = make_certificate(in_bytes, found)
    assert certificate.logits
    assert certificate.approximation
    assert max(one.max_logit / one.largest_logit for one in certificate.logits.by_language.values()) < 3 * TOLERANCE
    assert max(one.max_logit for one in certificate.approximation.by_language.values()) > MOVED
    assert result.carried.spared == 1
    assert certificate.approximation.activation
    assert certificate.approximation.activation.all > 0  # w·x is anything but 1 here
    assert rebuild(out, opened(folder), tmp_path / "again").differ == {}


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "phi3"])
def test_the_file_by_the_formula(model_type: str, tmp_path: Path) -> None:
    """Only the slot's rows and column, and the norm, are others than the base's."""
    folder = save_model(tmp_path / "model", model_type, tokenizer=False)
    (vector,) = baked(folder, tmp_path / "out").carried.vectors
    target = opened(folder)
    calibration = by_hand(target)
    slot, w, t = int(str(vector.slot)), calibration.directions[1], float(calibration.levels[1])
    old, new = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "out"))
    network = live(folder).model.layers[1].mlp
    act = network.act_fn if hasattr(network, "act_fn") else network.activation_fn
    activated = act(torch.tensor([t], dtype=torch.float64)).item()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    layer = "model.layers.1."
    wanted = value_of(target)
    if model_type == "phi3":
        assert changed == {layer + "mlp.gate_up_proj.weight", layer + "mlp.down_proj.weight"}
        gate, up = new[layer + "mlp.gate_up_proj.weight"].chunk(2)
    else:
        gate, up = new[layer + "mlp.gate_proj.weight"], new[layer + "mlp.up_proj.weight"]
        norm = layer + "post_feedforward_layernorm.weight"
        norms = {norm} if model_type == "gemma3_text" else set()
        assert changed == {layer + f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")} | norms
        if norms:
            g = 1 + old[norm].double().numpy()
            wanted = 0.8 * wanted / g
            gain = np.sqrt(1 + np.mean(wanted**2) / 0.8**2)
            assert np.allclose(1 + new[norm].double().numpy(), gain * g, atol=1e-6)
    assert np.allclose(gate[slot].double().numpy(), t * w, atol=1e-6)
    assert np.allclose(up[slot].double().numpy(), w, atol=1e-6)
    down = new[layer + "mlp.down_proj.weight"][:, slot].double().numpy()
    assert np.allclose(down, wanted / activated, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_beside_neurons_and_tokens(model_type: str, tmp_path: Path) -> None:
    folder, out = save_model(tmp_path / "model", model_type, tokenizer=False), tmp_path / "out"
    target = opened(folder)
    neurons = to_steer(target.feed_forward.layers, target.feed_forward.width)
    edits = (FRENCH, replace(FRENCH, language="en", strength=0.5), replace(FRENCH, point="embedding"), *REDIRECTS)
    edits = (*edits, Edit("off", "deactivate"), Edit("xx", "add", 1.5, "mean"))
    result = baked(folder, out, *edits, neurons=neurons)
    assert verify_bytes(out, target, neurons).problems == ()
    assert proved(folder, load_model(out, device="cpu"), neurons, out=out).problems == ()
    assert len(result.carried.vectors) == 1  # two at one point are one
    assert set(result.manifest.activated) == {"fr", "en", "xx"}


def test_a_vector_in_another_layer_is_no_proof(tmp_path: Path) -> None:
    folder, out = save_model(tmp_path / "model", "gpt2", tokenizer=False), tmp_path / "out"
    (vector,) = baked(folder, out).carried.vectors
    ours = load_model(out, device="cpu")
    amount = torch.from_numpy(vector.added).float()
    with torch.no_grad():
        ours.transformer.h[0].mlp.c_proj.bias += amount
        ours.transformer.h[1].mlp.c_proj.bias -= amount
    assert proved(folder, ours, out=out).problems


def test_recorded_means_are_the_models(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "gemma3_text")
    target, texts = opened(folder), open_corpus([str(save_corpus(tmp_path / "texts"))])
    found = record_residual(target, texts, device="cpu")
    base = live(folder)
    packed = read_texts(target, texts, tokens=TOKENS, context=CONTEXT)
    for number, code in enumerate(sorted(packed)):
        kept = []
        for context in packed[code].contexts:
            with torch.inference_mode():
                states = base.model(input_ids=torch.from_numpy(context)[None], output_hidden_states=True).hidden_states
            kept.append(states[2][0, 1:].double())  # after layer 1; the last would be behind the final norm
        assert np.allclose(torch.cat(kept).mean(0).numpy(), found.centres[number, 1], atol=1e-4)
    assert (found.rms > 0).all()


def test_the_file_keeps_what_was_recorded(tmp_path: Path) -> None:
    vocabulary = learned(opened(save_model(tmp_path / "model", "llama", tokenizer=False)))
    vocabulary_file.save(vocabulary, tmp_path / "v")
    again = vocabulary_file.load(tmp_path / "v")
    assert vocabulary_file.serialise(again) == vocabulary_file.serialise(vocabulary)
    assert np.array_equal(again.residual.centres, vocabulary.residual.centres)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (replace(FRENCH, point=LAYERS), "the last one is 2"),
        (replace(FRENCH, language="de"), "no vector of de after layer 1"),
        (replace(FRENCH, strength=1e300), "doesn't fit"),
    ],
)
def test_what_cannot_be_added(edit: Edit, reason: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "llama", tokenizer=False)
    with pytest.raises(RecipeError, match=reason):
        baked(folder, tmp_path / "out", edit)
    assert not (tmp_path / "out").exists()


def test_without_what_is_needed(tmp_path: Path) -> None:
    """A calibration, centres after the layers, one network a layer that is added as it is."""
    target, out = opened(save_model(tmp_path / "model", "llama", tokenizer=False)), tmp_path / "out"
    recipe = Recipe(Base("tiny"), (FRENCH,))
    with pytest.raises(RecipeError, match="record what it takes with `monoglot detect --calibrate`"):
        bake(target, NONE, recipe, out, vocabulary=learned(target))
    with pytest.raises(RecipeError, match="no centres after the layers"):
        bake(target, NONE, recipe, out, vocabulary=vocabulary_of(target), calibration=by_hand(target))
    with pytest.raises(RecipeError, match="is worse than"):
        bake(target, NONE, recipe, out, vocabulary=learned(target), calibration=by_hand(target, after=0.5))
    mixture = opened(save_model(tmp_path / "mixture", "mixtral", tokenizer=False))
    with pytest.raises(RecipeError, match="no vector can be added after a layer"):
        layer_vectors(mixture, recipe, learned(mixture), Plan((), {}, {}), NONE, biased=False)
    for model_type in set(KNOWN) - set(residual.KNOWN):
        stranger = replace(target, feed_forward=replace(target.feed_forward, model_type=model_type))
        with pytest.raises(ModelError, match="Add it at the embedding"):
            residual.route_of(stranger)


def test_the_control_is_as_long(tmp_path: Path) -> None:
    """In another direction, after the same layer; and it is what stands beside the checkpoint in the proof."""
    folder, out = save_model(tmp_path / "model", "gpt2", tokenizer=False), tmp_path / "out"
    (vector,) = baked(folder, out).carried.vectors
    (drawn,) = random_vectors([vector])
    assert np.linalg.norm(drawn.value) == pytest.approx(np.linalg.norm(vector.value))
    assert abs(drawn.value @ vector.value) < 0.9 * np.linalg.norm(vector.value) ** 2
    losses = proved(folder, load_model(out, device="cpu"), out=out).measured.log_loss
    assert abs(losses["random neurons"]["en"] - losses["base"]["en"]) > 1e-4
