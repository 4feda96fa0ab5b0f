"""GGUF files as files: the header as data, and where each tensor's bytes lie. No tensor is loaded.

A GGUF file (llama.cpp's format), here of version 2 or 3 and little-endian, is

    "GGUF", version u32, tensors u64, keys u64
    keys       name, type u32, value          a string is its length, u64, and its bytes; an array its type u32,
                                              its length u64 and the items
    tensors    name, dimensions u32, each u64 (the fastest first: (d, d_ff) for rows of d), type u32, offset u64
    data       from the next multiple of general.alignment on; offsets count from there

The bytes may be hostile: every length is held against what is left of the file before anything is read or made, values that
nobody asks for (a vocabulary of 262,144 tokens, its merges) are passed over and not kept, and whatever would make a reader
go wrong is refused: a header that breaks off, names that stand twice, tensors that overlap or run past the end of the file.

A tensor's rows are whole blocks of its type. Of the types marked in `TYPES` it is proved, in the tests, that a block of zero
bytes stands for zeros: its scale is zero, and so is its offset.
"""

import math
import os
import struct
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..errors import CheckpointError, ModelError
from .checkpoint import LFS_POINTER

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_KEYS = 10_000
MAX_TENSORS = 100_000
MAX_NAME = 64  # bytes of a tensor's name, with the zero that llama.cpp puts behind it
MAX_DIMENSIONS = 4
KEPT_TEXT = 256  # bytes; longer texts are chat templates and the like
LONG_TEXT = 2**20  # bytes; no token is as long
KEPT_ITEMS = 1024  # of an array of numbers
ALIGNMENT = 32  # where the file says nothing
DAMAGED = "The file is damaged: download it again."


class Type(NamedTuple):
    """A block of `block` numbers takes `bytes`. `zero`: whether zero bytes are known to stand for zeros."""

    name: str
    block: int
    bytes: int
    zero: bool = True


TYPES = {
    0: Type("F32", 1, 4), 1: Type("F16", 1, 2), 30: Type("BF16", 1, 2),
    2: Type("Q4_0", 32, 18), 3: Type("Q4_1", 32, 20), 6: Type("Q5_0", 32, 22), 7: Type("Q5_1", 32, 24),
    8: Type("Q8_0", 32, 34),
    10: Type("Q2_K", 256, 84), 11: Type("Q3_K", 256, 110), 12: Type("Q4_K", 256, 144), 13: Type("Q5_K", 256, 176),
    14: Type("Q6_K", 256, 210),
    16: Type("IQ2_XXS", 256, 66), 17: Type("IQ2_XS", 256, 74), 22: Type("IQ2_S", 256, 82), 18: Type("IQ3_XXS", 256, 98),
    21: Type("IQ3_S", 256, 110), 19: Type("IQ1_S", 256, 50), 29: Type("IQ1_M", 256, 56), 20: Type("IQ4_NL", 32, 18),
    23: Type("IQ4_XS", 256, 136),
    34: Type("TQ1_0", 256, 54), 35: Type("TQ2_0", 256, 66), 39: Type("MXFP4", 32, 17), 40: Type("NVFP4", 64, 36),
    # not those of weights, or not proved
    9: Type("Q8_1", 32, 40, False), 15: Type("Q8_K", 256, 292, False), 24: Type("I8", 1, 1, False),
    25: Type("I16", 1, 2, False), 26: Type("I32", 1, 4, False), 27: Type("I64", 1, 8, False),
    28: Type("F64", 1, 8, False), 41: Type("Q1_0", 128, 18, False), 42: Type("Q2_0", 64, 18, False),
}  # fmt: skip

NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9


