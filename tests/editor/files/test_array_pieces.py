"""A safetensors file that is written piece by piece is the one that safetensors writes."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from monoglot.editor.files.array_pieces import Stacked, pieces

RANDOM = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    "zh.total": RANDOM.normal(size=(3, 5)),
    "a.ids": np.arange(7),
    "a.counts": np.arange(4).reshape(2, 2),
    "ü.x": RANDOM.normal(size=(2, 3, 4)).astype(np.float32),
    "bins": np.arange(6, dtype=np.uint32),
    "kinds": np.array([1, 2, 3], np.uint8),
    "none": np.zeros((0, 3), np.float32),
    "turned": RANDOM.normal(size=(4, 6)).T,
}


@pytest.mark.parametrize("said", ["", "x", 'a \u00e9 \u4e2d \x1f " \\ \n'])
def test_it_is_what_safetensors_writes(said: str) -> None:
    made = b"".join(pieces(ARRAYS, {"about": said}))
    assert made == save({name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}, metadata={"about": said})


def test_an_array_is_taken_layer_by_layer() -> None:
    taken: list[int] = []

    class Layers(list[Any]):
        def __iter__(self) -> Any:
            for number, layer in enumerate(super().__iter__()):
                taken.append(number)
                yield layer

    layers = Layers(RANDOM.normal(size=(3, 2, 2)))
    made = []
    for piece in pieces({"moments": Stacked(layers)}, {}):
        made.append(bytes(piece))
        assert len(taken) == len(made) - 1  # the header first, then one layer with each piece
    assert b"".join(made) == save({"moments": np.array(list(layers))}, metadata={})
