"""From a model and a corpus to statistics: what is checked before the model is built, and what is recorded."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny

from monoglot.editor.errors import CorpusError, MonoglotWarning, StatisticsError
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.statistics import detect as detection
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.histogram import ZERO
from monoglot.editor.statistics.sample import HELD_OUT_TOKENS
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import fitting_context, read_texts


@pytest.fixture(scope="module")
def target(model: Path) -> Target:
    return open_target(resolve(str(model)))


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model must not be built."""

    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr(detection, "load_model", build)


def test_statistics_of_a_model_and_a_corpus(target: Target, corpus: Path) -> None:
    texts = open_corpus([str(corpus)])
    found = detect(target, texts, tokens=600, context=64, minimum=100, device="cpu")
    assert found.tokens == {"en": 600, "fr": 600, "zh": 600}
    assert found.model == model_info(target)
    assert (found.model.name, found.model.layers, found.model.width) == ("tiny", tiny.LAYERS, tiny.WIDTH)
    assert found.settings == {"context": 64, "dtype": "float32"}
    packed = read_texts(target, texts, tokens=600, context=64)
    assert found.texts == {language: (one.sha256,) for language, one in packed.items()}
    for language in found.languages:
        assert found.active_count[language].shape == (tiny.LAYERS, tiny.WIDTH)
        assert 0 <= found.active_count[language].min() < found.active_count[language].max() <= 600
        assert np.isfinite(found.total[language]).all()


def test_held_out_documents_are_not_recorded(target: Target, corpus: Path) -> None:
    texts = open_corpus([str(corpus)])
    found, held = (read_texts(target, texts, tokens=10**6, context=64, held_out=out)["en"] for out in (False, True))
    assert held.tokens / (found.tokens + held.tokens) == pytest.approx(0.2, abs=0.02)
    assert found.sha256 != held.sha256


def test_a_context_is_no_longer_than_the_model_reads(target: Target, corpus: Path) -> None:
    texts = open_corpus([str(corpus)], ["en"])
    packed = read_texts(target, texts, tokens=600, context=4_096)
    assert {len(context) for context in packed["en"].contexts[:-1]} == {128}
    found = detect(target, texts, tokens=300, context=4_096, minimum=100, device="cpu")
    assert found.settings["context"] == 128


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_positions", "max_seq_len"])
@pytest.mark.parametrize("nested", [False, True])
def test_where_a_config_says_how_long_a_context_may_be(key: str, nested: bool, model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "copy"))
    values = {key: 40}
    tiny.edit_config(folder, max_position_embeddings=None)
    tiny.edit_config(folder, **({"text_config": {"model_type": "llama", **values}} if nested else values))
    target = open_target(resolve(str(folder)))
    assert [fitting_context(target, context) for context in (39, 40, 512)] == [39, 40, 40]


@pytest.mark.usefixtures("unbuilt")
def test_too_little_text_is_refused_before_the_model_is_built(target: Target, corpus: Path) -> None:
    texts = open_corpus([str(corpus)])
    with pytest.raises(CorpusError, match=r"(en|fr|zh) has [\d,]+ tokens of text, [\d,]+ fewer than the 100,000"):
        detect(target, texts, tokens=10**6, minimum=100_000)
    with pytest.raises(CorpusError, match=r"a context of 8 tokens is too short; 16 is the least"):
        detect(target, texts, context=8)


