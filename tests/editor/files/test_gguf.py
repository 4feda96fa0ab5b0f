"""The header of GGUF files, against llama.cpp's own package, and against files that are broken or hostile."""

import struct
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ggufs

from monoglot.editor.errors import CheckpointError, ModelError
from monoglot.editor.files.gguf import TYPES, is_gguf, read_gguf

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")


def text(value: bytes) -> bytes:
    return U64.pack(len(value)) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + U32.pack(kind) + value


ARCHITECTURE = key(b"general.architecture", 8, text(b"llama"))


def entry(name: bytes, shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + U32.pack(len(shape)) + b"".join(map(U64.pack, shape)) + U32.pack(kind) + U64.pack(offset)


def file(
    path: Path, keys: Sequence[bytes] = (ARCHITECTURE,), tensors: Sequence[bytes] = (), *, data: int = 128,
    start: bytes = b"GGUF", version: bytes = U32.pack(3), counts: tuple[int, int] | None = None,
) -> Path:  # fmt: skip
    """A file of these parts."""
    n_tensors, n_keys = counts or (len(tensors), len(keys))
    head = start + version + U64.pack(n_tensors) + U64.pack(n_keys) + b"".join(keys) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


@pytest.mark.parametrize("alignment", [32, 64, 8])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0", "Q4_K", "IQ3_S"])
def test_it_reads_what_llama_cpp_reads(tmp_path: Path, kind: str, alignment: int) -> None:
    path = ggufs.write(tmp_path / "m.gguf", kind=kind, bias=True, alignment=alignment)
    found, theirs = read_gguf(path), ggufs.read(path)
    assert found.size == path.stat().st_size and found.architecture == "llama"
    assert found.tensors.keys() == theirs.keys()
    content = path.read_bytes()
    for name, tensor in theirs.items():
        own = found.tensors[name]
        assert (own.type.name, own.shape, own.begin) == (tensor.kind, tensor.shape, tensor.begin)
        assert content[own.begin : own.end] == tensor.raw.tobytes()
        assert own.row_bytes == tensor.raw.shape[1] and own.rows == tensor.raw.shape[0]
    for field in gguf.GGUFReader(path).fields.values():
        if not field.name.startswith("GGUF."):
            expected = field.contents()
            own_value = found.keys[field.name]
            if field.name == "tokenizer.ggml.tokens":
                assert own_value is None
            else:
                assert own_value == (tuple(expected) if isinstance(expected, list) else expected), field.name


def test_version_2_is_read_too(tmp_path: Path) -> None:
    path = ggufs.write(tmp_path / "m.gguf")
    content = bytearray(path.read_bytes())
    expected = read_gguf(path).tensors
    content[4:8] = U32.pack(2)
    path.write_bytes(content)
    assert read_gguf(path).tensors == expected


def test_the_table_of_types_is_ggmls() -> None:
    for kind in GGMLQuantizationType:
        known = TYPES[kind.value]
        assert (known.name, known.block, known.bytes) == (kind.name, *GGML_QUANT_SIZES[kind])


@pytest.mark.parametrize("known", TYPES.values(), ids=[known.name for known in TYPES.values()])
def test_zero_bytes_are_zeros(known: object) -> None:
    """By llama.cpp's own decoding of a block of each type; a type that it does not decode is not called known."""
    name, block, size, zero = known  # type: ignore[misc]
    assert zero == (name in ggufs.DECODED)
    if zero:
        raw = np.zeros((4, 2 * size), np.uint8)
        dtype = {"F32": np.float32, "F16": np.float16}.get(name)
        with np.errstate(all="ignore"):
            numbers = dequantize(raw.view(dtype) if dtype else raw, GGMLQuantizationType[name])
            other = dequantize((raw + 60).view(dtype) if dtype else raw + 60, GGMLQuantizationType[name])
        assert numbers.shape == (4, 2 * block) and (numbers == 0).all()
        assert (other != 0).any()


@pytest.mark.slow
def test_a_large_vocabulary_is_passed_over(tmp_path: Path) -> None:
    path = ggufs.write(tmp_path / "m.gguf", vocabulary=262_144, hidden=32)
    tracemalloc.start()
    found = read_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.keys["tokenizer.ggml.tokens"] is None and found.keys["tokenizer.ggml.scores"] is None
    assert len(found.tensors) == 11 and peak < 3e6


def test_by_name_or_by_bytes(tmp_path: Path) -> None:
    path = ggufs.write(tmp_path / "model.bin")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "other").write_text("GGML")
    assert is_gguf(path) and is_gguf("gone.gguf")
    assert not any(map(is_gguf, (tmp_path / "folder.gguf", tmp_path / "other", "gone", "m" * 5000, "a\0b")))


