"""Safetensors checkpoints as files: headers, shards, the index. Nothing here builds a model.

A safetensors file is 8 bytes (the header's length N, little-endian), N bytes of JSON, then the data:

    {"name": {"dtype": "BF16", "shape": [d, d_ff], "data_offsets": [begin, end]}, ..., "__metadata__": {"format": "pt"}}

A folder has one `model.safetensors`, or several shards named by `model.safetensors.index.json`. Everything that could
make a reader go wrong is refused here, with the cause, before anyone edits or loads anything: truncated files, offsets
that overlap, leave holes or run past the end, an index that names files outside the folder or misplaces a tensor, both
layouts side by side (some runtimes read the one, some the other), pickled weights, and quantised ones where they were not
asked for.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError, MalformedError, ModelError, MonoglotWarning
from . import json_text
from .companions import ADAPTER, check_content, check_link

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
MAX_HEADER = 100_000_000  # bytes; the safetensors library's own limit
MOST_DIMENSIONS = 64  # of a tensor: no library reads more
MAX_BYTES = 2**63 - 1  # no dimension, offset or size is larger
LFS_POINTER = b"version https://git-lfs"

ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

NUMBERED = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")  # a shard, as transformers names it
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Tensor(NamedTuple):  # a large mixture has 100,000, and a frozen dataclass takes three times as long to make
    """Where one tensor lies: `begin` and `end` are offsets in bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Shard:
    """One safetensors file. `tensors` are in the order of their bytes."""

    path: Path
    size: int
    header: bytes
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder: its `config.json` as parsed JSON, and its shards in the order of their names."""

    folder: Path
    config: dict[str, Any]
    shards: tuple[Shard, ...]

    def tensors(self) -> Iterator[tuple[Shard, Tensor]]:
        for shard in self.shards:
            for tensor in shard.tensors:
                yield shard, tensor

    def find(self, name: str) -> tuple[Shard, Tensor] | None:
        return self._places.get(name)

    @cached_property
    def _places(self) -> dict[str, tuple[Shard, Tensor]]:
        return {tensor.name: (shard, tensor) for shard, tensor in self.tensors()}

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the weight files, the index included."""
        index = (INDEX,) if (self.folder / INDEX).exists() else ()
        return (*(shard.path.name for shard in self.shards), *index)


def parse_json(text: bytes, place: str) -> Any:
    """Read JSON as `json_text.parse` does. Raises CheckpointError for what is none."""
    try:
        return json_text.parse(text)
    except MalformedError as error:
        raise CheckpointError(f"{place} is not valid JSON ({error}). Download the file again.") from None


def _whole(values: list[Any]) -> bool:
    """Whether they are whole numbers that a file can hold; asked twice a tensor, of which there may be 100,000."""
    for value in values:  # noqa: SIM110  # with a generator it takes twice as long
        if type(value) is not int or not 0 <= value <= MAX_BYTES:
            return False
    return True


def _bits(dtype: str, shape: list[int]) -> int:
    """Return the bits that a tensor takes; stop at what no file can hold, for a header may claim thousands of dimensions."""
    bits = ITEM_BITS[dtype]
    if 0 in shape:
        return 0
    for length in shape:
        bits *= length
        if bits > MAX_BYTES:
            break
    return bits