@dataclass(frozen=True)
class Tensor:
    """`shape` is as the file has it, the fastest dimension first; `begin` and `end` are offsets from the file's start."""

    name: str
    type: Type
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def rows(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        return (self.shape[0] if self.shape else 1) // self.type.block * self.type.bytes


@dataclass(frozen=True)
class Gguf:
    """A GGUF file's header.

    `keys` has the numbers, short texts and short arrays of numbers; `tensors` are in the order of their bytes.
    """

    path: Path
    size: int
    keys: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        return str(self.keys["general.architecture"])

    @property
    def types(self) -> Counter[str]:
        """How many tensors there are of each type."""
        return Counter(tensor.type.name for tensor in self.tensors.values())


def is_gguf(name: str | Path) -> bool:
    """Whether a name is that of a GGUF file: by its ending, or by its first bytes. Folders are none."""
    path = os.path.expanduser(name)  # noqa: PTH111  # Path.expanduser fails on an unknown user
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir fails on a name that is too long
        return False
    if str(name).endswith(".gguf"):
        return True
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


def read_gguf(path: Path) -> Gguf:
    """Read and check a file's header.

    Raises ModelError when there is no such file, when it is one part of several, and for versions and types that are not
    read; CheckpointError when its bytes are malformed.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}. Name a GGUF file.")
    try:
        with path.open("rb", buffering=2**20) as file:
            return _read(path, _Header(file, path.stat().st_size, path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from None


class _Header:
    """Reads on from the start of a file, and never past its end."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self.file, self.size, self.path = file, size, path
        self.at = 0

    def need(self, count: int, each: int = 1) -> None:
        """Raise CheckpointError unless the file still has `count` things of at least `each` bytes."""
        if count * each > self.size - self.at:
            raise CheckpointError(
                f"{self.path} breaks off in its header, or asks for more than it can hold (at byte {self.at:,} of "
                f"{self.size:,}). Download it again."
            )

    def take(self, count: int) -> bytes:
        self.need(count)
        data = self.file.read(count)
        if len(data) != count:
            raise CheckpointError(f"{self.path} became shorter while it was read. Leave it alone and run it again.")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        self.need(count)
        self.file.seek(count, os.SEEK_CUR)
        self.at += count

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def name(self, what: str, longest: int) -> str:
        length = self.number("<Q")
        self.need(length)
        if not 0 < length <= longest:
            raise CheckpointError(f"{self.path}: {what} has a name of {length:,} bytes. {DAMAGED}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: {what} has a name that is not UTF-8. {DAMAGED}") from None

    def text(self) -> str | None:
        """None where it is too long to be kept, or not UTF-8, as a token may be."""
        length = self.number("<Q")
        if length > KEPT_TEXT:
            self.skip(length)
            return None
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            return None

    def skip_texts(self, count: int) -> None:
        self.need(count, 8)
        length = self.number("<Q") if count else 0
        read, left = self.file.read, self.size - self.at
        for _ in range(count - 1):  # a vocabulary: one read for a text and the length of the next
            left -= length + 8
            if left < 0 or length > LONG_TEXT:
                break
            length = int.from_bytes(read(length + 8)[length:], "little")
        else:
            self.at = self.size - left
            self.skip(length)
            return
        raise CheckpointError(f"{self.path} has a text of {length:,} bytes in a list of its header. {DAMAGED}")

    def array(self, key: str) -> tuple[Any, ...] | None:
        """None where it is of texts, or too long to be kept."""
        kind, count = self.number("<I"), self.number("<Q")
        if kind == TEXT:
            self.skip_texts(count)
            return None
        if kind not in NUMBERS:
            raise CheckpointError(f"{self.path}: key {key!r} is an array of the unknown type {kind}. {DAMAGED}")
        code = NUMBERS[kind]
        self.need(count, struct.calcsize(code))
        if count > KEPT_ITEMS:
            self.skip(count * struct.calcsize(code))
            return None
        return struct.unpack(f"<{count}{code[1:]}", self.take(count * struct.calcsize(code)))

    def value(self, key: str) -> Any:
        kind = self.number("<I")
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            return self.array(key)
        if kind not in NUMBERS:
            raise CheckpointError(f"{self.path}: key {key!r} is of the unknown type {kind}. {DAMAGED}")
        return self.number(NUMBERS[kind])


def _read(path: Path, header: _Header) -> Gguf:
    _check_start(path, header)
    tensors, keys = header.number("<Q"), header.number("<Q")
    header.need(keys, 13)
    header.need(tensors, 24)
    if keys > MAX_KEYS or tensors > MAX_TENSORS:
        raise CheckpointError(f"{path} claims {keys:,} keys and {tensors:,} tensors, which no model has. {DAMAGED}")
    found: dict[str, Any] = {}
    for number in range(keys):
        key = header.name(f"key {number}", 2**16 - 1)
        if key in found:
            raise CheckpointError(f"{path}: key {key!r} stands twice. {DAMAGED}")
        found[key] = header.value(key)
    if not isinstance(found.get("general.architecture"), str):
        raise CheckpointError(f"{path} has no general.architecture. It is not a model, or damaged: convert it again.")
    if isinstance(parts := found.get("split.count"), int) and parts > 1:
        raise ModelError(
            f"{path} is one of {parts} parts. Join them first: llama-gguf-split --merge FIRST-PART whole.gguf"
        )
    alignment = found.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment % 8:
        raise CheckpointError(f"{path} has the impossible general.alignment {alignment!r}. {DAMAGED}")
    relative = [_tensor(path, header, number) for number in range(tensors)]
    start = -(-header.at // alignment) * alignment
    return Gguf(path, header.size, found, _placed(path, relative, start, alignment, header.size))


def _check_start(path: Path, header: _Header) -> None:
    if header.size >= len(LFS_POINTER) and header.file.read(len(LFS_POINTER)) == LFS_POINTER:
        raise CheckpointError(f"{path} is a Git LFS pointer, not the model. Fetch it with `git lfs pull`.")
    header.file.seek(0)
    if header.take(4) != MAGIC:
        raise CheckpointError(f"{path} is not a GGUF file: it does not start with GGUF. Download it again.")
    version = header.number("<I")
    if version and not version & 0xFFFF:
        raise ModelError(
            f"{path} is big-endian; only little-endian GGUF files are read. Turn it round: gguf-convert-endian FILE little"
        )
    if version not in VERSIONS:
        raise ModelError(
            f"{path} is of GGUF version {version}, this version of monoglot reads {' and '.join(map(str, VERSIONS))}. "
            "Convert the model again with a current llama.cpp, or upgrade monoglot."
        )


def _tensor(path: Path, header: _Header, number: int) -> Tensor:
    """Read a tensor from its entry; its offsets are still relative to the data."""
    name = header.name(f"tensor {number}", MAX_NAME - 1)
    dimensions = header.number("<I")
    if dimensions > MAX_DIMENSIONS:
        raise CheckpointError(f"{path}: tensor {name!r} has {dimensions:,} dimensions. {DAMAGED}")
    shape = tuple(header.number("<Q") for _ in range(dimensions))
    kind, offset = header.number("<I"), header.number("<Q")
    if kind not in TYPES:
        raise ModelError(
            f"{path}: tensor {name!r} is of type {kind}, which is not known. Convert the model again with a current "
            "llama.cpp, or upgrade monoglot."
        )
    known = TYPES[kind]
    if shape and shape[0] % known.block:
        raise CheckpointError(
            f"{path}: rows of tensor {name!r} are {shape[0]:,} long, no whole blocks of {known.name}. {DAMAGED}"
        )
    size = (math.prod(shape) + known.block - 1) // known.block * known.bytes
    return Tensor(name, known, shape, offset, offset + size)


def _placed(path: Path, relative: list[Tensor], start: int, alignment: int, size: int) -> dict[str, Tensor]:
    """Return the tensors with offsets from the start of the file, in the order of their bytes."""
    placed: dict[str, Tensor] = {}
    for tensor in sorted(relative, key=lambda one: (one.begin, one.end)):
        if tensor.name in placed:
            raise CheckpointError(f"{path}: tensor {tensor.name!r} stands twice. {DAMAGED}")
        if tensor.begin % alignment:
            raise CheckpointError(
                f"{path}: tensor {tensor.name!r} does not lie at a multiple of {alignment}. {DAMAGED}"
            )
        if start + tensor.end > size:
            raise CheckpointError(
                f"{path} is truncated: tensor {tensor.name!r} ends at byte {start + tensor.end:,}, the file has {size:,}. "
                "Download it again."
            )
        placed[tensor.name] = Tensor(tensor.name, tensor.type, tensor.shape, start + tensor.begin, start + tensor.end)
    for one, other in pairwise(placed.values()):
        if other.begin < one.end:
            raise CheckpointError(f"{path}: tensors {one.name!r} and {other.name!r} overlap. {DAMAGED}")
    return placed
