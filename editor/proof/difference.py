"""What distinguishes two checkpoints, as files: tensors, configs, headers' metadata, and everything beside the weights.

Tensors of the same name, shape and dtype are compared in chunks of bytes, whichever shards they lie in; only from the first
chunk that differs on are numbers looked at, a block of rows at a time, so memory is bounded by one block and what is known
of a tensor's columns. How the tensors are spread over shards is reported, but no difference.

Where nothing differs but output projections of feed-forward networks, the difference may be one that a recipe can say.
For neuron j, with w and v its column (Conv1D: row) of W_out in the one and the other,

    v = 0                          deactivate
    v = round(k·w) for some k      scale k

Rounding leaves an interval of factors k that give the same v: that of an element is (v − half a step below, v + half a step
above) / w, that of the neuron the intersection of all. Neurons whose intervals overlap share the shortest decimal number
that lies in all of them. Then the recipe is carried out, with the arithmetic of `bake`, and held against every byte.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..edits import manifest as manifest_file
from ..edits.manifest import Manifest
from ..errors import MonoglotError
from ..files import floats
from ..files.checkpoint import CONFIG, INDEX, ITEM_BITS, Checkpoint, parse_json, read_checkpoint
from ..files.fingerprint import fingerprint
from ..files.streams import Place, equal_files, first_difference, row_blocks, row_layout
from ..models.compat_config import old_keys
from ..models.source import IGNORED, Source

FEW = 5  # rows and columns that are named
PLAIN = {"F64": np.float64, "I8": np.int8, "U8": np.uint8, "BOOL": np.uint8, "I16": np.int16, "U16": np.uint16,
         "I32": np.int32, "U32": np.uint32, "I64": np.int64, "U64": np.uint64}  # fmt: skip

Progress = Callable[[int, int], None]  # bytes compared, bytes in all
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TensorDifference:
    """The difference of a tensor whose bytes differ.

    Rows lie along the first axis, columns along the second of two; `first_rows` and `first_columns` are the first FEW.
    Changes are |v − w|, and |v − w| / |w| where w ≠ 0, over finite numbers; None where a dtype's numbers aren't read.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    numbers: int
    rows: int
    first_rows: tuple[int, ...]
    columns: int
    first_columns: tuple[int, ...]
    largest: float | None
    largest_relative: float | None


@dataclass(frozen=True)
class Difference:
    """The difference of two checkpoints.

    `only`: names of tensors in the one and in the other. `other_form`: name -> what dtype and shape it has in each.
    `config` and `metadata`: dotted key -> (value, value), ABSENT for a key that is not there; `respelled` are those of the
    config that say in the older spelling what the other says in the newer alone. `files`: name -> "changed",
    "only in A" or "only in B"; `same_files` are the equal ones. `shards`: how many each has. `manifests`: those of the
    checkpoints that monoglot made.
    """

    only: tuple[tuple[str, ...], tuple[str, ...]]
    other_form: dict[str, tuple[str, str]]
    changed: tuple[TensorDifference, ...]
    same: int
    config: dict[str, tuple[Any, Any]]
    metadata: dict[str, tuple[Any, Any]]
    files: dict[str, str]
    same_files: tuple[str, ...]
    shards: tuple[int, int]
    fingerprints: tuple[str, str]
    manifests: tuple[Manifest | None, Manifest | None] = (None, None)
    respelled: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.weights or self.config or self.metadata or self.files)

    @property
    def weights(self) -> bool:
        """Whether the tensors differ."""
        return bool(self.only[0] or self.only[1] or self.other_form or self.changed)


def difference(a: Source, b: Source, progress: Progress | None = None) -> Difference:
    """Compare two checkpoints, of any families, quantised ones too. Raises ModelError when one can't be read."""
    one, other = (read_checkpoint(source.folder, quantised=True) for source in (a, b))
    ours, theirs = ({tensor.name: (shard, tensor) for shard, tensor in each.tensors()} for each in (one, other))
    both = [name for name in ours if name in theirs]
    alike = [name for name in both if _form(ours[name]) == _form(theirs[name])]
    total = sum(ours[name][1].end - ours[name][1].begin for name in alike)
    done, changed = 0, []
    for name in alike:
        found = _compare(ours[name], theirs[name])
        if found:
            changed.append(found)
        done += ours[name][1].end - ours[name][1].begin
        if progress:
            progress(done, total)
    files, same_files = _files(one, other)
    config = _pairs(flat(one.config), flat(other.config))
    return Difference(
        only=(_absent(ours, theirs), _absent(theirs, ours)),
        other_form={n: (_form(ours[n]), _form(theirs[n])) for n in both if n not in set(alike)},
        changed=tuple(changed),
        same=len(alike) - len(changed),
        config=config,
        metadata=_pairs(_metadata(one), _metadata(other)),
        files=files,
        same_files=same_files,
        shards=(len(one.shards), len(other.shards)),
        fingerprints=(fingerprint(one), fingerprint(other)),
        manifests=(_manifest(a.folder), _manifest(b.folder)),
        respelled=_respelled(config, one.config, other.config),
    )


def _absent(ours: Mapping[str, Place], theirs: Mapping[str, Place]) -> tuple[str, ...]:
    return tuple(sorted(ours.keys() - theirs.keys()))


def _form(place: Place) -> str:
    """ "BF16 640 × 2048"."""
    tensor = place[1]
    return f"{tensor.dtype} {' × '.join(map(str, tensor.shape)) or 'one number'}"


