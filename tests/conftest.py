"""Fixtures that most tests share: one tiny Llama, one corpus, the neurons found with them."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test talks to the network

import tiny


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
    from monoglot.editor import neurons
    from monoglot.editor.bake import open_target
    from monoglot.editor.detect import model_info
    from monoglot.editor.source import resolve

    path = tmp_path_factory.mktemp("neurons") / "neurons.json"
    info = model_info(open_target(resolve(str(model))))
    by_language = {"en": [[0, 5], [], [23]], "fr": [[3, 5, 7], [1], [2, 4]], "zh": [[6, 7], [9, 11], [12]]}
    indices = {k: tuple(np.array(layer, dtype=np.int64) for layer in layers) for k, layers in by_language.items()}
    neurons.save(neurons.Neurons(indices, None, info, {"name": "hand"}), path)
    return path
