"""A model on several devices gives the statistics that it gives on one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny

from monoglot.editor.errors import ModelError
from monoglot.editor.live import spread as spreading
from monoglot.editor.live.spread import Spread
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import statistics
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.recorder import Recorder
from monoglot.editor.statistics.statistics import Statistics
from monoglot.editor.text.corpus import open_corpus

Run = Callable[..., tuple[int, str, str]]
MORE = ("--quantiles", "--per-text", "--calibrate")
OPTIONS = ("--tokens", "300", "--context", "65", "--minimum", "50", "--device", "cpu", "--batch-size", "2", *MORE)


def under_torchrun(folder: Path, corpus: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "monoglot.cli",
               "detect", str(folder), "--corpus", str(corpus), *OPTIONS, "-o", str(output), *more]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def assert_close(found: Statistics, expected: Statistics) -> None:
    """Counts are equal but for a neuron within rounding of 0; sums to the rounding of float32."""
    for language in expected.languages:
        wanted = expected.active_count[language]
        assert np.abs(found.active_count[language] - wanted).max() <= 1
        assert wanted.max() > 1
        np.testing.assert_allclose(found.total[language], expected.total[language], rtol=1e-4, atol=1e-3)
        assert found.histogram and expected.histogram and found.per_text and expected.per_text
        assert np.array_equal(
            found.histogram[language].sum(axis=-1, dtype=np.int64),
            expected.histogram[language].sum(axis=-1, dtype=np.int64),
        )
        np.testing.assert_allclose(found.per_text[language], expected.per_text[language], rtol=1e-3, atol=1e-4)
    assert found.inputs and expected.inputs
    np.testing.assert_allclose(found.inputs.first_moment, expected.inputs.first_moment, rtol=1e-3, atol=1e-2)
    assert found.inputs.contexts == expected.inputs.contexts
    for layer in range(expected.inputs.layers):
        np.testing.assert_allclose(
            found.inputs.second_moment[layer], expected.inputs.second_moment[layer], rtol=1e-3, atol=1e-2
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3"])  # phi3: every process sees all of the neurons
def test_two_processes_with_half_a_model_each_give_what_one_gives(
    name: str, monoglot: Run, corpus: Path, tmp_path: Path
) -> None:
    tiny.need_5("transformers 4 divides a model only where accelerate is installed")
    folder = tiny.save_model(tmp_path / "model", name)
    code, _, err = monoglot("detect", folder, "--corpus", corpus, *OPTIONS, "-o", tmp_path / "one.safetensors")
    assert code == 0, err
    done = under_torchrun(folder, corpus, tmp_path / "two.safetensors", "--tensor-parallel")
    assert done.returncode == 0, done.stderr
    assert_close(*(statistics.load(tmp_path / f"{each}.safetensors") for each in ("two", "one")))


@pytest.mark.slow
def test_two_processes_layer_by_layer_give_what_one_whole_gives(monoglot: Run, corpus: Path, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", "llama")
    code, _, err = monoglot("detect", folder, "--corpus", corpus, *OPTIONS, "-o", tmp_path / "one.safetensors")
    assert code == 0, err
    done = under_torchrun(folder, corpus, tmp_path / "two.safetensors", "--stream", "layers")
    assert done.returncode == 0, done.stderr
    two, one = (statistics.load(tmp_path / f"{each}.safetensors") for each in ("two", "one"))
    assert_close(two, one)
    assert two.sums and one.sums
    for language, sums in one.sums.items():
        assert two.sums[language].positions == sums.positions
        np.testing.assert_allclose(two.sums[language].residual, sums.residual, rtol=1e-5, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "one.safetensors", "two.safetensors"]


def test_a_family_without_a_plan_is_refused(corpus: Path, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", "gpt2")
    done = under_torchrun(folder, corpus, tmp_path / "two.safetensors", "--tensor-parallel")
    assert done.returncode != 0
    assert "plan" in done.stderr
    assert not (tmp_path / "two.safetensors").exists()


@pytest.mark.parametrize("share", [0, 1])
def test_a_worker_adds_to_the_sums_of_its_own_neurons(share: int) -> None:
    whole = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    module = torch.nn.Identity()
    alone, mine = (
        Recorder([module], 6, torch.device("cpu")),
        Recorder([module], 6, torch.device("cpu"), share=(share, 2)),
    )
    for one, given in ((alone, whole), (mine, whole[..., 3 * share : 3 * share + 3])):
        with one.attached():
            one.start(2, 5, 1)
            module(given)
            one.commit()
    own = slice(3 * share, 3 * share + 3)
    assert np.array_equal(mine.active_count[:, own], alone.active_count[:, own])
    assert np.array_equal(mine.total[:, own], alone.total[:, own])
    assert mine.active_count.sum() == alone.active_count[:, own].sum()


def test_device_map_auto_gives_what_one_device_gives(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    folder = tiny.save_model(tmp_path / "model")
    target, texts = open_target(resolve(str(folder))), open_corpus([str(corpus)])
    asked = {"tokens": 300, "context": 65, "minimum": 50, "quantiles": True, "per_text": True, "calibrate": True}
    expected = detect(target, texts, device="cpu", **asked)  # type: ignore[arg-type]
    assert_close(detect(target, texts, spread=Spread("auto"), **asked), expected)  # type: ignore[arg-type]


def test_sums_are_taken_where_the_model_is_or_on_the_cpu() -> None:
    model = torch.nn.Linear(2, 2, device="meta")
    assert spreading.inputs_device(model).type == "cpu"
    model.hf_device_map = {"a": 0, "b": "cpu"}
    assert spreading.sums_device(model).type == "cpu"
    model.hf_device_map = {"": "meta"}
    assert spreading.sums_device(torch.nn.Linear(2, 2)).type == "cpu"


@pytest.mark.parametrize(
    ("spread", "streaming", "message"),
    [
        (Spread("some"), Streaming(), r"'some' is no map of devices.*`device_map` to auto"),
        (Spread("auto", True), Streaming(), r"two ways to spread a model"),
        (Spread(None, True), Streaming(), r"there is one. Start several with torchrun"),
        (Spread("auto"), Streaming("layers"), r"layer by layer needs one device"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(
    spread: Spread, streaming: Streaming, message: str, model: Path, corpus: Path
) -> None:
    pytest.importorskip("accelerate")
    target, texts = open_target(resolve(str(model))), open_corpus([str(corpus)])
    with pytest.raises(ModelError, match=message):
        detect(target, texts, tokens=300, minimum=50, spread=spread, streaming=streaming)


def test_a_mixture_is_not_divided(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monoglot.editor.statistics import detect as detection

    monkeypatch.setattr(detection, "workers", lambda: (0, 2))
    target = open_target(resolve(str(tiny.save_model(tmp_path / "model", "mixtral"))))
    with pytest.raises(ModelError, match=r"mixture of experts, whose experts can't be looked at"):
        detect(target, open_corpus([str(corpus)]), tokens=300, minimum=50, spread=Spread(tensor_parallel=True))


def test_quantised_weights_are_not_spread(corpus: Path, tmp_path: Path) -> None:
    from support import packed_models
    from support.packed_writers import FORMATS

    pytest.importorskip("accelerate")
    folder, _ = packed_models.save(tmp_path, next(name for name in FORMATS if "gptq" in name))
    tiny.save_tokenizer(folder)
    with pytest.raises(ModelError, match=r"is quantised, and its weights can't be spread"):
        detect(
            open_target(resolve(str(folder))), open_corpus([str(corpus)]), tokens=300, context=48, minimum=50,
            spread=Spread("auto"),
        )  # fmt: skip
