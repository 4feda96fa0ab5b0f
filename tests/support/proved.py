"""Checkpoints baked for a proof, and what changes in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.proof.logits import Logits, verify_live
from monoglot.editor.text.corpus import open_corpus
from support import folders, tiny


def baked(target: Target, neurons_file: Path, out: Path, *edits: Edit) -> Path:
    recipe = Recipe(Base("tiny"), edits or (Edit("fr", "deactivate"),), shared="edit")
    bake(target, neurons.load(neurons_file), recipe, out)
    return out


def resign(folder: Path) -> None:
    """Make the manifest's hashes right again, as a forger would."""
    record = folders.manifest_data(folder)
    for name in record["files"]:
        record["files"][name] = folders.listed((folder / name).read_bytes())
    folders.write_manifest(folder, record)


def change_tensor(folder: Path, name: str, change: Callable[[torch.Tensor], Any]) -> None:
    """Change a tensor where it lies in its file, and no other byte; then forge the hashes."""
    shard, tensor = next((s, t) for s, t in read_checkpoint(folder).tensors() if t.name == name)
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[tensor.dtype]
    data = bytearray(shard.path.read_bytes())
    length = (tensor.end - tensor.begin) // dtype.itemsize
    change(torch.frombuffer(data, dtype=dtype, offset=tensor.begin, count=length).reshape(tensor.shape))
    shard.path.write_bytes(data)
    resign(folder)


def carried(saved: Callable[..., Path], name: str, carrier: str, op: str, out: Path, **config: Any) -> Target:
    target = open_target(resolve(str(saved(name, **config))))
    own = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    bake(target, own, tiny.recipe(op, carrier), out, calibration=tiny.by_hand(target))
    return target


GATE, UP, OUT = (f"model.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down"))
C_FC, C_PROJ = "transformer.h.0.mlp.c_fc", "transformer.h.0.mlp.c_proj"


def live(out: Path, target: Target, corpus: Path) -> Logits:
    found = neurons.load(out / "neurons.json")
    return verify_live(out, target, found, open_corpus([str(corpus)]), tokens=120, context=64, device="cpu")
