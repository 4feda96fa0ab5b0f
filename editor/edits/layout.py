"""What the files of the baked checkpoint are: made from the base and a plan, before anything is written.

Most are a file of the base with some bytes edited. A carrier may need more: another header where tensors are split, new
biases in a shard of their own, the config with a key changed. Redirected and silenced tokens may need an output table of
their own, a copy of the base's input table with the rows of silenced tokens edited. New tensors go into
`model-0000N-of-0000M.safetensors` with an index, and every shard is renamed to fit: where a plain `model.safetensors` lies
beside an index, runtimes disagree on which of the two to read.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import RecipeError
from ..files import floats
from ..files.checkpoint import CONFIG, INDEX, Shard, Tensor, parse_json
from ..files.json_text import with_keys
from ..models.activations import functions
from ..models.compat_config import old_keys
from ..models.embedding import TIE
from ..models.families import TEXT_CONFIG, text_config
from ..models.target import Target
from .byte_edits import ByteEdit, is_packed_layer, of_packed_layer
from .carrier_choice import EXACT, Rewrite, rewrite
from .carriers import Carried
from .experts import edits_of
from .tensor_edits import Constant, LayerTensors, Rounding, TensorEdit, exact_level, of_layer
from .vectors import merged, of_vector

ALIGNMENT = 8


@dataclass(frozen=True)
class Copied:
    """A new tensor file: a header, and the data of one tensor of the base under another name, byte for byte but for edits."""

    header: bytes
    shard: Shard
    tensor: Tensor
    name: str

    @property
    def renamed(self) -> Tensor:
        """The base's tensor by the name that it has here: edits of it go by that."""
        return self.tensor._replace(name=self.name)


@dataclass(frozen=True)
class Layout:
    """`shards`: output name -> (its header, the base's shard whose data follow it).

    `edits`: by the base's tensor names. `copies`: output name -> the one tensor of the base that it repeats. `made`:
    files that are made anew. `rounding`: that of the new biases; `bake` adds that of the rest.
    """

    shards: Mapping[str, tuple[bytes, Shard]]
    edits: Mapping[str, TensorEdit | ByteEdit]
    made: Mapping[str, bytes]
    rounding: Rounding
    copies: Mapping[str, Copied] = field(default_factory=dict)


def layout(target: Target, what: Carried) -> Layout:
    """Lay out the checkpoint's files.

    Raises RecipeError when an operation finds no room, or a value does not fit in the dtype.
    """
    edits = _edits(target, what)
    change = rewrite(target, what.carrier)
    shards = {shard.path.name: (_header(shard, change.split), shard) for shard in target.checkpoint.shards}
    made: dict[str, bytes] = {}
    copies: dict[str, Copied] = {}
    rounding = Rounding()
    output = _output(what)
    if change.biases or output:
        count = len(shards) + bool(change.biases) + bool(output)
        names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        places = {}
        if output:
            copies[names[len(shards)]] = output
            places[output.name] = names[len(shards)]
        if change.biases:
            dtype = target.feed_forward.outputs[0][1].dtype
            biases = {name: _bias(name, *bias, edits, dtype, rounding) for name, bias in change.biases.items()}
            made[names[-1]] = _serialise(biases, dtype)
            places |= dict.fromkeys(biases, names[-1])
        shards = dict(zip(names, shards.values(), strict=False))
        made[INDEX] = _index(target, change, shards, places, output)
        edits = {name: edit for name, edit in edits.items() if name not in _filled(change)}
    if change.config or what.compat_config or what.untied:
        made[CONFIG] = _config(target, change, compat=what.compat_config, untied=what.untied)
    return Layout(shards, edits, made, rounding, copies)


def _output(what: Carried) -> Copied | None:
    """Return the output table of a tied model whose input and output are edited apart: the base's own rows, at first."""
    table = what.table
    if table is None or table.has_output or not what.untied:
        return None
    size = table.tensor.end - table.tensor.begin
    entry = {"dtype": table.tensor.dtype, "shape": list(table.tensor.shape), "data_offsets": [0, size]}
    header = header_bytes({"__metadata__": {"format": "pt"}, table.output: entry})
    return Copied(header, table.shard, table.tensor, table.output)


def _config(target: Target, change: Rewrite, *, compat: bool, untied: bool) -> bytes:
    text = (target.source.folder / CONFIG).read_bytes().decode("utf-8")  # as text, line ends would change
    config = target.checkpoint.config
    nested = text_config(config) is not config
    text = with_keys(text, change.config, TEXT_CONFIG if nested else None)
    if untied:  # said in both places of a wrapper: some runtimes read the one, some the other
        for place in (None, TEXT_CONFIG) if nested else (None,):
            text = with_keys(text, {TIE: False}, place)
    if compat:
        for place, keys in old_keys(json.loads(text)).items():
            text = with_keys(text, keys, place)
    return text.encode()


