"""The proof of a baked GGUF: every way in which the file could be other than its sidecar says is found."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ggufs
from support.baked_ggufs import OFF, renewed

from monoglot.editor.errors import (
    VerificationError,
)
from monoglot.editor.gguf.bake import BakedGguf, bake_gguf
from monoglot.editor.gguf.verify import GgufBytes, base_of, verify_gguf
from monoglot.editor.neurons.neurons import Neurons

# --- the proof -------------------------------------------------------------------------------------------------------


def test_what_was_baked_passes(base: Path, baked: BakedGguf, found: Neurons) -> None:
    assert verify_gguf(baked.path, base, neurons=found) == GgufBytes(4, 0, 6, 8, ())


def change_byte(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        value = file.read(1)[0] ^ 1
        file.seek(at)
        file.write(bytes([value]))


@pytest.mark.parametrize(
    ("tensor", "row", "message"),
    [
        ("blk.1.ffn_up.weight", 1, "blk.1.ffn_up.weight: 1 bytes are not as they should be, the first in row 1"),
        ("blk.1.ffn_up.weight", 2, "blk.1.ffn_up.weight: 1 bytes are not as they should be, the first in row 2"),
        ("blk.2.ffn_gate.weight", 4, "blk.2.ffn_gate.weight: 1 bytes .* in row 4"),
        ("token_embd.weight", 7, "token_embd.weight: 1 bytes .* in row 7"),
        ("blk.0.ffn_up.bias", 0, "blk.0.ffn_up.bias: 1 bytes"),
        (None, 30, "outside of the tensors: 1 bytes .* byte 30"),
    ],
)
def test_a_changed_byte_is_found(base: Path, baked: BakedGguf, tensor: str | None, row: int, message: str) -> None:
    theirs = ggufs.read(base)
    at = theirs[tensor].begin + row * theirs[tensor].raw.shape[1] + 3 if tensor else row
    change_byte(baked.path, at)
    problems = verify_gguf(baked.path, base).problems
    assert len(problems) == 2 and "has the sha256" in problems[1]
    assert re.search(message, problems[0]), problems


def test_padding_counts_too(base: Path, baked: BakedGguf) -> None:
    norm = ggufs.read(base)["output_norm.weight"]
    change_byte(baked.path, norm.begin + norm.raw.size + 1)
    assert any("outside of the tensors: 1 bytes" in one for one in verify_gguf(baked.path, base).problems)


@pytest.mark.parametrize("what", ["longer", "shorter"])
def test_another_size_is_found(base: Path, baked: BakedGguf, what: str) -> None:
    content = baked.path.read_bytes()
    baked.path.write_bytes(content + b"\0" if what == "longer" else content[:-1])
    problems = verify_gguf(baked.path, base).problems
    assert any("bytes, " in one for one in problems) and any("sha256" in one for one in problems)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["cleared"][0].append(9),
        lambda record: record["cleared"][2].pop(),
        lambda record: record.update(cleared=[[], [], []]),
        lambda record: record.update(neurons_edited=5),
        lambda record: record["base"].update(sha256="0" * 64),
        lambda record: record["file"].update(sha256="0" * 64),
    ],
)
def test_a_sidecar_that_lies_is_found(base: Path, baked: BakedGguf, change: Callable[[dict[str, Any]], None]) -> None:
    renewed(baked.path, change)
    assert verify_gguf(baked.path, base).problems


def test_no_sidecar_and_no_file(base: Path, baked: BakedGguf) -> None:
    with pytest.raises(VerificationError, match="was not made by monoglot"):
        verify_gguf(base, base)
    baked.path.unlink()
    with pytest.raises(VerificationError, match="there is no file"):
        verify_gguf(baked.path, base)


def test_another_base(base: Path, baked: BakedGguf, tmp_path: Path, found: Neurons) -> None:
    other = ggufs.write(tmp_path / "other.gguf", bias=True)
    change_byte(other, other.stat().st_size - 1)
    problems = verify_gguf(baked.path, other).problems
    assert any("blk.2.ffn_up.bias" in one for one in problems) and any(
        f"{other} has the sha256" in one for one in problems
    )
    with pytest.raises(VerificationError, match=r"is not what .* was made from: it is a llama model of 2 layers × 24"):
        verify_gguf(baked.path, ggufs.write(tmp_path / "other.gguf", layers=2))


def test_the_base_is_looked_for_beside(base: Path, baked: BakedGguf, tmp_path: Path) -> None:
    assert base_of(baked.path, None) == base and base_of(baked.path, Path("x")) == Path("x")
    base.rename(tmp_path / "moved.gguf")
    with pytest.raises(VerificationError, match=r"was a file called m.gguf. Say where it is with `base`"):
        base_of(baked.path, None)


def test_other_neurons_than_the_sidecars(base: Path, baked: BakedGguf, found: Neurons) -> None:
    more = {**found.indices, "fr": tuple(np.append(layer, 20) for layer in found.indices["fr"])}
    problems = verify_gguf(baked.path, base, neurons=Neurons(more)).problems
    assert problems == ("the neurons to clear are others, in 3 layers, the first of them 0",)
    problems = verify_gguf(baked.path, base, neurons=Neurons({"fr": found.indices["fr"][:2]})).problems
    assert len(problems) == 1 and "of a model with 2 layers" in problems[0]


def test_rows_that_were_zeros_already(base: Path, baked: BakedGguf, found: Neurons, tmp_path: Path) -> None:
    again = bake_gguf(baked.path, found, OFF, tmp_path / "again.gguf")
    assert again.path.read_bytes() == baked.path.read_bytes()
    result = verify_gguf(again.path, baked.path)
    assert (result.zero_before, result.problems) == (4, ())
