"""A tiny GGUF file, its neurons, and what is baked from them."""

from pathlib import Path

import pytest
from support import ggufs
from support.baked_ggufs import OFF

from monoglot.editor.gguf.bake import BakedGguf, bake_gguf
from monoglot.editor.neurons import neurons
from monoglot.editor.neurons.neurons import Neurons


@pytest.fixture
def found(neurons_file: Path) -> Neurons:
    return neurons.load(neurons_file)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return ggufs.write(tmp_path / "m.gguf", bias=True)


@pytest.fixture
def baked(base: Path, found: Neurons, tmp_path: Path) -> BakedGguf:
    return bake_gguf(base, found, OFF, tmp_path / "out.gguf")
