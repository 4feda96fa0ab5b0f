"""Bad input to `monoglot bake`: exit code 1 (2 for usage), one message that says cause, place and next step, nothing left.

Most run `main` in this process, which is what `monoglot` and `python -m monoglot.cli` call; a few, and all that are
killed, run as processes of their own.
"""

import errno
import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import tiny
from support.folders import tree

from monoglot.cli.main import main
from monoglot.editor.edits import bake as baking
from monoglot.editor.edits import recipe as recipe_module
from monoglot.editor.errors import MonoglotError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.models import target
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons as neurons_module

W_OUT = "model.layers.1.mlp.down_proj.weight"
EDIT = ("--deactivate", "fr")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def monoglot(*arguments: str | Path) -> Ended:
    """The command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["monoglot", *map(str, arguments)]),
        mock.patch.object(warnings, "showwarning"),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Ended(code, out.getvalue(), err.getvalue())


def process(*arguments: str | Path, **environment: str) -> Ended:
    """The command as a process."""
    ended = subprocess.run(
        [sys.executable, "-m", "monoglot.cli", *map(str, arguments)],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def one_message(ended: Ended, *words: str, code: int = 1) -> str:
    """The command failed with one line that has all of the words, ends as a sentence, and nothing else was said."""
    assert (ended.code, ended.out) == (code, "")
    assert "Traceback" not in ended.err
    (line,) = ended.err.splitlines()
    assert line.startswith("Error: ") and line.endswith((".", ")"))
    for word in words:
        assert word in line
    return line


class Place:
    """A folder to work in: a copy of the tiny model that a test may break, its neurons, and a place for OUT."""

    def __init__(self, root: Path, model: Path, neurons_file: Path) -> None:
        self.root = root
        self.model = root / "model"
        self.neurons = root / "neurons.json"
        self.out = root / "place" / "out"
        shutil.copytree(model, self.model)
        shutil.copy(neurons_file, self.neurons)

    def bake(self, *options: str | Path, model: str | Path | None = None, out: Path | None = None) -> Ended:
        return monoglot("bake", model or self.model, self.neurons, *(options or EDIT), "-o", out or self.out)

    def refused(self, *words: str, options: tuple[str | Path, ...] = (), model: str | Path | None = None) -> None:
        """`bake` fails with one message, and no file anywhere is another than before."""
        before = tree(self.root)
        one_message(self.bake(*options, model=model), *words)
        assert tree(self.root) == before

    def recipe(self, text: str | bytes) -> Path:
        path = self.root / "recipe.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def recipe_refused(self, text: str | bytes, *words: str) -> None:
        path = self.recipe(text)
        before = tree(self.root)
        one_message(monoglot("bake", self.model, self.neurons, "--recipe", path, "-o", self.out), *words)
        assert tree(self.root) == before


@pytest.fixture
def place(tmp_path: Path, model: Path, neurons_file: Path) -> Place:
    return Place(tmp_path, model, neurons_file)


def change_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def set_weight(path: Path, name: str, value: bytes, at: int = 0) -> None:
    """Overwrite bytes of a tensor."""
    checkpoint = read_checkpoint(path)
    found = checkpoint.find(name)
    assert found
    with found[0].path.open("r+b") as file:
        file.seek(found[1].begin + at)
        file.write(value)


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(path.read_text())
    made = change(data)
    path.write_text(json.dumps(data if made is None else made))


def test_the_unbroken_one_is_baked(place: Place) -> None:
    """Or every refusal below would prove nothing."""
    ended = place.bake()
    assert ended.code == 0 and "neurons edited" in ended.out
    assert (place.out / "monoglot.json").is_file()


# --- which model -----------------------------------------------------------------------------------------------------


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
def test_quantised(place: Place, method: str, nested: bool) -> None:
    config = {"quantization_config": {"quant_method": method, "bits": 4}}
    tiny.edit_config(place.model, **({"text_config": config} if nested else config))
    place.refused(str(place.model), f"is quantised ({method})", "Edit the original checkpoint")


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


# --- malformed bytes -------------------------------------------------------------------------------------------------


def shard(place: Place) -> Path:
    return place.model / "model.safetensors"


def make_index(place: Place, name: str, move_to: Path | None = None) -> None:
    """Replace the single file with an index that says where it is, and perhaps move it there."""
    names = [tensor.name for _, tensor in read_checkpoint(place.model).tensors()]
    if move_to:
        shard(place).rename(move_to)
    else:
        shard(place).unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
    (place.model / "model.safetensors.index.json").write_text(json.dumps(index))


def entry(name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(values)


def shift(by: int) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[W_OUT]["data_offsets"] = [offset + by for offset in header[W_OUT]["data_offsets"]]

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (shift(-4), "overlaps the tensor before it"),
        (shift(4), "leaves a hole before it"),
        (shift(10**9), "leaves a hole before it"),
        (shift(-(10**9)), "impossible offsets"),
        (entry(W_OUT, shape=[tiny.HIDDEN, tiny.WIDTH + 1]), "is not what F32 of shape [16, 25] takes"),
        (entry(W_OUT, dtype="BF16"), "is not what BF16 of shape [16, 24] takes"),
        (entry(W_OUT, dtype="Q8"), "unknown dtype 'Q8'"),
        (entry(W_OUT, shape=[tiny.HIDDEN * tiny.WIDTH]), "same feed-forward width in every layer"),
        (entry(W_OUT, shape=[tiny.WIDTH, tiny.HIDDEN]), "same feed-forward width in every layer"),
        (lambda header: header.update(extra=header.pop(W_OUT)), "layer 1 has no layers.*.mlp.down_proj.weight"),
    ],
)
def test_malformed_header(place: Place, change: Callable[[dict[str, Any]], None], word: str) -> None:
    change_header(shard(place), change)
    place.refused(str(place.model), word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is truncated"),
        (b"\x00", "is truncated"),
        (struct.pack("<Q", 2**40) + b"{}", "is truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "nested too deeply"),
        (struct.pack("<Q", 2) + b"{}", "has no layers.*.mlp.down_proj.weight"),
    ],
)
def test_malformed_file(place: Place, content: bytes, word: str) -> None:
    shard(place).write_bytes(content)
    place.refused(str(place.model), word)


def test_header_of_over_100_mb(place: Place) -> None:
    shard(place).write_bytes(struct.pack("<Q", 100_000_001))
    os.truncate(shard(place), 8 + 100_000_001)
    started = time.process_time()
    one_message(place.bake(), "has a header of 100,000,001 bytes", "safetensors allows 100,000,000")
    assert time.process_time() - started < 1
    assert not place.out.parent.exists()


def test_truncated_shard(place: Place) -> None:
    os.truncate(shard(place), shard(place).stat().st_size - 1)
    place.refused(str(shard(place)), "is truncated", "Download it again")


@pytest.mark.parametrize("absolute", [False, True])
def test_index_that_leaves_the_folder(place: Place, absolute: bool) -> None:
    outside = place.root / "outside.safetensors"
    make_index(place, str(outside) if absolute else "../outside.safetensors", move_to=outside)
    place.refused("model.safetensors.index.json", "not a .safetensors file of this folder", "don't use it")


def test_index_that_names_a_missing_file(place: Place) -> None:
    make_index(place, "gone.safetensors")
    place.refused("names 'gone.safetensors', which is not in", str(place.model), "Download it")


def test_index_beside_a_single_file(place: Place) -> None:
    (place.model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    place.refused("holds both", "remove the one that is not meant")


def test_index_that_misplaces_a_tensor(place: Place) -> None:
    make_index(place, "model-1.safetensors", move_to=place.model / "model-1.safetensors")
    (place.model / "model-2.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    change_json(
        place.model / "model.safetensors.index.json",
        lambda index: index["weight_map"].update({W_OUT: "model-2.safetensors"}),
    )
    place.refused(f"places tensor '{W_OUT}' in model-2.safetensors, which does not hold it")


def test_side_file_that_links_to_nothing(place: Place) -> None:
    """As a half-filled cache of the Hub: a checkpoint without its tokenizer is not what was asked for."""
    (place.model / "tokenizer.json").unlink()
    (place.model / "tokenizer.json").symlink_to("../../blobs/gone")
    place.refused("tokenizer.json is a link to a file that is not there", "Download")


def test_names_that_nothing_can_hold(place: Place) -> None:
    odd = os.fsdecode(b"odd-\xff.txt")
    try:
        (place.model / odd).write_text("x")
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    place.refused("unprintable name", "Rename it")
    (place.model / odd).unlink()
    place.model.rename(place.root / odd)
    place.refused("Rename it", model=place.root / odd)


def typed_model(place: Place, dtype: str) -> None:
    shutil.rmtree(place.model)
    tiny.save_model(place.model, dtype=dtype)


BITS = {
    "float32": {"NaN": "0000c07f", "infinity": "0000807f", "minus infinity": "000080ff"},
    "float16": {"NaN": "007e", "infinity": "007c", "minus infinity": "00fc"},
    "bfloat16": {"NaN": "c07f", "infinity": "807f", "minus infinity": "80ff"},
}


@pytest.mark.parametrize("dtype", BITS)
def test_nan_and_infinity(place: Place, dtype: str) -> None:
    """Refused in a tensor to edit, wherever in it; elsewhere copied as they are."""
    typed_model(place, dtype)
    original = shard(place).read_bytes()
    last = tiny.HIDDEN * tiny.WIDTH * (4 if dtype == "float32" else 2)
    for bits in map(bytes.fromhex, BITS[dtype].values()):
        for at in (0, last - len(bits)):
            set_weight(place.model, W_OUT, bits, at)
            place.refused(str(place.model), f"{W_OUT} holds NaN or infinite weights", "get it again")
            shard(place).write_bytes(original)
    name = "model.layers.1.mlp.up_proj.weight"
    for bits in map(bytes.fromhex, BITS[dtype].values()):
        set_weight(place.model, name, bits)
        ended = place.bake("--deactivate", "fr", "--force")
        assert ended.code == 0
        ours, theirs = (read_checkpoint(folder) for folder in (place.out, place.model))
        assert tensor_bytes(ours, name) == tensor_bytes(theirs, name)


def tensor_bytes(checkpoint: Any, name: str) -> bytes:
    file, tensor = checkpoint.find(name)
    return bytes(file.path.read_bytes()[tensor.begin : tensor.end])


@pytest.mark.parametrize(("dtype", "factor"), [("float16", "1e6"), ("bfloat16", "1e39"), ("float32", "1e39")])
def test_scale_that_overflows(place: Place, dtype: str, factor: str) -> None:
    typed_model(place, dtype)
    place.refused("edited weights don't fit in " + dtype, "Use a smaller strength", options=("--scale", f"fr={factor}"))


# --- neurons ---------------------------------------------------------------------------------------------------------


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


# --- the command line and the recipe ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("bake",),
        ("bake", "MODEL"),
        ("bake", "MODEL", "NEURONS", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--deactivate", "fr"),
        ("bake", "MODEL", "--deactivate", "fr", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--deactivate", "fr", "--recipe", "RECIPE", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--deactivate", "fr", "--shared", "burn", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--no-such-option", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "more", "--deactivate", "fr", "-o", "OUT"),
        ("no-such-command",),
    ],
)
def test_usage(place: Place, arguments: tuple[str, ...]) -> None:
    place.recipe("format: 1\n")
    names = {"MODEL": place.model, "NEURONS": place.neurons, "OUT": place.out, "RECIPE": place.root / "recipe.yaml"}
    before = tree(place.root)
    ended = monoglot(*(names.get(argument, argument) for argument in arguments))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: ") and ended.err.count("Error: ") == 1 and "Traceback" not in ended.err
    assert tree(place.root) == before


@pytest.mark.parametrize("scale", ["fr", "fr=", "fr=two", "=2", "fr=1=2", "fr=nan", "fr=inf", "fr=-inf", "fr=1e999"])
def test_scale_without_a_number(place: Place, scale: str) -> None:
    before = tree(place.root)
    ended = place.bake("--scale", scale)
    assert ended.code == 1
    one_message(ended)
    assert tree(place.root) == before


def test_language_twice(place: Place) -> None:
    place.refused("fr is edited twice", "Keep one", options=("--deactivate", "fr,fr"))
    place.refused("fr is edited twice", "Keep one", options=("--deactivate", "fr", "--scale", "fr=2"))


RECIPE = """\
format: 1
base: {model: tiny, revision: null, fingerprint: null}
neurons: neurons.json
shared: keep
edits:
  - {language: fr, op: deactivate}
