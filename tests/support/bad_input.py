"""What the tests of bad input share: a place with a tiny model, commands in this process or their own, broken files."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from monoglot.cli.main import main
from monoglot.editor.files.checkpoint import read_checkpoint
from support.folders import tree

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


def tensor_bytes(checkpoint: Any, name: str) -> bytes:
    file, tensor = checkpoint.find(name)
    return bytes(file.path.read_bytes()[tensor.begin : tensor.end])


RECIPE = """\
format: 1
base: {model: tiny, revision: null, fingerprint: null}
neurons: neurons.json
shared: keep
edits:
  - {language: fr, op: deactivate}
"""