def _manifest(folder: Path) -> Manifest | None:
    """Return the manifest, if there is one that can be read."""
    try:
        return manifest_file.read(folder)
    except MonoglotError:
        return None


# Tensors


def _compare(ours: Place, theirs: Place) -> TensorDifference | None:
    """None when the bytes are equal."""
    (shard, tensor), (other, same) = ours, theirs
    first = first_difference(shard.path, other.path, tensor.begin, same.begin, tensor.end - tensor.begin)
    return None if first is None else _look(ours, theirs, first)


@dataclass
class _Extremes:
    """The largest changes so far."""

    absolute: float = 0.0
    relative: float = 0.0

    def add(self, old: Float64, new: Float64) -> None:
        with np.errstate(all="ignore"):
            change = np.abs(new - old)
            relative = change / np.abs(old)
        self.absolute = max(self.absolute, float(change[np.isfinite(change)].max(initial=0.0)))
        self.relative = max(self.relative, float(relative[np.isfinite(relative)].max(initial=0.0)))


def _look(ours: Place, theirs: Place, start: int) -> TensorDifference:
    """Find what differs in two tensors of one form, which are equal before byte `start`."""
    tensor = ours[1]
    readable = tensor.dtype in floats.STORED or tensor.dtype in PLAIN
    bits = f"u{max(1, ITEM_BITS[tensor.dtype] // 8)}"
    kind = np.dtype(floats.STORED.get(tensor.dtype) or PLAIN.get(tensor.dtype) or bits)
    _, row_bytes = row_layout(tensor)
    columns: npt.NDArray[np.bool_] | None = None
    numbers, rows, first_rows, extremes = 0, 0, list[int](), _Extremes()
    for (row, one), (_, other) in zip(row_blocks(ours, start), row_blocks(theirs, start), strict=True):
        if one == other:
            continue
        old, new = (np.frombuffer(view, kind).reshape(len(view) // row_bytes, -1) for view in (one, other))
        unequal = old.view(bits) != new.view(bits)
        seen = np.flatnonzero(unequal.any(axis=1))
        numbers += int(unequal.sum())
        rows += len(seen)
        first_rows += (seen[: FEW - len(first_rows)] + row).tolist()
        if len(tensor.shape) == 2 and unequal.shape[1] == tensor.shape[1]:
            columns = unequal.any(axis=0) | (False if columns is None else columns)
        if readable:
            extremes.add(*(_values(each[unequal], tensor.dtype) for each in (old, new)))
    which = np.flatnonzero(columns) if columns is not None else np.zeros(0, np.int64)
    return TensorDifference(
        tensor.name, tensor.dtype, tensor.shape, numbers, rows, tuple(first_rows), len(which), tuple(which[:FEW].tolist()),
        extremes.absolute if readable else None, extremes.relative if readable else None,
    )  # fmt: skip


def _values(stored: npt.NDArray[Any], dtype: str) -> Float64:
    return floats.to_float64(stored, dtype) if dtype in floats.STORED else stored.astype(np.float64)


# Everything else


def flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested objects as dotted keys; an empty one stays a value."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        nested = isinstance(inner, dict) and inner
        found |= flat(inner, f"{before}{key}.") if nested else {f"{before}{key}": inner}
    return found


class Absent:
    """In the place of a value whose key is not there: JSON's null is a value."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values are not the same, with both values. 1, 1.0 and true are not the same."""
    found = {}
    for key in sorted(one.keys() | other.keys()):
        values = (one.get(key, ABSENT), other.get(key, ABSENT))
        if repr(values[0]) != repr(values[1]):
            found[key] = values
    return found


def _respelled(pairs: Mapping[str, tuple[Any, Any]], one: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of `pairs` of the older spelling that one config lacks and the other has."""
    ours, theirs = (
        {
            f"{place}.{key}" if place else key: value
            for place, own in old_keys(config).items()
            for key, value in own.items()
        }
        for config in (one, other)
    )
    ours, theirs = flat(ours), flat(theirs)
    return tuple(
        key
        for key, (a, b) in pairs.items()
        if (a is ABSENT and key in ours and repr(ours[key]) == repr(b))
        or (b is ABSENT and key in theirs and repr(theirs[key]) == repr(a))
    )


def _metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """`__metadata__` of the headers; of several shards the last one's where they differ."""
    found: dict[str, Any] = {}
    for shard in checkpoint.shards:
        found |= parse_json(shard.header[8:], f"the header of {shard.path}").get("__metadata__", {})
    return found


def _files(one: Checkpoint, other: Checkpoint) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the files beside weights and config: those that differ and how, and those that don't."""
    ours, theirs = (_beside(checkpoint) for checkpoint in (one, other))
    differ, same = {}, []
    for name in sorted(ours | theirs):
        if name not in theirs:
            differ[name] = "only in A"
        elif name not in ours:
            differ[name] = "only in B"
        elif not equal_files(one.folder / name, other.folder / name):
            differ[name] = "changed"
        else:
            same.append(name)
    return differ, tuple(same)


def _beside(checkpoint: Checkpoint) -> set[str]:
    names = {path.relative_to(checkpoint.folder).as_posix() for path in checkpoint.folder.rglob("*") if path.is_file()}
    weights = {*checkpoint.files, CONFIG, INDEX}
    return {
        name
        for name in names - weights
        if not any(part.startswith(".") for part in name.split("/")) and not any(fnmatch(name, p) for p in IGNORED)
    }


# As a recipe