"""


def test_the_unbroken_recipe_is_baked(place: Place) -> None:
    ended = monoglot("bake", place.model, "--recipe", place.recipe(RECIPE), "-o", place.out)
    assert ended.code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("shared:", "shred:", ("unknown key 'shred'", "known: ", "shared")),
        ("revision:", "branch:", ("base has the unknown key 'branch'",)),
        ("op: deactivate", "op: deactivate, force: 2", ("an edit has the unknown key 'force'",)),
        ("shared: keep", "7: keep", ("unknown key '7'",)),
        ("op: deactivate", "op: burn", ("unknown operation 'burn' for fr", "known: deactivate, scale")),
        ("op: deactivate", "op: [deactivate]", ("op",)),
        ("op: deactivate", "op: scale", ("scale needs a finite strength",)),
        ("op: deactivate", "op: scale, strength: .nan", ("scale needs a finite strength",)),
        ("op: deactivate", "op: scale, strength: .inf", ("scale needs a finite strength",)),
        ("op: deactivate", "op: scale, strength: much", ("recipe.yaml",)),
        ("op: deactivate", "op: scale, strength: [2]", ("recipe.yaml",)),
        ("op: deactivate", "op: deactivate, strength: 2", ("deactivate takes no strength",)),
        ("op: deactivate", "", ("is not a recipe", "op")),
        ("language: fr, ", "", ("is not a recipe", "language")),
        ("language: fr", "language: no", ("no neurons for 'no'", "en, fr, zh")),
        ("language: fr", "language: null", ()),
        ("format: 1", "format: 2", ("format is 2, this version reads 1", "Upgrade")),
        ("format: 1", "format: one", ("format is 'one'",)),
        ("format: 1\n", "", ("is not a recipe", "format")),
        ("shared: keep", "shared: burn", ("shared is 'burn'; it can be keep or edit",)),
        ("shared: keep", "shared: [keep]", ("shared is",)),
        ("{model: tiny, revision: null, fingerprint: null}", "tiny", ("base is not a mapping",)),
        ("{model: tiny, revision: null, fingerprint: null}", "{}", ("is not a recipe", "model")),
        ("fingerprint: null", "fingerprint: abc", ("recipe is for tiny with fingerprint abc", "Use that model")),
        ("fingerprint: null", "fingerprint: 7", ("fingerprint",)),
        ("  - {language: fr, op: deactivate}", "  []", ("edits nothing", "--deactivate zh")),
        ("  - {language: fr, op: deactivate}", "  fr", ("an edit is not a mapping",)),
        ("  - {language: fr, op: deactivate}", "  7", ("is not a recipe",)),
        ("  - {language: fr, op: deactivate}", "  {fr: deactivate}", ("an edit is not a mapping",)),
        ("  - {", "  - {language: fr, op: deactivate}\n  - {", ("fr is edited twice",)),
        ("tiny", "!!python/name:os.system ''", ("is not a recipe", "python/name")),
        ("tiny", "!!python/object/apply:os.system ['true']", ("is not a recipe", "python/object")),
        ("tiny", "!include x", ("is not a recipe",)),
        ("tiny", "*nowhere", ("is not a recipe",)),
        ("shared: keep", "? [keep]\n: 1", ("is not a recipe",)),
        ("shared: keep", "shared: 2001-99-99", ("is not a recipe",)),
        (RECIPE, "", ("the recipe is not a mapping",)),
        (RECIPE, "- 1\n", ("the recipe is not a mapping",)),
        (RECIPE, "{", ("is not a recipe",)),
        (RECIPE, RECIPE + "---\n" + RECIPE, ("is not a recipe",)),
        (RECIPE, "a: " + "[" * 20_000, ("is not a recipe",)),
    ],
)
def test_malformed_recipe(place: Place, old: str, new: str, words: tuple[str, ...]) -> None:
    assert old in RECIPE
    place.recipe_refused(RECIPE.replace(old, new), *words)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model: tiny", "model: 7"),
        ("model: tiny", "model: null"),
        ("model: tiny", "model: [tiny]"),
        ("neurons: neurons.json", "neurons: 5"),
        ("neurons: neurons.json", "neurons: null"),
        ("op: deactivate", "op: scale, strength: " + "9" * 400),
        ("op: deactivate", "op: scale, strength: yes"),
    ],
)
def test_recipe_with_values_of_another_type(place: Place, old: str, new: str) -> None:
    """Without MODEL and NEURONS, so that the recipe says which."""
    recipe = place.recipe(RECIPE.replace("model: tiny", f"model: {place.model}").replace(old, new))
    if old == "model: tiny":
        recipe = place.recipe(RECIPE.replace(old, new))
    before = tree(place.root)
    one_message(monoglot("bake", "--recipe", recipe, "-o", place.out), str(recipe))
    assert tree(place.root) == before


def set_means(value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for layers in data["languages"].values():
            for layer in layers:
                layer["mean"] = [value] * len(layer["neurons"])

    return change


def set_method(**method: Any) -> Callable[[Any], None]:
    return lambda data: data.update(method=method)


@pytest.mark.parametrize(
    "change",
    [
        set_means([1.0, 2.0]),
        set_means(float("nan")),
        set_means("1"),
        set_means(None),
        set_method(name="lape"),
        set_method(name="lape", rate="a", quantile=0.95),
        set_method(name="lape", rate=0.01, quantile=0.95, tokens=5),
        set_method(name="hand", tokens=5),
        lambda data: data.update(method=[]),
        lambda data: data["model"].update(layers="three"),
        lambda data: data["model"].update(name=7),
    ],
)
def test_neurons_with_values_of_another_type(place: Place, change: Callable[[Any], None]) -> None:
    change_json(place.neurons, change)
    place.refused()


def test_recipe_that_is_not_text(place: Place) -> None:
    place.recipe_refused(b"\xff\xfe\x00", "is not a recipe", str(place.root / "recipe.yaml"))


def test_recipe_missing(place: Place) -> None:
    ended = monoglot("bake", place.model, place.neurons, "--recipe", place.root / "gone.yaml", "-o", place.out)
    one_message(ended, f"there is no recipe {place.root / 'gone.yaml'}")


def test_recipe_reads_norwegian(place: Place) -> None:
    """YAML 1.1 takes an unquoted `no` for False."""
    change_json(place.neurons, lambda data: data["languages"].update(no=data["languages"].pop("fr")))
    recipe = place.recipe(RECIPE.replace("language: fr", "language: no"))
    assert monoglot("bake", place.model, "--recipe", recipe, "-o", place.out).code == 0
    assert json.loads((place.out / "monoglot.json").read_text())["recipe"]["edits"][0]["language"] == "no"


# --- the destination -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "loop"])
@pytest.mark.parametrize("force", [False, True])
def test_out_exists(place: Place, kind: str, force: bool) -> None:
    place.out.parent.mkdir()
    if kind == "file":
        place.out.write_text("precious")
    elif kind == "folder":
        place.out.mkdir()
        (place.out / "precious").write_text("x")
    else:
        (place.root / "other").mkdir()
        place.out.symlink_to({"link": "../other", "dangling link": "../gone", "loop": "out"}[kind])
    words = (str(place.out), "Choose another place", "does not replace it" if force else "--force")
    place.refused(*words, options=(*EDIT, *(["--force"] if force else [])))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("where", ["same", "inside", "deep inside", "parent", "by a link", "with dots"])
def test_out_in_the_models_way(place: Place, where: str, force: bool) -> None:
    """Even when both are monoglot's own, and however they are written."""
    assert place.bake().code == 0
    base = place.out
    (place.root / "link").symlink_to(base, target_is_directory=True)
    (base.parent / "monoglot.json").write_text("{}")
    out, word = {
        "same": (base, "lies inside the model's own folder"),
        "inside": (base / "out", "lies inside the model's own folder"),
        "deep inside": (base / "a" / "b", "lies inside the model's own folder"),
        "parent": (base.parent, "holds the model's own folder"),
        "by a link": (place.root / "link" / "out", "lies inside the model's own folder"),
        "with dots": (base / ".." / base.name / "out", "lies inside the model's own folder"),
    }[where]
    before = tree(place.root)
    one_message(place.bake(*EDIT, *(["--force"] if force else []), model=base, out=out), word, "Choose another place")
    assert tree(place.root) == before


