"""Fixtures that most tests share: one tiny Llama, one corpus, the neurons found with them."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support import tiny

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test talks to the network

# MKL chooses its kernels by where the numbers lie in memory, and so the last bit of a float32 sum, unless it is told not to;
# whole and layer by layer the same weights lie at other addresses
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# an example takes what a busy machine lets it take: time is measured by benchmarks, never asserted
hypothesis.settings.register_profile("monoglot", deadline=None)
hypothesis.settings.load_profile("monoglot")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in one file, float32. Tests must not write into it."""
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def neurons_file(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """neurons.json of the tiny Llama: a few neurons per language, some of them shared."""
    import numpy as np

    from monoglot.editor.models.source import resolve
    from monoglot.editor.models.target import model_info, open_target
    from monoglot.editor.neurons import neurons

    path = tmp_path_factory.mktemp("neurons") / "neurons.json"
    info = model_info(open_target(resolve(str(model))))
    by_language = {"en": [[0, 5], [], [23]], "fr": [[3, 5, 7], [1], [2, 4]], "zh": [[6, 7], [9, 11], [12]]}
    indices = {k: tuple(np.array(layer, dtype=np.int64) for layer in layers) for k, layers in by_language.items()}
    neurons.save(neurons.Neurons(indices, {}, info, {"name": "hand"}), path)
    return path


@pytest.fixture(scope="session")
def planted() -> Any:
    """The planted neurons of the embedded model. Their means are rounded from what `find` gives: about the same for all
    neurons of a layer."""
    import numpy as np

    from monoglot.editor import embedded
    from monoglot.editor.neurons.neurons import Neurons

    data = json.loads((embedded.MODEL / "planted.json").read_text())["languages"]
    indices = {k: tuple(np.array(layer, np.int64) for layer in layers) for k, layers in data.items()}
    by_layer = (5.0, 2.0, 2.0, 2.0, 2.0, 3.0)
    means = {
        k: tuple(np.full(len(layer), value) for layer, value in zip(layers, by_layer, strict=True))
        for k, layers in indices.items()
    }
    return Neurons(indices, {"mean": means}, None, {"name": "hand"})


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a tiny model's folder, once per configuration. Skips where the installed transformers has no such family.
    Tests must not write into it."""
    made: dict[str, Path] = {}

    def save(model_type: str, *, tokenizer: bool = False, **config: Any) -> Path:
        tiny.need(model_type)
        key = json.dumps([model_type, tokenizer, config])
        if key not in made:
            folder = tmp_path_factory.mktemp("base") / model_type
            made[key] = tiny.save_model(folder, model_type, tokenizer=tokenizer, **config)
        return made[key]

    return save


@pytest.fixture
def monoglot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line here; gives its exit code, stdout and stderr. Its own warnings are shown, not raised."""
    from monoglot.cli import main as dispatcher
    from monoglot.editor.errors import MonoglotWarning

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["monoglot", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=MonoglotWarning)
            try:
                dispatcher.main()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On arrays this small a second thread only waits, and on a busy machine for long."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
