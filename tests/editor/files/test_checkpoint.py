"""Safetensors files as bytes: what is read, and everything malformed that is refused with its cause."""

import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from monoglot.editor.edits import bake as baking
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CheckpointError, ModelError, MonoglotError, MonoglotWarning
from monoglot.editor.files.checkpoint import (
    INDEX,
    MAX_HEADER,
    SINGLE,
    Checkpoint,
    parse_json,
    read_checkpoint,
)
from monoglot.editor.files.checkpoint import read_shard as read
from monoglot.editor.files.fingerprint import fingerprint
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons

BOUNDED = settings(deadline=None, derandomize=True, database=None, max_examples=150,
                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])  # fmt: skip

Header = dict[str, Any]
HIDDEN, WIDTH = 4, 6
OUT_0, OUT_1 = ("model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight")


def file_bytes(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file; a header that is not bytes becomes JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def a_header() -> Header:
    """Two W_out in float32, a norm in bfloat16, a number without dimensions, and an empty tensor."""
    size = HIDDEN * WIDTH * 4
    return {
        "__metadata__": {"format": "pt"},
        "empty": entry("F32", [0, 7], 0, 0),
        OUT_0: entry("F32", [HIDDEN, WIDTH], 0, size),
        "norm": entry("BF16", [HIDDEN], size, size + 8),
        OUT_1: entry("F32", [HIDDEN, WIDTH], size + 8, 2 * size + 8),
        "scalar": entry("I64", [], 2 * size + 8, 2 * size + 16),
    }


DATA = np.random.default_rng(0).normal(size=HIDDEN * WIDTH * 2 + 4).astype("f4").tobytes()


def save(folder: Path, shards: dict[str, bytes], index: Any = None) -> Path:
    """A Llama's folder with the given files; `index` is JSON, or bytes as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    for name, content in shards.items():
        (folder / name).write_bytes(content)
    if index is not None:
        (folder / INDEX).write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())
    return folder


def two_shards() -> tuple[dict[str, bytes], Header]:
    size = HIDDEN * WIDTH * 4
    first = file_bytes({OUT_0: entry("F32", [HIDDEN, WIDTH], 0, size)}, DATA[:size])
    second = file_bytes({OUT_1: entry("F32", [HIDDEN, WIDTH], 0, size)}, DATA[:size])
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = {"metadata": {"total_size": 2 * size}, "weight_map": {OUT_0: names[0], OUT_1: names[1]}}
    return dict(zip(names, (first, second), strict=True)), index


def refused(folder: Path, *words: str, error: type[ModelError] = CheckpointError) -> None:
    """The checkpoint is refused with a message that has these words, says where, and is of a length to be read."""
    with pytest.raises(error) as raised:
        read_checkpoint(folder)
    message = str(raised.value)
    for word in (*words, str(folder)):
        assert word in message
    assert "\n" not in message and len(message) < 700


def test_reads_what_is_there(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save(tmp_path, {SINGLE: file_bytes(a_header(), DATA)}))
    (shard,) = checkpoint.shards
    assert [tensor.name for tensor in shard.tensors] == ["empty", OUT_0, "norm", OUT_1, "scalar"]
    assert shard.size == len(shard.header) + len(DATA)
    for name, shape in (("scalar", ()), ("empty", (0, 7)), (OUT_1, (HIDDEN, WIDTH))):
        found = checkpoint.find(name)
        assert found is not None and found[1].shape == shape
    assert checkpoint.find("other") is None
    tensor = next(tensor for tensor in shard.tensors if tensor.name == OUT_1)
    got = np.frombuffer(shard.path.read_bytes()[tensor.begin : tensor.end], "f4")
    with safe_open(shard.path, "np") as other:
        assert np.array_equal(got.reshape(tensor.shape), other.get_tensor(OUT_1))


def test_reads_shards_and_their_index(tmp_path: Path) -> None:
    shards, index = two_shards()
    empty = "model-00000-of-00002.safetensors"  # a shard without tensors, in the index or not, is nothing special
    checkpoint = read_checkpoint(save(tmp_path, {**shards, empty: file_bytes({})}, index))
    assert [shard.path.name for shard in checkpoint.shards] == sorted(shards)
    assert checkpoint.files == (*sorted(shards), INDEX)
    assert read_shard_of(tmp_path / empty) == ()


def read_shard_of(path: Path) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in read(path).tensors)


def test_shards_may_be_links_as_in_the_hubs_cache(tmp_path: Path) -> None:
    shards, index = two_shards()
    snapshot = save(tmp_path / "snapshots" / "abc", {}, index)
    (tmp_path / "blobs").mkdir()
    for number, (name, content) in enumerate(shards.items()):
        (tmp_path / "blobs" / str(number)).write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / str(number))
    assert len(read_checkpoint(snapshot).shards) == 2


def test_header_may_be_padded_with_spaces(tmp_path: Path) -> None:
    text = json.dumps(a_header()).encode()
    assert len(read_checkpoint(save(tmp_path, {SINGLE: file_bytes(text + b"   ", DATA)})).shards[0].tensors) == 5


@pytest.mark.parametrize("lost", [1, len(DATA) - 1, len(DATA) + 1, len(file_bytes(a_header(), DATA)) - 4])
def test_truncated(tmp_path: Path, lost: int) -> None:
    refused(save(tmp_path, {SINGLE: file_bytes(a_header(), DATA)[:-lost]}), "truncated", "Download it again")


def test_empty_file(tmp_path: Path) -> None:
    refused(save(tmp_path, {SINGLE: b""}), "truncated", "Download it again")


def test_extra_bytes(tmp_path: Path) -> None:
    refused(save(tmp_path, {SINGLE: file_bytes(a_header(), DATA + b"\0")}), "extra bytes at its end")


def test_git_lfs_pointer(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    refused(save(tmp_path, {SINGLE: pointer}), "Git LFS pointer", "git lfs pull")


def test_claim_of_a_huge_header_costs_nothing(tmp_path: Path) -> None:
    """Both a claim that the file can't hold and one that a sparse file does hold are refused without reading."""
    refused(save(tmp_path / "a", {SINGLE: (2**63).to_bytes(8, "little") + b"{}"}), "truncated")
    folder = save(tmp_path / "b", {SINGLE: (MAX_HEADER + 1).to_bytes(8, "little")})
    os.truncate(folder / SINGLE, 8 + MAX_HEADER + 1)
    started = time.process_time()
    refused(folder, "100,000,001 bytes", "safetensors allows 100,000,000")
    assert time.process_time() - started < 0.1


def test_header_of_almost_100_mb(tmp_path: Path) -> None:
    """One that is allowed but full of zeros is refused within the time that reading it takes."""
    folder = save(tmp_path, {SINGLE: MAX_HEADER.to_bytes(8, "little")})
    os.truncate(folder / SINGLE, 8 + MAX_HEADER)
    started = time.process_time()
    refused(folder, "not valid JSON")
    assert time.process_time() - started < 5


ENTRY = json.dumps(entry("F32", [2], 0, 8))


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (b"", "not valid JSON"),
        (b"not json", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b'{"a": ', "not valid JSON"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (f'{{"a": {ENTRY}, "a": {ENTRY}}}'.encode(), "stands twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "stands twice"),
        (f'{{"\\ud800": {ENTRY}}}'.encode(), "surrogates not allowed"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, ' + b"9" * 5000 + b"]}}", "not valid JSON"),
        (b'{"a": {"dtype": "F32", "shape": [' + b"9" * 4000 + b'], "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": [true, 2], "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": [' + b"1, " * 64 + b'2], "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}', "impossible shape"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e400]}}', "impossible offsets"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [NaN, 8]}}', "impossible offsets"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}', "impossible offsets"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8]}}', "impossible offsets"),
        (b'{"a": {"dtype": "F32", "shape": [2]}}', "impossible offsets"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}', "not what F32 of shape [2] takes"),
        (b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', "not what F32 of shape [3] takes"),
        (b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 8]}}', "not what BF16 of shape [2] takes"),
        (b'{"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}', "not what F4 of shape [3] takes"),
        (b'{"a": {"dtype": "Q4_K", "shape": [2], "data_offsets": [0, 8]}}', "unknown dtype 'Q4_K'"),
        (b'{"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}', "unknown dtype"),
        (b'{"a": {"shape": [2], "data_offsets": [0, 8]}}', "unknown dtype None"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}', "leaves a hole"),
        (f'{{"a": {ENTRY}, "b": {ENTRY}}}'.encode(), "overlaps"),
        (b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', "is truncated"),
        (b'{"a": []}', "is not an object"),
        (b'{"a": null}', "is not an object"),
        (b"[]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b" {}", "starts with white space"),
        (b'{"__metadata__": {"format": 1}}', "__metadata__"),
        (b'{"__metadata__": null}', "__metadata__"),
    ],
)
def test_malformed_header(tmp_path: Path, header: bytes, word: str) -> None:
    refused(save(tmp_path, {SINGLE: file_bytes(header, bytes(8))}), word)


