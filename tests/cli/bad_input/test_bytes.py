"""Malformed bytes in a checkpoint that is to be baked."""

import os
import shutil
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import tiny
from support.bad_input import (
    W_OUT,
    Place,
    change_header,
    change_json,
    make_index,
    one_message,
    set_weight,
    shard,
    tensor_bytes,
)

from monoglot.editor.files.checkpoint import read_checkpoint


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
        (entry(W_OUT, shape=[tiny.HIDDEN * tiny.WIDTH]), "networks that write to the same residual stream"),
        (entry(W_OUT, shape=[tiny.WIDTH, tiny.HIDDEN]), "networks that write to the same residual stream"),
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
    (place.model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "other.safetensors"}}')
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


@pytest.mark.parametrize(("dtype", "factor"), [("float16", "1e6"), ("bfloat16", "1e39"), ("float32", "1e39")])
def test_scale_that_overflows(place: Place, dtype: str, factor: str) -> None:
    typed_model(place, dtype)
    place.refused("edited weights don't fit in " + dtype, "Use a smaller strength", options=("--scale", f"fr={factor}"))