def test_force_replaces_what_monoglot_wrote(place: Place) -> None:
    assert place.bake().code == 0
    first = tree(place.out)
    place.refused("--force", options=("--deactivate", "zh"))
    assert place.bake("--deactivate", "zh", "--force").code == 0
    assert tree(place.out) != first
    assert [path.name for path in place.out.parent.iterdir()] == ["out"]


def test_force_keeps_the_old_one_when_the_new_one_fails(place: Place) -> None:
    assert place.bake().code == 0
    set_weight(place.model, "model.layers.2.mlp.down_proj.weight", bytes.fromhex("0000c07f"))
    place.refused("NaN", options=(*EDIT, "--force"))


@pytest.mark.parametrize("parent", ["file", "dangling", "under a file"])
def test_parent_of_out_is_no_folder(place: Place, parent: str) -> None:
    (place.root / "file").write_text("x")
    (place.root / "dangling").symlink_to(place.root / "gone")
    place.out = place.root / ("file/a" if parent == "under a file" else parent) / "out"
    place.refused("is not a folder", "Choose another place")


def test_parent_of_out_may_not_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected, because root may write anywhere."""

    def denied(path: Path, *more: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", denied)
        ended = place.bake()
    one_message(ended, f"{place.out} cannot be written: Permission denied", "Choose another place")
    assert not place.out.parent.exists()


def test_name_of_out_is_too_long(place: Place) -> None:
    place.out = place.root / ("n" * 300)
    place.refused("File name too long", "Choose another place")


class Full(io.FileIO):
    """A file on a disk that is full after 10 kB."""

    left = 10_000

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if size > self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= size
        return super().write(data)


@contextmanager
def disk_that_fills() -> Iterator[None]:
    """In mid-write, after the check at the start, whatever way a file below a staging folder is opened."""
    path_open = Path.open

    def opened(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        return Full(path, mode) if ".partial-" in str(path) and "w" in mode else path_open(path, mode, *more, **options)

    with mock.patch.object(Path, "open", opened):
        yield


@pytest.mark.parametrize("how", ["write", "sync"])
@pytest.mark.parametrize("force", [False, True])
def test_disk_full_in_mid_write(place: Place, how: str, force: bool) -> None:
    if force:
        assert place.bake().code == 0
    before = tree(place.root)
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with disk_that_fills() if how == "write" else mock.patch("os.fsync", side_effect=error):
        ended = place.bake(*EDIT, *(["--force"] if force else []))
    one_message(ended, f"{place.out} cannot be written: No space left on device", "Nothing was kept", "Make room")
    assert tree(place.root) == before


def test_disk_full_is_said_at_the_start(place: Place) -> None:
    usage = shutil.disk_usage(place.root)._replace(free=16 * 2**20)
    with mock.patch("shutil.disk_usage", return_value=usage):
        place.refused("has 0.02 GB free", "the checkpoint needs", "Make room", "-o")


def test_disk_full_for_real(place: Place) -> None:
    """A small file system: too small at the start, and filled in mid-write while it said that it had room."""
    disk = place.root / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode().strip()}")
    try:
        place.out = disk / "a" / "out"
        place.refused("GB free", "Make room")
        with mock.patch("shutil.disk_usage", return_value=shutil.disk_usage(place.root)):
            place.refused("No space left on device", "Nothing was kept", "Make room")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_file_size_limit_in_mid_write(place: Place) -> None:
    """Refused by the system itself, without root."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        ended = place.bake()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    one_message(ended, "File too large", "Nothing was kept")
    assert not place.out.parent.exists()


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_base_that_changes_while_it_is_read(place: Place, change: str) -> None:
    def opened(source: Any) -> Any:
        found = open_target(source)
        if change == "gone":
            shard(place).unlink()
        else:
            os.truncate(shard(place), 1000)
        return found

    with mock.patch.object(target, "open_target", opened):
        ended = place.bake()
    one_message(ended, "became shorter" if change == "shorter" else "No such file", str(shard(place)))
    assert not place.out.parent.exists()


