"""Layer profile and overlap, counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.neurons.profile import ends, overlap, profile


def made(by_language: dict[str, list[list[int]]]) -> Neurons:
    return Neurons({k: tuple(np.array(layer, np.int64) for layer in layers) for k, layers in by_language.items()})


def test_by_hand() -> None:
    neurons = made({"en": [[0, 5], [2]], "fr": [[0, 5, 7], [3]], "zh": [[], []]})
    assert profile(neurons) == {"en": [2, 1], "fr": [3, 1], "zh": [0, 0]}
    found = overlap(neurons)
    assert found.neurons == {"en": 3, "fr": 4, "zh": 0}
    assert found.shared == {"en": {"fr": 2, "zh": 0}, "fr": {"en": 2, "zh": 0}, "zh": {"en": 0, "fr": 0}}
    assert found.jaccard["en"] == {"fr": pytest.approx(2 / 5), "zh": 0}


@given(st.lists(st.lists(st.sets(st.integers(0, 6)), min_size=2, max_size=2), min_size=1, max_size=4))
def test_against_loops(drawn: list[list[set[int]]]) -> None:
    by_language = {f"l{k}": [sorted(layer) for layer in layers] for k, layers in enumerate(drawn)}
    found = overlap(made(by_language))
    for a, own in by_language.items():
        for b, theirs in by_language.items():
            both = sum(j in theirs[i] for i, layer in enumerate(own) for j in layer)
            either = sum(len(set(own[i]) | set(theirs[i])) for i in range(2))
            if a != b:
                assert found.shared[a][b] == both and found.shared[b][a] == both
                assert found.jaccard[a][b] == (both / either if either else 0)
        assert a not in found.shared[a] and a not in found.jaccard[a]


def test_ends() -> None:
    assert ends([1, 1, 1, 1]) == 0.5
    assert ends([4, 0, 0, 0, 0, 0, 1, 3]) == 1
    assert ends([0, 0, 5, 0]) == 0
    assert ends([0, 0]) is None
    assert ends([3]) == 1
    assert ends([1] * 18) == 8 / 18
