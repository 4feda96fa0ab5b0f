"""The neurons file, and the authors' masks: what is written is what is read."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monoglot.editor.errors import NeuronsError
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons.mask import read_mask
from monoglot.editor.neurons.mask import read_mask as import_mask
from monoglot.editor.neurons.mask import write_mask as export_mask
from monoglot.editor.neurons.neurons import SETTINGS, Neurons, check_fit, check_languages, load, save, serialise

INFO = ModelInfo("org/model", "abc", "llama", 3, 24, "f" * 64)


def make(
    by_language: dict[str, list[list[int]]], statistics: tuple[str, ...] = ("mean",), model: ModelInfo | None = INFO
) -> Neurons:
    indices = {k: tuple(np.array(layer, np.int64) for layer in layers) for k, layers in by_language.items()}
    values = {
        statistic: {k: tuple(layer / 7 - number for layer in layers) for k, layers in indices.items()}
        for number, statistic in enumerate(statistics)
    }
    return Neurons(
        indices,
        values,
        model,
        {"name": "lape", "rate": 0.01, "quantile": 0.95, "tokens": {"zh": 9, "en": 8}},
    )


SOME = {"zh": [[0, 5], [], [23]], "en": [[], [], []], "fr": [[5], [1, 2, 3], [0]]}


def lists(found: Neurons) -> dict[str, list[list[int]]]:
    return {language: [layer.tolist() for layer in layers] for language, layers in found.indices.items()}


@pytest.mark.parametrize("statistics", [(), ("mean",), ("mean", "median", "p90")])
@pytest.mark.parametrize("model", [INFO, None])
def test_round_trip(tmp_path: Path, statistics: tuple[str, ...], model: ModelInfo | None) -> None:
    made = make(SOME, statistics, model)
    save(made, tmp_path / "n.json")
    found = load(tmp_path / "n.json")
    assert lists(found) == SOME
    assert found.languages == ("zh", "en", "fr")  # in their order
    assert (found.model, found.method) == (made.model, made.method)
    assert all(layer.dtype == np.int64 for layers in found.indices.values() for layer in layers)
    assert tuple(found.values) == statistics
    for statistic in statistics:
        assert list(found.values[statistic]) == list(SOME)
        for language, layers in made.values[statistic].items():
            for one, two in zip(layers, found.values[statistic][language], strict=True):
                assert two.dtype == np.float64
                assert two == pytest.approx(one, abs=5e-7)
    # what was read is written as the same bytes
    assert serialise(found) == (tmp_path / "n.json").read_text()


def test_the_file_is_a_line_a_layer() -> None:
    text = serialise(make({"zh": [[0, 5], [], [23]]}, statistics=()))
    assert text.endswith(
        '"languages": {\n  "zh": [\n   {"neurons": [0, 5]},\n   {"neurons": []},\n   {"neurons": [23]}\n  ]\n }\n}\n'
    )


def test_values_stand_beside_their_neurons() -> None:
    text = serialise(make({"zh": [[7, 14], []]}, statistics=("mean", "median")))
    assert '   {"neurons": [7, 14], "mean": [1.0, 2.0], "median": [0.0, 1.0]},\n' in text


def test_a_statistic_that_a_language_lacks_is_left_out(tmp_path: Path) -> None:
    text = serialise(make({"zh": [[7, 14]], "en": [[7]]}, statistics=("mean", "median")))
    (tmp_path / "n.json").write_text(text.replace(', "median": [0.0]', ""))
    assert list(load(tmp_path / "n.json").values) == ["mean"]
    (tmp_path / "n.json").write_text(text.replace('"median": [0.0]', '"median": []'))
    with pytest.raises(NeuronsError, match="en has not as many values of median as neurons"):
        load(tmp_path / "n.json")


def test_counts_and_pairs() -> None:
    found = make(SOME)
    assert (found.layers, found.count("zh"), found.count("en"), found.count("fr")) == (3, 3, 0, 5)
    assert found.pairs("zh") == {(0, 0), (0, 5), (2, 23)}


def test_neurons_fit_their_model_and_no_other() -> None:
    found = make(SOME)
    check_fit(found, 3, 24, "tiny")
    with pytest.raises(NeuronsError, match="of a model with 3 layers, tiny has 4"):
        check_fit(found, 4, 24, "tiny")
    with pytest.raises(NeuronsError, match="24 neurons a layer, tiny has 48"):
        check_fit(found, 3, 48, "tiny")
    # a mask doesn't say its width: only its largest index does
    mask = make(SOME, model=None)
    check_fit(mask, 3, 48, "tiny")
    with pytest.raises(NeuronsError, match="zh, layer 2: there is no neuron 23, tiny has 23 a layer"):
        check_fit(mask, 3, 23, "tiny")


def test_a_missing_language_is_named() -> None:
    check_languages(make(SOME), ["fr", "zh"])
    with pytest.raises(NeuronsError, match="no neurons for 'ja'; there are for zh, en, fr"):
        check_languages(make(SOME), ["fr", "ja"])


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(NeuronsError, match=r"no file .*n\.json\. Make one with `monoglot find`"):
        load(tmp_path / "n.json")
    (tmp_path / "n.json").write_text(serialise(make(SOME)).replace('"format": 1', '"format": 2'))
    with pytest.raises(NeuronsError, match=r"has format 2, this version reads 1\. Upgrade monoglot"):
        load(tmp_path / "n.json")


# The authors' masks


def test_masks_go_out_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "model.neuron.pth"
    export_mask(make(SOME), path)
    written = torch.load(path, weights_only=True)
    assert [[layer.tolist() for layer in layers] for layers in written] == list(SOME.values())
    assert all(layer.dtype == torch.int64 for layers in written for layer in layers)
    found = import_mask(path, ["zh", "en", "fr"])
    assert lists(found) == SOME
    assert (found.values, found.model) == ({}, None)
    assert found.method == {"name": "imported", "file": "model.neuron.pth"}
    assert all(layer.dtype == np.int64 for layers in found.indices.values() for layer in layers)


def test_languages_name_a_mask_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save([[torch.tensor([1])], [torch.tensor([2])]], path)
    assert lists(import_mask(path, ["fr", "en"])) == {"fr": [[1]], "en": [[2]]}


@pytest.mark.parametrize(
    "layer",
    [
        torch.tensor([7, 2, 5]),
        torch.tensor([2, 5, 7], dtype=torch.int32),
        torch.tensor([[5], [2], [7]]),
        torch.tensor([9, 2, 9, 5, 9, 7, 9])[1::2],
        torch.tensor([2, 5, 7], requires_grad=False).to(torch.uint8),
    ],
    ids=["unsorted", "int32", "a column", "a view", "uint8"],
)
def test_what_others_wrote_is_read_too(tmp_path: Path, layer: torch.Tensor) -> None:
    path = tmp_path / "m.pth"
    torch.save(([layer, torch.tensor([]), torch.tensor([], dtype=torch.int64)],), path)
    assert lists(import_mask(path, ["fr"])) == {"fr": [[2, 5, 7], [], []]}


@pytest.mark.parametrize("languages", [["en"], ["en", "fr", "zh"], ["en", "en"]])
def test_a_wrong_number_of_languages_is_refused(tmp_path: Path, languages: list[str]) -> None:
    path = tmp_path / "m.pth"
    torch.save([[torch.tensor([1])], [torch.tensor([2])]], path)
    with pytest.raises(NeuronsError, match=rf"has 2 languages; `languages` names {len(set(languages))}"):
        import_mask(path, languages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"en": [torch.tensor([1])]}, "is not a list"),
        ([torch.tensor([1]), torch.tensor([2])], "is not a list"),
        ([[torch.tensor([1.0])], [torch.tensor([1])]], "en is not a list of index tensors"),
        ([[torch.tensor([True, False])], [torch.tensor([1])]], "en is not a list of index tensors"),
        ([[torch.tensor([1j])], [torch.tensor([1])]], "en is not a list of index tensors"),
        ([[[1]], [[2]]], "en is not a list of index tensors"),
        ([[torch.tensor([-1])], [torch.tensor([1])]], "en, layer 0: neuron -1 is negative"),
        ([[torch.tensor([3, 3])], [torch.tensor([1])]], "en, layer 0: .*each once"),
        ([[torch.tensor([1])], [torch.tensor([1])] * 2], "different numbers of layers"),
    ],
)
def test_what_is_not_a_mask_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(NeuronsError, match=message):
        import_mask(tmp_path / "m.pth", ["en", "fr"])


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "torch, old format", "pickle"])
def test_code_in_a_mask_does_not_run(tmp_path: Path, how: str) -> None:
    path, sprung = tmp_path / "m.pth", tmp_path / "sprung"
    if how == "pickle":
        path.write_bytes(pickle.dumps([[Trap(sprung)]]))
    else:
        torch.save([[Trap(sprung)]], path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(NeuronsError, match="not a file of plain tensors, and nothing else is loaded"):
        import_mask(path, ["en"])
    assert not sprung.exists()
    if how == "pickle":  # the trap is one
        pickle.loads(path.read_bytes())  # noqa: S301
        assert sprung.exists()


def test_broken_masks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    export_mask(make(SOME), path)
    whole = path.read_bytes()
    for content in (
        b"",
        b"\x80",
        whole[: len(whole) // 2],
        b"PK\x03\x04" + bytes(99),
        bytes(range(256)),
        b"\x80\x02]q\x00Ra.",
    ):
        path.write_bytes(content)
        with pytest.raises(NeuronsError):
            import_mask(path, list(SOME))
    with pytest.raises(NeuronsError, match="there is no file"):
        read_mask(tmp_path / "nowhere.pth", ["en"])


METHODS: list[dict[str, Any]] = [
    {"name": "lape", "rate": 0.01, "quantile": 0.95},
    {"name": "lap", "threshold": 0.95},
    {"name": "lave", "rate": 0.01, "quantile": 0.95},
    {"name": "pv", "rate": 0.01, "quantile": 0.95},
    {"name": "ap", "rate": 0.01},
    {"name": "random", "seed": 0, "like": {"name": "ap", "rate": 0.01}},
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_the_settings_of_a_method_are_there(method: dict[str, Any], tmp_path: Path) -> None:
    made = Neurons({"en": (np.array([1]),)}, {}, None, method)
    save(made, tmp_path / "n")
    assert load(tmp_path / "n").method == method
    for setting in SETTINGS[method["name"]]:
        for bad in ("0.1", None, True, {"name": "lap"}, {"name": "random", "seed": 0, "like": {"name": "hand"}}):
            save(replace(made, method={**method, setting: bad}), tmp_path / "n")
            with pytest.raises(NeuronsError, match="is not a neurons file"):
                load(tmp_path / "n")
    assert set(SETTINGS) == {each["name"] for each in METHODS}


def test_a_file_whose_model_has_another_number_of_layers_contradicts_itself() -> None:
    info = ModelInfo("tiny", None, "llama", 2, 24, "0" * 64)
    found = Neurons({"en": (np.array([1]),) * 3}, {}, info, {"name": "hand"})
    with pytest.raises(NeuronsError, match=r"has neurons of 3 layers, and says that its model has 2\. Find them again"):
        check_fit(found, 3, 24, "tiny")
