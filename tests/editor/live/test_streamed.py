"""Layer by layer a model gives the log-losses that it gives whole, under hooks too."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny
from support.proved import baked

from monoglot.editor.edits.hooks import steered, unrouted
from monoglot.editor.edits.plan import LayerPlan, Plan
from monoglot.editor.errors import ModelError, MonoglotWarning
from monoglot.editor.live import memory
from monoglot.editor.live import streamed as streaming_module
from monoglot.editor.live.layered import open_layered
from monoglot.editor.live.load import load_model
from monoglot.editor.live.log_loss import Measured, measure
from monoglot.editor.live.logits import Variant
from monoglot.editor.live.modules import activation_modules, layer_modules, router_biases
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof.logits import verify_live
from monoglot.editor.statistics.record_residual import record_residual
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import read_texts

SOME = ("llama", "gpt2", "opt+postnorm", "gemma2", "gemma3n_text", "granite", "cohere", "biogpt", "ctrl", "xglm", "mpt",
        "qwen2+tied", "mixtral", "gpt_oss", "nemotron_h", "jamba", "qwen3_next", "deepseek_v3", "gemma3", "qwen2_vl",
        "qwen3_5")  # fmt: skip


def off(model: Any, target: Target) -> AbstractContextManager[None]:
    """A third of each block's neurons switched off, by hooks."""
    layers = []
    for block in target.feed_forward.networks:
        own = np.arange(0, block.width, 3)
        zeros = np.zeros(len(own))
        layers.append(LayerPlan(own, zeros, zeros, zeros))
    return steered(activation_modules(model, target.feed_forward.family), Plan(tuple(layers), {}, {}))


def losses(
    folder: Path, corpus: Path, by_layer: bool, inside: Callable[[Any, Target], AbstractContextManager[None]] = off
) -> Measured:
    target = open_target(resolve(str(folder)))
    texts = read_texts(target, open_corpus([str(corpus)]), tokens=150, context=48)
    layered = [open_layered(folder, device="cpu")] if by_layer else []
    model = layered[0].skeleton.model if by_layer else load_model(folder, device="cpu")
    variants = [Variant("plain", model), Variant("off", model, partial(inside, model, target))]
    return measure(variants, texts, compare=["off"], to="plain", layered=layered)


def assert_same(found: Measured, expected: Measured) -> None:
    assert found.tokens == expected.tokens
    for name, by in expected.log_loss.items():
        for language, loss in by.items():
            assert found.log_loss[name][language] == pytest.approx(loss, rel=1e-6), (name, language)
    for language, one in expected.difference["off"].items():
        own = found.difference["off"][language]
        assert (own.positions, own.same_top) == (one.positions, one.same_top)
        assert own.max_logit == pytest.approx(one.max_logit, rel=1e-4)
    assert any(abs(expected.log_loss["off"][k] - loss) > 1e-3 for k, loss in expected.log_loss["plain"].items())


@pytest.mark.parametrize("name", SOME)
def test_log_losses_are_those_of_the_whole_model(name: str, tmp_path: Path, corpus: Path) -> None:
    case = tiny.CASES.get(name) or tiny.Case(name, {})
    tiny.need(case.model_type)
    if case.model_type in tiny.MIXTURES:
        tiny.need_5("experts run in one module from transformers 5 on")
    folder = tiny.save_model(tmp_path / "model", case.model_type, **case.config)
    assert_same(losses(folder, corpus, True), losses(folder, corpus, False))


def test_hooks_on_layers_and_on_the_embedding_run_once(tmp_path: Path, corpus: Path) -> None:
    """A vector after a layer, and tokens that are moved: neither is added again when the next layer runs."""
    folder = tiny.save_model(tmp_path / "model", num_hidden_layers=4)

    @contextmanager
    def inside(model: Any, target: Target) -> Any:
        def plus(module: Any, inputs: Any, output: Any) -> Any:
            return output + 1.0

        with ExitStack() as stack:
            for module in (model.get_input_embeddings(), *layer_modules(model, target.feed_forward.family)[1:3]):
                stack.callback(module.register_forward_hook(plus).remove)
            yield

    assert_same(losses(folder, corpus, True, inside), losses(folder, corpus, False, inside))