def _edits(target: Target, what: Carried) -> dict[str, TensorEdit | ByteEdit]:
    tensors = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    edits: dict[str, TensorEdit | ByteEdit] = {}
    constants = constants_of(target, what)
    for number, (layer, constant) in enumerate(zip(what.plan.layers, constants, strict=True)):
        if len(layer.neurons) and is_packed_layer(target, number):
            edits |= of_packed_layer(layer, target, number)
        elif len(layer.neurons):
            named = LayerTensors(target.feed_forward, number, tensors)
            edits |= of_layer(layer, named, constant, biased=what.carrier in EXACT)
    edits |= edits_of(target, what.plan.experts, tensors)
    for vector in what.vectors:
        named = LayerTensors(target.feed_forward, vector.block, tensors)
        for name, edit in of_vector(vector, named, constants[vector.block]).items():
            before = edits.get(name)
            edits[name] = merged(before, edit) if isinstance(before, TensorEdit) else edit
    if what.tokens:
        moved, table = what.tokens.redirection, what.tokens.table
        written = [table.output] if what.tokens.one_table and table.has_output else []
        for name in (table.tensor.name, *written):
            edits[name] = TensorEdit(0, moved.ids, np.ones(len(moved.ids)), rows=moved.deltas)
    return edits | (what.silenced.edits() if what.silenced else {})


def constants_of(target: Target, what: Carried) -> Sequence[Constant | None]:
    """Return what is 1 in each layer; None everywhere where nothing needs it."""
    if not (what.plan.constant or what.vectors):
        return [None] * len(what.plan.layers)
    found = functions(target)
    if what.calibration is None:
        return list(map(exact_level, found))
    rows = zip(what.calibration.directions, what.calibration.levels, found, strict=True)
    return [Constant(w, float(t), float(act(np.array([float(t)]))[0])) for w, t, act in rows]


def _filled(change: Rewrite) -> set[str]:
    return {source for _, source in change.biases.values() if source}


def _bias(
    name: str,
    length: int,
    source: str | None,
    edits: Mapping[str, TensorEdit | ByteEdit],
    dtype: str,
    rounding: Rounding,
) -> floats.Array:
    """Return a new bias as stored: zeros, and what the edit of that name puts into them."""
    exact = np.zeros(length)
    edit = edits.get(source or "")
    if isinstance(edit, TensorEdit) and edit.constants:
        exact[edit.where] = edit.constants()[:, 0]
    stored = floats.from_float64(exact, dtype)
    if not floats.all_finite(stored, dtype):
        raise RecipeError(f"{name}: a constant doesn't fit in {floats.NAMES[dtype]}. Use a smaller `strength`.")
    rounding.add("biases", exact, floats.to_float64(stored, dtype), exact)
    return stored


def _header(shard: Shard, split: Callable[[Tensor], list[tuple[str, int]]] | None) -> bytes:
    """Return the shard's own header, byte for byte, unless a tensor of it is split."""
    if split is None or all(len(split(tensor)) == 1 for tensor in shard.tensors):
        return shard.header
    old = parse_json(shard.header[8:], f"the header of {shard.path}")
    start = len(shard.header)
    entries: dict[str, Any] = {"__metadata__": old["__metadata__"]} if "__metadata__" in old else {}
    for tensor in shard.tensors:
        at = tensor.begin - start
        row = (tensor.end - tensor.begin) // max(1, tensor.shape[0]) if tensor.shape else 0
        parts = split(tensor)
        for name, rows in parts:
            shape = tensor.shape if len(parts) == 1 else (rows, *tensor.shape[1:])
            end = at + rows * row if len(parts) > 1 else tensor.end - start
            entries[name] = {"dtype": tensor.dtype, "shape": list(shape), "data_offsets": [at, end]}
            at = end
    return header_bytes(entries)


def header_bytes(entries: Mapping[str, Any]) -> bytes:
    """Return the header of a safetensors file with these entries, its length first and the data aligned."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _serialise(tensors: Mapping[str, floats.Array], dtype: str) -> bytes:
    """Return a safetensors file of one-dimensional tensors."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, stored in tensors.items():
        entries[name] = {"dtype": dtype, "shape": [len(stored)], "data_offsets": [at, at + stored.nbytes]}
        at += stored.nbytes
    return header_bytes(entries) + b"".join(stored.tobytes() for stored in tensors.values())


def _index(
    target: Target,
    change: Rewrite,
    shards: Mapping[str, tuple[bytes, Shard]],
    new: Mapping[str, str],
    output: Copied | None,
) -> bytes:
    """Return the index of all shards, `new` being the places of new tensors.

    Of the base's own, if it has one, the rest of the metadata stays.
    """
    path = target.source.folder / INDEX
    old = parse_json(path.read_bytes(), str(path)).get("metadata", {}) if path.exists() else {}
    size = np.dtype(floats.STORED[target.feed_forward.outputs[0][1].dtype]).itemsize
    added = sum(length for length, _ in change.biases.values())
    total = sum(shard.size - len(shard.header) for _, shard in shards.values()) + added * size
    if output:
        total += output.tensor.end - output.tensor.begin
        added += math.prod(output.tensor.shape)
    metadata = {**old, "total_size": total}
    if isinstance(old.get("total_parameters"), int):
        metadata["total_parameters"] = old["total_parameters"] + added
    # by the headers: to an edit, the experts that are stacked in one tensor are tensors of their own
    places = {
        tensor: name
        for name, (header, _) in shards.items()
        for tensor in parse_json(header[8:], f"the header of {name}")
        if tensor != "__metadata__"
    } | dict(new)
    return (json.dumps({"metadata": metadata, "weight_map": dict(sorted(places.items()))}, indent=2) + "\n").encode()