def test_dimensions_without_end_are_not_multiplied(tmp_path: Path) -> None:
    """The product of a million large dimensions takes hours; what no file can hold is enough to know."""
    shape = b"[" + b",".join([b"9223372036854775807"] * 300_000) + b"]"
    header = b'{"a": {"dtype": "F32", "shape": ' + shape + b', "data_offsets": [0, 8]}}'
    started = time.process_time()
    refused(save(tmp_path, {SINGLE: file_bytes(header, bytes(8))}), "not what F32 of shape")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "name",
    ["../other/x.safetensors", "/etc/x.safetensors", "a/../x.safetensors", "sub/x.safetensors", "..", ".", "",
     "a\\b.safetensors", "./x.safetensors", "x.bin", "config.json", 7, None, ["x.safetensors"], {}],
)  # fmt: skip
def test_index_names_only_files_of_its_folder(tmp_path: Path, name: Any) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.safetensors").write_bytes(file_bytes({}))
    folder = save(tmp_path / "model", {"x.safetensors": file_bytes({})}, {"weight_map": {"a": name}})
    (folder / "sub").mkdir()
    (folder / "sub" / "x.safetensors").write_bytes(file_bytes({}))
    refused(folder, "damaged or hostile")


@pytest.mark.parametrize("name", ["gone.safetensors", "n" * 5000 + ".safetensors", "nul\0.safetensors"])
def test_index_names_a_missing_file(tmp_path: Path, name: str) -> None:
    refused(save(tmp_path, {}, {"weight_map": {"a": name}}), "which is not in", "Download it")