def _shown(value: Any) -> str:
    """Write a value from a file so that a message can hold it."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "…"


def _tensor(name: str, entry: Any, place: str, start: int) -> Tensor:
    """Read a tensor from its header entry; `start` is where the data starts, which its offsets are relative to."""
    if not isinstance(entry, dict):
        raise CheckpointError(
            f"{place}: the header's entry for {_shown(name)} is not an object. The file is damaged: download it again."
        )
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        raise CheckpointError(
            f"{place}: tensor {_shown(name)} has the unknown dtype {_shown(dtype)}. The file is damaged, or newer than "
            "this version of monoglot: download it again, or upgrade."
        )
    if not isinstance(shape, list) or not _whole(shape):
        raise CheckpointError(
            f"{place}: tensor {_shown(name)} has the impossible shape {_shown(shape)}. The file is damaged: "
            "download it again."
        )
    if not isinstance(offsets, list) or len(offsets) != 2 or not _whole(offsets):
        raise CheckpointError(
            f"{place}: tensor {_shown(name)} has the impossible offsets {_shown(offsets)}. The file is damaged: "
            "download it again."
        )
    begin, end = offsets
    if (end - begin) * 8 != _bits(dtype, shape):
        raise CheckpointError(
            f"{place}: tensor {_shown(name)} claims bytes {begin} to {end}, "
            f"which is not what {dtype} of shape {_shown(shape)} takes. The file is damaged: download it again."
        )
    if len(shape) > MOST_DIMENSIONS:
        raise CheckpointError(
            f"{place}: tensor {_shown(name)} has the impossible shape {_shown(shape)}. The file is damaged: "
            "download it again."
        )
    return Tensor(name, dtype, tuple(shape), start + begin, start + end)


def read_shard(path: Path) -> Shard:
    """Read and check the header of one safetensors file.

    Raises CheckpointError when the file is truncated, the header is over 100 MB or malformed, or the tensors overlap,
    leave holes, or do not end where the file ends.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if LFS_POINTER.startswith(prefix) and file.read(len(LFS_POINTER) - 8) == LFS_POINTER[8:]:
                raise CheckpointError(f"{path} is a Git LFS pointer, not the weights. Fetch them with `git lfs pull`.")
            if length > size - 8:
                check_content(path)  # a web page, for example
            if len(prefix) < 8 or length > size - 8:
                raise CheckpointError(f"{path} is truncated: its header does not fit in it. Download it again.")
            if length > MAX_HEADER:
                raise CheckpointError(
                    f"{path} has a header of {length:,} bytes; safetensors allows {MAX_HEADER:,}. "
                    "It is not a safetensors file, or damaged: download it again."
                )
            text = file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(text) != length:
        raise CheckpointError(f"{path} became shorter while it was read. Leave the model alone and run it again.")
    header = parse_json(text, f"the header of {path}")
    if not isinstance(header, dict):
        raise CheckpointError(f"the header of {path} is not a JSON object. Download the file again.")
    if not text.startswith(b"{"):
        raise CheckpointError(f"the header of {path} starts with white space. The file is damaged: download it again.")
    about = header.get("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise CheckpointError(f"{path}: __metadata__ in the header is not a map of strings. Download the file again.")
    place, start = str(path), 8 + length
    tensors = [_tensor(name, entry, place, start) for name, entry in header.items() if name != "__metadata__"]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            problem = "overlaps the tensor before it" if tensor.begin < at else "leaves a hole before it"
            raise CheckpointError(
                f"{place}: tensor {_shown(tensor.name)} {problem}. The file is damaged: download it again."
            )
        at = tensor.end
    if at != size:
        problem = "is truncated" if size < at else "has extra bytes at its end"
        raise CheckpointError(
            f"{place} {problem}: the header asks for {at:,} bytes, the file has {size:,}. Download it again."
        )
    return Shard(path, size, prefix + text, tuple(tensors))


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _shard_names(folder: Path) -> dict[str, set[str]]:
    """Shard file name -> names of the tensors that the index puts there (empty set: no index)."""
    single, index = folder / SINGLE, folder / INDEX
    if single.exists() and not index.exists():
        return {SINGLE: set()}
    if not index.exists():
        raise ModelError(_why_no_safetensors(folder))
    check_content(index)
    mapping = parse_json(_read(index), str(index))
    weight_map = mapping.get("weight_map") if isinstance(mapping, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map. Download it again.")
    shards: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        known = isinstance(name, str) and name in shards
        if not known and (
            not isinstance(name, str) or name != Path(name).name or "\\" in name or not name.endswith(".safetensors")
        ):
            raise CheckpointError(
                f"{index} places tensor {_shown(tensor)} in {_shown(name)}, which is not a .safetensors file of this folder. "
                "Such an index is damaged or hostile: don't use it."
            )
        shards.setdefault(name, set()).add(tensor)
    if single.exists() and set(shards) != {SINGLE}:  # mlx-lm writes an index of the one file
        raise CheckpointError(
            f"{folder} holds both {SINGLE} and {INDEX}. Runtimes disagree on which to read: "
            "remove the one that is not meant."
        )
    for name in shards:
        if not _is_file(folder / name):
            raise CheckpointError(f"{index} names {_shown(name)}, which is not in {folder}. Download it.")
    for path in sorted(folder.glob("*-of-*.safetensors")):
        if path.name not in shards and NUMBERED.search(path.name) and read_shard(path).tensors:
            raise CheckpointError(
                f"{index} leaves out {_shown(path.name)}, which lies beside it and holds tensors. The shards and the index "
                "are of different downloads: download the index again, or remove what is not the model's."
            )
    return shards


def _why_no_safetensors(folder: Path) -> str:
    if (folder / SINGLE).is_symlink() or (folder / INDEX).is_symlink():
        return f"{folder} has links to weights that are not there. Download the model again."
    if (folder / ADAPTER).is_file():
        return (
            f"{folder} is an adapter{_of_base(folder)}, not a model. Merge it into the weights first (peft: "
            "merge_and_unload), save the result, and use that folder."
        )
    if snapshots := sorted(path for path in folder.glob("snapshots/*") if path.is_dir()):
        return (
            f"{folder} is a folder of the Hub's cache. The model lies in {snapshots[-1]}: use that, or the model's id."
        )
    if any(folder.glob("*.gguf")):
        return (
            f"{folder} holds GGUF files only. Name one of them to `monoglot bake`, which can switch a language off in it; "
            "for everything else use the safetensors checkpoint of the model's original repository."
        )
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        return (
            f"{folder} has pickled weights only, which monoglot never loads. Convert them once, in an environment "
            'where you trust them: AutoModelForCausalLM.from_pretrained("…").save_pretrained("converted"), '
            "then use that folder."
        )
    return f"{folder} has neither {SINGLE} nor {INDEX}: it is not a safetensors checkpoint."


def _of_base(folder: Path) -> str:
    """Name the model that an adapter says it is of."""
    try:
        base = parse_json(_read(folder / ADAPTER), str(folder / ADAPTER)).get("base_model_name_or_path")
    except (CheckpointError, AttributeError):
        return ""
    return f" of {base}" if isinstance(base, str) and base.isprintable() else ""


def read_config(folder: Path, *, quantised: bool = False) -> dict[str, Any]:
    """Read `config.json` of a checkpoint folder.

    Raises ModelError when it is missing, or describes quantised weights and these were not asked for.
    """
    path = folder / CONFIG
    if not path.is_file():
        hint = _why_no_safetensors(folder) if not (folder / SINGLE).exists() else "Download the whole model."
        raise ModelError(f"{folder} has no {CONFIG}. {hint}")
    check_content(path)
    config = parse_json(_read(path), str(path))
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object. Download it again.")
    if quantised:
        return config
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and (quantisation := part.get("quantization_config")):
            method = quantisation.get("quant_method", "unknown") if isinstance(quantisation, dict) else "unknown"
            raise ModelError(
                f"{folder} is quantised ({method}). Edit the original checkpoint, then quantise the result."
            )
    return config


def read_checkpoint(folder: Path, *, quantised: bool = False) -> Checkpoint:
    """Read config, index and every shard's header, and check them against each other.

    `quantised` weights are refused unless they are only to be looked at. Raises ModelError (no such thing, pickled,
    quantised) or CheckpointError (malformed bytes).
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.")
    config = read_config(folder, quantised=quantised)
    names = _shard_names(folder)
    shards = tuple(read_shard(folder / name) for name in sorted(names))
    held: dict[str, str] = {}
    for shard in shards:
        check_link(shard.path, folder)
        name = shard.path.name
        for tensor in shard.tensors:
            if tensor.name in held:
                raise CheckpointError(f"{folder}: tensor {_shown(tensor.name)} lies in two shards. Download it again.")
            held[tensor.name] = name
    _check_index(folder, names, held)
    return Checkpoint(folder, config, shards)


def _check_index(folder: Path, names: Mapping[str, set[str]], held: Mapping[str, str]) -> None:
    """Hold the index against the shards. A tensor that no shard holds is passed over, as transformers does: a warning."""
    nowhere = set()
    for shard, listed in names.items():
        for tensor in listed:
            if tensor not in held:
                nowhere.add(tensor)
            elif held[tensor] != shard:
                raise CheckpointError(
                    f"{folder / INDEX} places tensor {_shown(tensor)} in {shard}, which does not hold it. "
                    "The shards and the index are of different downloads: download them again."
                )
    if nowhere:
        warnings.warn(
            f"{folder / INDEX} lists {len(nowhere)} tensors that no shard holds, for example {_shown(min(nowhere))}. "
            "They are passed over, as transformers does.",
            MonoglotWarning,
            stacklevel=2,
        )
