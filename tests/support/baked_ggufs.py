"""What is baked into the tiny GGUF files, and checks of what became of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.gguf import sidecar
from monoglot.editor.gguf.bake import bake_gguf
from monoglot.editor.models.identity import Base
from monoglot.editor.neurons.neurons import Neurons
from support import ggufs

OFF = Recipe(Base("m.gguf"), (Edit("fr", "deactivate"),))
CLEARED = [[3], [1], [2, 4]]  # of French, without 5, which is English too, and 7, which is Chinese too


def check_rows(path: Path, found: Neurons, out: Path, *, first: int) -> None:
    bake_gguf(path, found, OFF, out)
    before, after = ggufs.read(path), ggufs.read(out)
    assert before.keys() == after.keys() and out.stat().st_size == path.stat().st_size
    for name, was in before.items():
        expected, made = was.raw.copy(), after[name]
        assert made[:3] == was[:3]
        layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
        rows = [first + j for j in CLEARED[layer]]
        if name.endswith("ffn_up.weight"):
            assert was.raw[rows].any(axis=1).all()
            expected[rows] = 0
            assert made.numbers is not None and was.numbers is not None
            assert (made.numbers[rows] == 0).all() and (was.numbers[rows] != 0).any()
            others = np.delete(np.arange(len(expected)), rows)
            np.testing.assert_array_equal(made.numbers[others], was.numbers[others])
        elif name.endswith("ffn_up.bias"):
            expected.view(np.float32)[0, rows] = 0
        assert (made.raw == expected).all(), name
    start = min(tensor.begin for tensor in before.values())
    assert path.read_bytes()[:start] == out.read_bytes()[:start]


def renewed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(sidecar.sidecar_of(path).read_text())
    change(record)
    sidecar.sidecar_of(path).write_text(json.dumps(record))