def test_dangling_link(tmp_path: Path) -> None:
    folder = save(tmp_path, {}, {"weight_map": {"a": "x.safetensors"}})
    (folder / "x.safetensors").symlink_to("../../blobs/gone")
    refused(folder, "'x.safetensors', which is not in")
    (folder / INDEX).unlink()
    (folder / SINGLE).symlink_to("../../blobs/gone")
    refused(folder, "links to weights that are not there", error=ModelError)


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "no weight_map"),
        (b"{}", "no weight_map"),
        (b'{"weight_map": {}}', "no weight_map"),
        (b'{"weight_map": ["a"]}', "no weight_map"),
        (b'{"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}}', "stands twice"),
    ],
)
def test_malformed_index(tmp_path: Path, index: bytes, word: str) -> None:
    refused(save(tmp_path, {}, index), word)


def test_index_that_is_a_folder(tmp_path: Path) -> None:
    (save(tmp_path, {}) / INDEX).mkdir()
    refused(tmp_path, "cannot be read: Is a directory")


def test_tensor_in_another_shard_than_the_index_says(tmp_path: Path) -> None:
    shards, index = two_shards()
    index["weight_map"][OUT_0], index["weight_map"][OUT_1] = index["weight_map"][OUT_1], index["weight_map"][OUT_0]
    refused(save(tmp_path, shards, index), "places tensor", "does not hold it", "download them again")


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    shards, index = two_shards()
    _, second = sorted(shards)
    size = HIDDEN * WIDTH * 4
    both = {OUT_0: entry("F32", [HIDDEN, WIDTH], 0, size), OUT_1: entry("F32", [HIDDEN, WIDTH], size, 2 * size)}
    shards[second] = file_bytes(both, DATA[:size] * 2)
    refused(save(tmp_path, shards, index), "lies in two shards")


def test_both_layouts(tmp_path: Path) -> None:
    shards, index = two_shards()
    refused(save(tmp_path, {**shards, SINGLE: file_bytes(a_header(), DATA)}, index), "holds both", "Runtimes disagree")


def test_layer_number_that_nothing_could_count(tmp_path: Path) -> None:
    """Python does not even read a number of 5000 digits; one of ten would be counted up to."""
    header = a_header()
    header[OUT_1.replace("1", "9" * 5000)] = header.pop(OUT_1)
    assert bake_or_refuse(save(tmp_path / "model", {SINGLE: file_bytes(header, DATA)})) is None


def test_duplicate_names_and_half_surrogates() -> None:
    assert parse_json(b'{"a": {"b": 1}, "c": "\\ud83d\\ude00"}', "x") == {"a": {"b": 1}, "c": "\N{GRINNING FACE}"}
    for text in (b'{"a": 1, "a": 1}', b'["\\ud83d"]', b'["\\uDE00"]', b'{"\\uDE00": 1}'):
        with pytest.raises(CheckpointError, match="place is not valid JSON"):
            parse_json(text, "place")


def test_fingerprint_tells_headers_and_data_apart(tmp_path: Path) -> None:
    def of(name: str, header: Header, data: bytes) -> str:
        return fingerprint(read_checkpoint(save(tmp_path / name, {SINGLE: file_bytes(header, data)})))

    header = a_header()
    first = of("a", header, DATA)
    assert of("b", header, DATA) == first
    assert of("c", header, bytes([DATA[0] ^ 1]) + DATA[1:]) != first
    header["norm"]["dtype"] = "F16"
    assert of("d", header, DATA) != first


