"""Neurons files that `monoglot bake` refuses."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from support.bad_input import Place, change_json


def set_neurons(values: Any) -> Callable[[Any], None]:
    return lambda data: data["languages"]["fr"][1].update(neurons=values)


def without(*path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def fewer_layers(data: Any) -> None:
    for language in data["languages"]:
        data["languages"][language].pop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fewer_layers, ("of a model with 2 layers", "has 3")),
        (without("languages", "fr", 0), ("different numbers of layers",)),
        (lambda data: data["model"].update(width=25), ("of a model with 25 neurons a layer", "has 24")),
        (set_neurons([24]), ("fr, layer 1", "there is no neuron 24", "has 24")),
        (set_neurons([-1]), ("fr, layer 1", "neuron -1 is negative")),
        (set_neurons([3, 3]), ("fr, layer 1", "not in order, each once")),
        (set_neurons([5, 3]), ("fr, layer 1", "not in order, each once")),
        (set_neurons([1.0]), ("fr, layer 1", "not a list of whole numbers")),
        (set_neurons([True]), ("fr, layer 1", "not a list of whole numbers")),
        (set_neurons(["1"]), ("fr, layer 1", "not a list of whole numbers")),
        (set_neurons([None]), ("fr, layer 1", "not a list of whole numbers")),
        (set_neurons(7), ("fr, layer 1", "not a list of whole numbers")),
        (set_neurons([2**70]), ("is not a neurons file", "monoglot find")),
        (without("languages", "fr", 1, "neurons"), ("is not a neurons file", "monoglot find")),
        (lambda data: data.update(format=2), ("has format 2, this version reads 1", "Upgrade monoglot")),
        (without("format"), ("is not a neurons file",)),
        (lambda data: data.update(languages={}), ("there are none",)),
        (lambda data: data.update(languages=[]), ("is not a neurons file",)),
        (without("model", "width"), ("is not a neurons file",)),
        (lambda data: data["model"].update(more=1), ("is not a neurons file",)),
        (lambda data: [data], ("is not a neurons file",)),
        (without("languages", "fr"), ("no neurons for 'fr'", "there are for en, zh")),
        (lambda data: data["languages"].update(fr=[{"neurons": []}] * 3), ("no neuron of fr would be edited",)),
    ],
)
def test_malformed_neurons(place: Place, change: Callable[[Any], Any], words: tuple[str, ...]) -> None:
    change_json(place.neurons, change)
    place.refused(*words)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"format": 1, "format": 1}', b'{"x": "\\ud800"}']
)
def test_neurons_that_are_not_json(place: Place, text: bytes) -> None:
    place.neurons.write_bytes(text)
    place.refused(str(place.neurons), "is not a neurons file", "monoglot find")


def test_neurons_missing(place: Place) -> None:
    place.neurons.unlink()
    place.refused(f"there is no file {place.neurons}", "monoglot find")


def test_neurons_that_are_a_folder(place: Place) -> None:
    place.neurons.unlink()
    place.neurons.mkdir()
    place.refused(f"there is no file {place.neurons}", "monoglot find")


@pytest.mark.parametrize("language", ["xx", "FR", "fr ja", os.fsdecode(b"\xff"), "f" * 5000])
def test_language_that_has_no_neurons(place: Place, language: str) -> None:
    place.refused("there are no neurons for", "there are for en, fr, zh", options=("--deactivate", language))


def test_all_neurons_shared(place: Place) -> None:
    change_json(place.neurons, lambda data: data["languages"].update(en=data["languages"]["fr"]))
    place.refused("no neuron of fr would be edited", "All 6 are shared", "--shared edit")