def test_experts_that_a_router_does_not_choose(tmp_path: Path, corpus: Path) -> None:
    """The bias that is changed is that of the layer at work, not one that was forgotten."""
    folder = tiny.save_model(tmp_path / "model", "deepseek_v3")

    looked_up: dict[int, Any] = {}

    def inside(model: Any, target: Target) -> AbstractContextManager[None]:
        routers = looked_up.setdefault(
            id(model), router_biases(model, target.feed_forward.family)
        )  # before any layer runs
        return unrouted(routers, Plan((), {}, {}, experts=((1, 0), (2, 1))))

    assert_same(losses(folder, corpus, True, inside), losses(folder, corpus, False, inside))


@pytest.fixture(scope="module")
def target(model: Path) -> Target:
    return open_target(resolve(str(model)))


@pytest.mark.parametrize("where", ["in memory", "on disk"])
def test_a_proof_is_that_of_the_whole_models(
    where: str, target: Target, neurons_file: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "on disk":
        monkeypatch.setattr(streaming_module, "plan_layers", lambda *_: (True, 0))
    out = baked(target, neurons_file, tmp_path / "out")
    found, own = {}, neurons.load(out / "neurons.json")
    for stream in ("off", "layers"):
        found[stream] = verify_live(
            out, target, own, open_corpus([str(corpus)]), tokens=120, context=64, device="cpu",
            streaming=Streaming(stream, scratch=tmp_path),
        )  # fmt: skip
    whole, by_layer = found["off"], found["layers"]
    assert by_layer.problems == whole.problems == ()
    assert by_layer.measured.tokens == whole.measured.tokens
    for name, by in whole.measured.log_loss.items():
        assert by_layer.measured.log_loss[name] == pytest.approx(by, rel=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_auto_looks_at_both_models_of_a_proof(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = target.source.folder
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    monkeypatch.setattr(memory, "resident", lambda: 0)
    streaming = Streaming(memory=int(1.5 * size))
    assert not streaming.chosen(folder, device="cpu")
    assert streaming.chosen(folder, device="cpu", models=2)


def test_a_model_that_will_not_fit_whole_is_told(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = target.source.folder
    size = memory.size_of(folder, device="cpu")
    monkeypatch.setattr(memory, "available", lambda: 2 * size)
    memory.warn_of_size(folder, device="cpu")
    with pytest.warns(MonoglotWarning, match=f"{folder.name} 3 times takes .* in memory, and .* are free"):
        memory.warn_of_size(folder, device="cpu", models=3)


def test_no_room_for_one_layer(model: Path, corpus: Path) -> None:
    layered = open_layered(model, device="cpu")
    texts = read_texts(open_target(resolve(str(model))), open_corpus([str(corpus)]), tokens=60, context=32)
    with pytest.raises(ModelError, match=r"no room for one layer"):
        measure([Variant("plain", layered.skeleton.model)], texts, layered=[layered], streaming=Streaming(memory=1))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_means_of_the_residual_stream_are_those_of_the_whole_model(name: str, tmp_path: Path, corpus: Path) -> None:
    target = open_target(resolve(str(tiny.save_model(tmp_path / "model", name))))
    texts = open_corpus([str(corpus)])
    whole, by_layer = (
        record_residual(target, texts, device="cpu", streaming=Streaming(stream)) for stream in ("off", "layers")
    )
    np.testing.assert_allclose(by_layer.centres, whole.centres, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(by_layer.rms, whole.rms, rtol=1e-9)
    assert np.abs(whole.centres).max() > 0.01