# Whatever is done to a file, it is read and baked, or refused with a MonoglotError and nothing left behind.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
OFFSETS = st.integers(-8, 2 * HIDDEN * WIDTH * 4 + 24) | st.integers()
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F16", "I64", "F8_E4M3", "F4", "X"]) | JSON,
        "shape": st.lists(st.integers(0, 9) | OFFSETS, max_size=4) | JSON,
        "data_offsets": st.lists(OFFSETS, min_size=2, max_size=2) | JSON,
        "more": JSON,
    },
)
NAMES = st.sampled_from(
    ["empty", OUT_0, "norm", OUT_1, "scalar", "__metadata__", "model.layers.2.mlp.down_proj.weight"]
)


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder for each example; nothing is synced, which is all that the disk would slow down."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.fsync"):
        yield Path(folder)


def bake_or_refuse(folder: Path) -> Checkpoint | None:
    """Bake the folder; a failure leaves nothing, a success is read by safetensors itself and differs in two columns."""
    out = folder.parent / "out"
    neurons = Neurons({"fr": (np.array([1, 4]), np.array([0]))})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MonoglotWarning)  # an index that lists what no shard holds
            target = open_target(resolve(str(folder)))
            baking.bake(target, neurons, Recipe(Base("x"), (Edit("fr", "deactivate"),)), out)
    except MonoglotError as error:
        assert str(error)
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        return None
    baked = read_checkpoint(out)
    for new, old in zip(baked.shards, target.checkpoint.shards, strict=True):
        assert new.header == old.header
        with safe_open(new.path, "np") as theirs:
            assert set(theirs.keys()) == {tensor.name for tensor in new.tensors}
    return baked


def test_the_valid_one_is_baked() -> None:
    with scratch() as folder:
        assert bake_or_refuse(save(folder / "model", {SINGLE: file_bytes(a_header(), DATA)})) is not None


def test_an_edited_tensor_without_rows() -> None:
    """Nothing to edit in it, and no row to measure a piece by."""
    header = {name: entry("F32", [0, WIDTH], 0, 0) for name in (OUT_0, OUT_1)}
    with scratch() as folder:
        bake_or_refuse(save(folder / "model", {SINGLE: file_bytes(header)}))


@pytest.mark.slow
@BOUNDED
@given(st.dictionaries(NAMES, ENTRIES | JSON, max_size=3), st.binary(max_size=4), st.integers(0, 4))
def test_any_change_of_the_header(changes: Header, more: bytes, fewer: int) -> None:
    content = file_bytes(a_header() | changes, DATA + more)
    with scratch() as folder:
        bake_or_refuse(save(folder / "model", {SINGLE: content[: len(content) - fewer]}))


@BOUNDED
@given(st.data())
def test_any_flipped_bytes(data: st.DataObject) -> None:
    content = bytearray(file_bytes(a_header(), DATA))
    length = len(content) - len(DATA)
    for at in data.draw(st.lists(st.integers(0, length - 1) | st.integers(0, 10), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    with scratch() as folder:
        bake_or_refuse(save(folder / "model", {SINGLE: bytes(content[:end])}))


@BOUNDED
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(content: bytes, framed: bool) -> None:
    with scratch() as folder:
        bake_or_refuse(save(folder / "model", {SINGLE: file_bytes(content) if framed else content}))


SHARDS, AN_INDEX = two_shards()
FILES = st.sampled_from([*SHARDS, "x.safetensors", "../x.safetensors", "/x.safetensors"]) | st.text(max_size=9) | JSON


@pytest.mark.slow
@BOUNDED
@given(
    st.binary(max_size=60)
    | JSON
    | st.dictionaries(st.sampled_from([OUT_0, OUT_1, "x"]), FILES).map(lambda by_name: {"weight_map": by_name})
    | st.dictionaries(st.sampled_from(["metadata", "x"]), JSON).map(lambda more: {**AN_INDEX, **more})
)
def test_any_index(index: Any) -> None:
    with scratch() as folder:
        bake_or_refuse(save(folder / "model", SHARDS, json.dumps(None).encode() if index is None else index))


@BOUNDED
@given(
    st.binary(max_size=30) | JSON | st.dictionaries(st.sampled_from(["model_type", "text_config", "num_experts"]), JSON)
)
def test_any_config(config: Any) -> None:
    with scratch() as folder:
        model = save(folder / "model", {SINGLE: file_bytes(a_header(), DATA)})
        (model / "config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
        bake_or_refuse(model)