# --- killed ----------------------------------------------------------------------------------------------------------

# Runs monoglot, and stops for good where it is told to, after it has said so.
SLOW = """
import hashlib, shutil, sys, time
from pathlib import Path

where, mark = sys.argv[1], Path(sys.argv[2])
sys.argv[1:3] = []

def stop():
    mark.write_text("here")
    time.sleep(120)

real, rename, rmtree = hashlib.sha256, Path.rename, shutil.rmtree

class Slow:
    def __init__(self, *data):
        self.digest = real(*data)
    def update(self, data):
        self.digest.update(data)
        if where == "write" and any(mark.parent.glob("place/.out.partial-*/model.safetensors")):
            stop()
    def __getattr__(self, name):
        return getattr(self.digest, name)

def slow_rename(path, target):
    moved = rename(path, target)
    if where == "between the renames" and str(target).endswith("-old"):
        stop()
    return moved

def slow_rmtree(path, *more, **options):
    if where == "before the old one is removed" and str(path).endswith("-old"):
        stop()
    return rmtree(path, *more, **options)

hashlib.sha256, Path.rename, shutil.rmtree = Slow, slow_rename, slow_rmtree
from monoglot.cli.main import main
main()
"""


def kill(place: Place, where: str, *options: str) -> None:
    """Run `bake` as a process and SIGKILL it at a place."""
    mark = place.root / "mark"
    mark.unlink(missing_ok=True)
    command = [sys.executable, "-c", SLOW, where, str(mark), "bake", str(place.model), str(place.neurons), *options]
    with subprocess.Popen([*command, "-o", str(place.out)], stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert running.poll() is None and time.monotonic() < deadline, running.stderr
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert running.returncode == -signal.SIGKILL


def beside(place: Place) -> list[str]:
    return sorted(path.name for path in place.out.parent.iterdir())


def test_killed_in_mid_write(place: Place) -> None:
    kill(place, "write", *EDIT)
    lock, left = beside(place)
    assert lock == ".out.lock" and left.startswith(".out.partial-")  # the destination is absent
    assert place.bake().code == 0
    assert beside(place) == ["out"]


def test_killed_while_replacing(place: Place) -> None:
    """At each step the old one is at its place, or the place is empty and the next run finds the old one again."""
    assert place.bake().code == 0
    old = tree(place.out)
    kill(place, "write", "--deactivate", "zh", "--force")
    assert tree(place.out) == old
    kill(place, "between the renames", "--deactivate", "zh", "--force")
    assert not os.path.lexists(place.out)
    one_message(place.bake(), "exists", "--force")
    assert tree(place.out) == old and beside(place) == ["out"]
    kill(place, "before the old one is removed", "--deactivate", "zh", "--force")
    new = tree(place.out)
    lock, left, out = beside(place)
    assert new != old and (lock, out) == (".out.lock", "out") and left.endswith("-old")
    assert place.bake("--deactivate", "zh", "--force").code == 0
    assert tree(place.out) == new and beside(place) == ["out"]


def test_interrupted(place: Place) -> None:
    """Control-C: code 130, and nothing left at all."""
    with mock.patch.object(baking.manifest, "new", mock.Mock(side_effect=KeyboardInterrupt)):
        ended = place.bake()
    assert ended.code == 130 and "Interrupted" in ended.err
    assert not place.out.parent.exists()


# --- odd, but fine ---------------------------------------------------------------------------------------------------


def add_tensors(path: Path) -> None:
    """A tensor without dimensions, empty ones, and one of an unusual dtype."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    end = len(data)
    header["zero"] = {"dtype": "F32", "shape": [0, 5], "data_offsets": [end, end]}
    header["scalar"] = {"dtype": "F64", "shape": [], "data_offsets": [end, end + 8]}
    header["table"] = {"dtype": "F8_E4M3", "shape": [3, 1, 1], "data_offsets": [end + 8, end + 11]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + b"\x7f" * 11)


def test_odd_tensors_and_empty_shards(place: Place) -> None:
    add_tensors(shard(place))
    make_index(place, "model-00001-of-00002.safetensors", move_to=place.model / "model-00001-of-00002.safetensors")
    empty = place.model / "model-00002-of-00002.safetensors"
    empty.write_bytes(struct.pack("<Q", 2) + b"{}")
    assert place.bake().code == 0
    for name in ("zero", "scalar", "table"):
        assert tensor_bytes(read_checkpoint(place.out), name) == tensor_bytes(read_checkpoint(place.model), name)


def test_config_comes_along_as_it_is(place: Place) -> None:
    text = (place.model / "config.json").read_bytes().rstrip() + b"\n\n \n"
    (place.model / "config.json").write_bytes(text)
    (place.model / "empty.txt").write_bytes(b"")
    assert place.bake(*EDIT, "--no-compat-config").code == 0
    assert (place.out / "config.json").read_bytes() == text
    assert (place.out / "empty.txt").read_bytes() == b""


def test_read_only_files_and_links_become_plain_files(place: Place) -> None:
    blobs = place.root / "blobs"
    blobs.mkdir()
    for path in sorted(place.model.iterdir()):
        path.chmod(0o444)
        path.rename(blobs / path.name)
        path.symlink_to(Path("..") / "blobs" / path.name)
    place.model.chmod(0o555)
    try:
        assert place.bake(*EDIT, "--no-compat-config").code == 0
    finally:
        place.model.chmod(0o755)
    for path in place.out.iterdir():
        assert path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o600 == 0o600
    assert read_checkpoint(place.out).config == read_checkpoint(place.model).config


# --- anything at all -------------------------------------------------------------------------------------------------

BOUNDED = settings(deadline=None, derandomize=True, database=None, max_examples=120,
                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["fr", "zh"])
JSON = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["neurons", "mean", "name", "fr", "width"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)
LAYER = st.fixed_dictionaries({"neurons": st.lists(st.integers(-1, 25), max_size=4) | JSON}, optional={"mean": JSON})
LANGUAGE = st.lists(LAYER | JSON, min_size=3, max_size=3) | JSON
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just(1) | JSON,
        "model": JSON,
        "languages": st.dictionaries(st.sampled_from(["fr", "en", "zh"]), LANGUAGE, max_size=3) | JSON,
        "more": JSON,
    },
)


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder for each example; nothing is synced, which is all that the disk would slow down."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.fsync"):
        yield Path(folder)


def bake_or_refuse(model: Path, neurons: Path, recipe: Path, folder: Path) -> None:
    """As `monoglot bake MODEL NEURONS --recipe RECIPE -o OUT` does; a failure leaves nothing in the folder."""
    before = sorted(folder.iterdir())
    try:
        asked = recipe_module.load(recipe)
        baking.bake(open_target(resolve(str(model))), neurons_module.load(neurons), asked, folder / "out")
    except MonoglotError as error:
        assert str(error)
        assert sorted(folder.iterdir()) == before
    else:
        assert neurons_module.load(folder / "out" / "neurons.json").layers == tiny.LAYERS
        read_checkpoint(folder / "out")


@BOUNDED
@given(PARTS | JSON, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3))
@example({}, [(10**6, 0)])
def test_any_neurons_file(model: Path, neurons_file: Path, changes: Any, flips: list[tuple[int, int]]) -> None:
    with scratch() as folder:
        data = json.loads(neurons_file.read_text())
        text = bytearray(json.dumps({**data, **changes} if isinstance(changes, dict) else changes).encode())
        for at, byte in flips:
            text[at % len(text)] = byte
        (folder / "neurons.json").write_bytes(text)
        (folder / "recipe.yaml").write_text(RECIPE)
        bake_or_refuse(model, folder / "neurons.json", folder / "recipe.yaml", folder)


EDITS = st.lists(
    st.fixed_dictionaries(
        {"language": st.sampled_from(["fr", "zh", "en"]) | JSON, "op": st.sampled_from(recipe_module.OPS) | JSON},
        optional={
            "strength": st.floats() | JSON,
            "value": st.sampled_from(["mean", "p90", "mean@zh", "mean@"]) | JSON,
            "more": JSON,
        },
    )
    | JSON,
    max_size=3,
)
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just(1) | JSON,
        "base": st.fixed_dictionaries({}, optional=dict.fromkeys(["model", "revision", "fingerprint", "more"], JSON))
        | JSON,
        "edits": EDITS | JSON,
        "shared": st.sampled_from(["keep", "edit"]) | JSON,
        "carrier": st.sampled_from(recipe_module.CARRIERS) | JSON,
        "tolerance": st.floats() | JSON,
        "above_tolerance": st.sampled_from(recipe_module.ABOVE_TOLERANCE) | JSON,
        "neurons": JSON,
        "more": JSON,
    },
)


@BOUNDED
@given(RECIPES | JSON, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3))
@example({}, [])
def test_any_recipe(model: Path, neurons_file: Path, changes: Any, flips: list[tuple[int, int]]) -> None:
    import yaml

    with scratch() as folder:
        data = yaml.safe_load(RECIPE)
        text = bytearray(yaml.safe_dump({**data, **changes} if isinstance(changes, dict) else changes).encode())
        for at, byte in flips:
            text[at % len(text)] = byte
        (folder / "recipe.yaml").write_bytes(text)
        bake_or_refuse(model, neurons_file, folder / "recipe.yaml", folder)