PLAIN = [entry(b"a"), entry(b"b", offset=128)]
BROKEN: dict[str, tuple[Callable[[Path], object], type[ModelError], str]] = {
    "empty": (lambda p: p.write_bytes(b""), CheckpointError, "breaks off in its header"),
    "magic alone": (lambda p: p.write_bytes(b"GGUF"), CheckpointError, "breaks off in its header"),
    "another format": (lambda p: file(p, start=b"GGML"), CheckpointError, "does not start with GGUF. Download"),
    "lfs": (lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), CheckpointError, "git lfs pull"),
    "version 1": (lambda p: file(p, version=U32.pack(1)), ModelError, "of GGUF version 1, this .* reads 2 and 3"),
    "version 4": (lambda p: file(p, version=U32.pack(4)), ModelError, "version 4.*or upgrade monoglot"),
    "version 0": (lambda p: file(p, version=U32.pack(0)), ModelError, "of GGUF version 0"),
    "big-endian": (lambda p: file(p, version=struct.pack(">I", 3)), ModelError, "is big-endian.*gguf-convert-endian"),
    "too many keys": (lambda p: file(p, counts=(0, 2**60)), CheckpointError, "asks for more than it can hold"),
    "too many tensors": (lambda p: file(p, counts=(2**60, 1)), CheckpointError, "asks for more than it can hold"),
    "many keys": (lambda p: file(p, counts=(0, 10_001), data=200_000), CheckpointError, "10,001 keys.*no model has"),
    "many tensors": (lambda p: file(p, counts=(100_001, 1), data=2_500_000), CheckpointError, "100,001 tensors"),
    "no architecture": (lambda p: file(p, []), CheckpointError, "has no general.architecture"),
    "architecture 5": (lambda p: file(p, [key(b"general.architecture", 4, U32.pack(5))]), CheckpointError, "has no gen"),
    "key twice": (lambda p: file(p, [ARCHITECTURE, ARCHITECTURE]), CheckpointError, "'general.architecture' stands twice"),
    "key without name": (lambda p: file(p, [key(b"", 4, U32.pack(5))]), CheckpointError, "key 0 has a name of 0 bytes"),
    "key not text": (lambda p: file(p, [key(b"\xff", 4, U32.pack(5))]), CheckpointError, "key 0 has a name that is not"),
    "long key": (lambda p: file(p, [U64.pack(2**62)]), CheckpointError, "asks for more than it can hold"),
    "long text": (lambda p: file(p, [key(b"a", 8, U64.pack(2**62))]), CheckpointError, "asks for more than it can hold"),
    "long list": (
        lambda p: file(p, [key(b"a", 9, U32.pack(8) + U64.pack(2**62))]), CheckpointError, "asks for more than it can hold",
    ),
    "long numbers": (
        lambda p: file(p, [key(b"a", 9, U32.pack(12) + U64.pack(2**61))]), CheckpointError, "asks for more than it can",
    ),
    "long token": (
        lambda p: file(p, [key(b"a", 9, U32.pack(8) + U64.pack(2) + U64.pack(2**62))]), CheckpointError, "in a list of its",
    ),
    "list in a list": (
        lambda p: file(p, [key(b"a", 9, U32.pack(9) + U64.pack(1))]), CheckpointError, "array of the unknown type 9",
    ),
    "unknown value": (lambda p: file(p, [key(b"a", 13, b"")]), CheckpointError, "'a' is of the unknown type 13"),
    "a part": (
        lambda p: file(p, [ARCHITECTURE, key(b"split.count", 2, b"\3\0")]), ModelError, "one of 3 parts. Join them first",
    ),
    "alignment 0": (
        lambda p: file(p, [ARCHITECTURE, key(b"general.alignment", 4, U32.pack(0))]), CheckpointError, "alignment 0",
    ),
    "alignment 12": (
        lambda p: file(p, [ARCHITECTURE, key(b"general.alignment", 4, U32.pack(12))]), CheckpointError, "alignment 12",
    ),
    "alignment a text": (
        lambda p: file(p, [ARCHITECTURE, key(b"general.alignment", 8, text(b"x"))]), CheckpointError, "alignment 'x'",
    ),
    "long tensor name": (lambda p: file(p, tensors=[entry(b"n" * 64)]), CheckpointError, "tensor 0 has a name of 64"),
    "dimensions": (lambda p: file(p, tensors=[entry(b"a", (1,) * 5)]), CheckpointError, "'a' has 5 dimensions"),
    "unknown type": (lambda p: file(p, tensors=[entry(b"a", kind=99)]), ModelError, "'a' is of type 99.*upgrade"),
    "removed type": (lambda p: file(p, tensors=[entry(b"a", kind=4)]), ModelError, "'a' is of type 4, which is not known"),
    "part of a block": (lambda p: file(p, tensors=[entry(b"a", (33, 2), 8)]), CheckpointError, "rows of .* no whole blocks"),
    "tensor twice": (lambda p: file(p, tensors=[entry(b"a"), entry(b"a", offset=128)], data=256), CheckpointError, "twice"),
    "overlap": (lambda p: file(p, tensors=[entry(b"a"), entry(b"b", offset=96)], data=256), CheckpointError, "overlap"),
    "out of step": (lambda p: file(p, tensors=[entry(b"a", offset=8)], data=256), CheckpointError, "at a multiple of 32"),
    "out of the file": (lambda p: file(p, tensors=PLAIN, data=255), CheckpointError, "is truncated: tensor 'b' ends"),
    "far out": (lambda p: file(p, tensors=[entry(b"a", offset=2**63)]), CheckpointError, "is truncated: tensor 'a' ends"),
    "huge": (lambda p: file(p, tensors=[entry(b"a", (2**63,) * 4)]), CheckpointError, "is truncated: tensor 'a' ends"),
    "entry breaks off": (lambda p: file(p, tensors=[entry(b"a")[:-9]], data=0), CheckpointError, "breaks off|truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    make, error, message = BROKEN[name]
    path = tmp_path / "m.gguf"
    make(path)
    tracemalloc.start()
    with pytest.raises(error, match=message) as caught:
        read_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value) and peak < 4e6
    assert (type(caught.value) is CheckpointError) == (error is CheckpointError)