@pytest.mark.usefixtures("unbuilt")
def test_text_in_another_language_is_warned_of(target: Target, corpus: Path) -> None:
    texts = open_corpus([f"fr={corpus / 'en.txt'}", f"zh={corpus / 'zh.txt'}"])
    with pytest.warns(
        MonoglotWarning, match=r"100% of the fr text that is read \(en\.txt\) seems .* mostly en\."
    ) as caught:
        detection.prepare(target, texts, tokens=100, context=64, minimum=100)
    assert len(caught) == 1  # none of the Chinese
    mixed = open_corpus([f"fr={corpus / 'fr.txt'}", f"fr={corpus / 'en.txt'}"])
    with pytest.warns(MonoglotWarning, match=r"[3-6]\d% of the fr text that is read"):
        detection.prepare(target, mixed, tokens=10**6, context=64, minimum=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detection.prepare(target, open_corpus([str(corpus)]), tokens=100, context=64, minimum=100)


def test_arithmetic_and_batches_as_asked_for(target: Target, corpus: Path) -> None:
    texts = open_corpus([str(corpus)], ["en", "fr"])
    options: dict[str, Any] = {"tokens": 300, "context": 32, "minimum": 100, "device": "cpu"}
    plain = detect(target, texts, **options)
    by_one = detect(target, texts, batch_size=1, **options)
    rough = detect(target, texts, dtype="bfloat16", **options)
    assert plain.settings == by_one.settings
    assert rough.settings == {"context": 32, "dtype": "bfloat16"}
    for language in plain.languages:
        assert (plain.active_count[language] == by_one.active_count[language]).all()
        assert plain.total[language] == pytest.approx(by_one.total[language], abs=1e-4)
        difference = np.abs(plain.total[language] - rough.total[language]).max()
        assert 1e-4 < difference < 0.05 * np.abs(plain.total[language]).max()


def test_statistics_that_still_fit_are_returned(target: Target, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = open_corpus([str(corpus)])
    options: dict[str, Any] = {"tokens": 300, "minimum": 100, "device": "cpu"}
    found = detect(target, texts, context=32, **options)
    monkeypatch.setattr(detection, "load_model", lambda *_, **__: pytest.fail("built"))
    assert detect(target, texts, context=32, reuse=found, **options) is found
    for other in ({"context": 33}, {"context": 32, "dtype": "bfloat16"}, {"context": 32, "tokens": 299}):
        with pytest.raises(pytest.fail.Exception, match="built"):
            detect(target, texts, reuse=found, **{**options, **other})  # type: ignore[arg-type]


def test_histograms_and_inputs_on_request(target: Target, corpus: Path) -> None:
    texts = open_corpus([str(corpus)])
    options: dict[str, Any] = {"tokens": 300, "minimum": 100, "device": "cpu", "context": 64}
    plain, full = (
        detect(target, texts, **options, quantiles=more, calibrate=more, lean=not more) for more in (False, True)
    )
    assert (plain.histogram, plain.inputs) == (None, None)
    assert full.settings == plain.settings
    assert full.histogram is not None
    assert full.inputs is not None
    for language in texts:
        assert (full.active_count[language] == plain.active_count[language]).all()
        assert full.total[language].tobytes() == plain.total[language].tobytes()
        assert (full.histogram[language].sum(axis=-1) == 300).all()
        # what lies in the positive bins is what was counted as active
        assert (full.histogram[language][:, :, ZERO + 1 :].sum(axis=-1) == full.active_count[language]).all()
    assert (full.inputs.tokens, full.inputs.contexts) == (900, 3 * 5)  # 63 tokens a context
    assert (full.inputs.layers, full.inputs.hidden) == (tiny.LAYERS, tiny.HIDDEN)
    held_out = read_texts(target, texts, tokens=HELD_OUT_TOKENS, context=64, held_out=True)
    assert [(part.language, part.sha256) for part in full.inputs.sample.parts] == [
        (language, one.sha256) for language, one in held_out.items()
    ]
    assert full.inputs.sample.x[0].shape == (3 * 256, tiny.HIDDEN)


def test_statistics_are_reused_when_they_hold_what_is_asked_for(
    target: Target, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = open_corpus([str(corpus)])
    options: dict[str, Any] = {"tokens": 300, "minimum": 100, "device": "cpu", "context": 64}
    plain, full = (detect(target, texts, **options, quantiles=more, calibrate=more) for more in (False, True))
    only_histograms = replace(full, inputs=None)
    monkeypatch.setattr(detection, "load_model", lambda *_, **__: pytest.fail("built"))
    for quantiles in (False, True):
        for calibrate in (False, True):
            assert detect(target, texts, reuse=full, quantiles=quantiles, calibrate=calibrate, **options) is full
    assert detect(target, texts, reuse=only_histograms, quantiles=True, **options) is only_histograms
    monkeypatch.setattr(detection, "HELD_OUT_TOKENS", 500)
    for reuse, more in (
        (plain, {"quantiles": True}),
        (plain, {"calibrate": True}),
        (only_histograms, {"calibrate": True}),
        (full, {"calibrate": True}),  # another held-out text
    ):
        with pytest.raises(pytest.fail.Exception, match="built"):
            detect(target, texts, reuse=reuse, **options, **more)


@pytest.mark.usefixtures("unbuilt")
def test_calibration_needs_held_out_text(target: Target, tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("\n\n".join([tiny.TEXT["fr"]] * 4))  # the fifth would be held out
    with pytest.raises(
        CorpusError, match=r"fr has too few documents for one to be held out.* or leave `calibrate` out"
    ):
        detect(target, open_corpus([str(tmp_path)]), tokens=100, context=64, minimum=10, calibrate=True)


def test_a_broken_checkpoint_is_an_error(model: Path, tmp_path: Path, corpus: Path) -> None:
    """A weight that is NaN: the neuron would pass for one that is never active."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(model, tmp_path / "nan"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.gate_proj.weight"][3, 3] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StatisticsError, match=r"layer 1 puts out NaN or infinity"):
        detect(open_target(resolve(str(folder))), open_corpus([str(corpus)]), tokens=300, minimum=100, device="cpu")
