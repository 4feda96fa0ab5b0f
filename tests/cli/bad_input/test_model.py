"""Models that `monoglot bake` refuses: none there, none of a known kind, quantised."""

import errno
from pathlib import Path
from typing import Any

import pytest
from support import tiny
from support.bad_input import EDIT, W_OUT, Place, change_header, monoglot, one_message, process
from support.folders import tree


def test_the_unbroken_one_is_baked(place: Place) -> None:
    """Or every refusal below would prove nothing."""
    ended = place.bake()
    assert ended.code == 0 and "neurons edited" in ended.out
    assert (place.out / "monoglot.json").is_file()


@pytest.mark.parametrize(
    ("named", "word"),
    [
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("./no-such-folder", "there is no folder ./no-such-folder"),
        ("a/b/c", "not the id of a Hub model"),
        ("not a model!", "not the id of a Hub model"),
        ("../../etc", "not the id of a Hub model"),
        ("organisation/..", "not the id of a Hub model"),
        ("organisation/name@/etc/hostname", "not the id of a Hub model"),
        ("~nobody-of-this-name/model", "there is no folder ~nobody-of-this-name/model"),
        ("m" * 5000, "there is no folder"),
        (".", "has no config.json"),
        ("gone.gguf/", "not the id of a Hub model"),
    ],
)
def test_no_such_model(place: Place, monkeypatch: pytest.MonkeyPatch, named: str, word: str) -> None:
    (place.root / "empty").mkdir()
    monkeypatch.chdir(place.root / "empty")
    before = tree(place.root)
    one_message(monoglot("bake", named, place.neurons, *EDIT, "-o", place.out), word)
    assert tree(place.root) == before


def test_hub_model_without_network(place: Place, tmp_path: Path) -> None:
    words = ("organisation/model", "could not be reached", "Check the network", "HF_HUB_OFFLINE")
    place.refused(*words, model="organisation/model")
    arguments = ("bake", "organisation/model", place.neurons, *EDIT, "-o", place.out)
    one_message(process(*arguments, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache")), *words)
    assert not place.out.parent.exists()


def test_process_says_the_same(place: Place) -> None:
    (place.model / "config.json").unlink()
    arguments = ("bake", place.model, place.neurons, *EDIT, "-o", place.out)
    assert process(*arguments) == monoglot(*arguments)
    one_message(process(*arguments), "has no config.json")


def test_base_id_that_is_none(place: Place) -> None:
    place.refused("'not an id' is not the id of a Hub model", options=(*EDIT, "--base-id", "not an id"))


def test_file_instead_of_a_folder(place: Place) -> None:
    place.refused("is a file", "Give the folder", model=place.model / "model.safetensors")


def test_gguf_file(place: Place) -> None:
    (place.root / "model.gguf").write_bytes(b"GGUF")
    place.out = place.out.with_suffix(".gguf")
    place.refused("model.gguf breaks off in its header", "Download it again", model=place.root / "model.gguf")


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("model.Q4_K_M.gguf", "GGUF files only"),
        ("pytorch_model.bin", "save_pretrained"),
        ("consolidated.00.pth", "pickled weights only"),
        ("tf_model.h5", "neither model.safetensors nor"),
    ],
)
def test_no_safetensors(place: Place, name: str, word: str, config: bool) -> None:
    (place.model / "model.safetensors").rename(place.model / name)
    if not config:
        (place.model / "config.json").unlink()
    place.refused(str(place.model), word)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes"])
@pytest.mark.parametrize("nested", [False, True])
def test_quantised_says_the_config_and_the_weights_are_floats(place: Place, method: str, nested: bool) -> None:
    config = {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 128}}
    tiny.edit_config(place.model, **({"text_config": config} if nested else config))
    place.refused(str(place.model), f"is quantised ({method})", "the file has weight F32", "download both again")


def test_integers_in_place_of_weights(place: Place) -> None:
    """Quantised without saying so in the config."""

    def integers(header: dict[str, Any]) -> None:
        header[W_OUT]["dtype"] = "I32"
        for layer in (0, 2):
            header[W_OUT.replace("1", str(layer))]["dtype"] = "I32"

    change_header(place.model / "model.safetensors", integers)
    place.refused("is stored as I32", "Use the unquantised checkpoint")


def test_config_missing(place: Place) -> None:
    (place.model / "config.json").unlink()
    place.refused(f"{place.model} has no config.json", "Download the whole model")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b'{"model_type": "llama", "model_type": "gpt2"}'])
def test_config_malformed(place: Place, text: bytes) -> None:
    (place.model / "config.json").write_bytes(text)
    place.refused("config.json", "ownload", str(place.model))


@pytest.mark.parametrize("model_type", ["mamba", None, 7, ["llama"], {"llama": 1}])
def test_unknown_family(place: Place, model_type: Any) -> None:
    tiny.edit_config(place.model, model_type=model_type)
    place.refused("unknown model family", "Known: ", "llama")


def test_file_that_cannot_be_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected, because root may read everything."""
    read_bytes = Path.read_bytes

    def denied(path: Path) -> bytes:
        if path.name == "config.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    ended = place.bake()
    monkeypatch.undo()
    one_message(ended, f"{place.model / 'config.json'} cannot be read: Permission denied", "Check the file")
    assert not place.out.parent.exists()