def test_the_unbroken_one_is_read(tmp_path: Path) -> None:
    """Or every refusal above would prove nothing."""
    found = read_gguf(file(tmp_path / "m.gguf", tensors=PLAIN, data=256))
    assert [(one.name, one.end - one.begin) for one in found.tensors.values()] == [("a", 128), ("b", 128)]


def test_no_file(tmp_path: Path) -> None:
    for name in ("gone.gguf", "."):
        with pytest.raises(ModelError, match="there is no file"):
            read_gguf(tmp_path / name)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = ggufs.write(tmp_path / "m.gguf", hidden=32, vocabulary=5).read_bytes()
    last = max(tensor.end for tensor in read_gguf(tmp_path / "m.gguf").tensors.values())
    path = tmp_path / "cut.gguf"
    for length in [*range(0, 1500, 7), *range(1500, last, 997), last - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_gguf(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return ggufs.write(tmp_path_factory.mktemp("gguf") / "m.gguf", hidden=32, vocabulary=5).read_bytes()


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1900), value=st.one_of(st.binary(min_size=1, max_size=2), st.sampled_from(
    [U64.pack(n) for n in (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 32)])))  # fmt: skip
def test_hostile_headers_are_read_or_refused(tmp_path: Path, whole: bytes, at: int, value: bytes) -> None:
    """Whatever stands in a header: nothing but a ModelError, and nothing large is made."""
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    tracemalloc.start()
    try:
        found = read_gguf(path)
    except ModelError as error:
        assert str(error).endswith((".", "whole.gguf", "little"))
    else:
        assert all(0 < tensor.begin <= tensor.end <= found.size for tensor in found.tensors.values())
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4e6


def test_a_file_that_shrinks_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ggufs.write(tmp_path / "m.gguf")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:100])
    stat = Path.stat

    def before(self: Path, **options: bool) -> object:
        found = stat(self, **options)
        return type(found)((*found[:6], size, *found[7:])) if self == path else found

    monkeypatch.setattr(Path, "stat", before)
    with pytest.raises(CheckpointError, match="became shorter while it was read"):
        read_gguf(path)
