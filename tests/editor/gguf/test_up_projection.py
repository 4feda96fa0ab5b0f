"""Where the up projections of an architecture lie, and which layouts are not known."""

from pathlib import Path
from typing import Any

import pytest
from support import ggufs
from support.baked_ggufs import CLEARED, OFF, check_rows

from monoglot.editor.errors import (
    CheckpointError,
    ModelError,
)
from monoglot.editor.gguf.bake import bake_gguf
from monoglot.editor.gguf.up_projection import FUSED, KNOWN, SEPARATE
from monoglot.editor.neurons.neurons import Neurons


@pytest.mark.parametrize("architecture", KNOWN)
def test_in_every_architecture(tmp_path: Path, found: Neurons, architecture: str) -> None:
    """Fused ones hold the gate's rows first."""
    fused = architecture in FUSED
    for bias in (False, True):
        path = ggufs.write(tmp_path / "m.gguf", architecture, kind="Q5_K", fused=fused, bias=bias)
        out = tmp_path / f"out{bias}.gguf"
        check_rows(path, found, out, first=ggufs.WIDTH if fused else 0)


LAYOUTS: dict[str, tuple[dict[str, Any], type[ModelError], str]] = {
    "no gate": (
        {"architecture": "gpt2"},
        ModelError,
        "'gpt2', whose neurons can't be cleared .* then convert .* Known",
    ),
    "another": ({"architecture": "bitnet"}, ModelError, "of the architecture 'bitnet'"),
    "experts": ({"keys": {"llama.expert_count": 8}}, ModelError, "is a mixture of experts .*Use a dense model"),
    "adapter": ({"keys": {"general.type": "adapter"}}, ModelError, "holds 'adapter', not a model"),
    "no layers": ({"keys": {"llama.block_count": None}}, CheckpointError, "has the llama.block_count None"),
    "many layers": ({"keys": {"llama.block_count": 2**31}}, CheckpointError, "has the llama.block_count 2147483648"),
    "more layers": ({"keys": {"llama.block_count": 4}}, CheckpointError, "has no blk.3.ffn_down.weight"),
    "no width": (
        {"keys": {"llama.feed_forward_length": None}},
        CheckpointError,
        "has the llama.feed_forward_length None",
    ),
    "another width": (
        {"keys": {"llama.feed_forward_length": 12}},
        CheckpointError,
        r"has shape \[24, 256\].* 12 neurons",
    ),
    "widths": (
        {"keys": {"llama.feed_forward_length": [24, 24, 12]}},
        CheckpointError,
        "models with as many in every layer",
    ),
    "up missing": ({"drop": "blk.1.ffn_up.weight"}, CheckpointError, "has no blk.1.ffn_up.weight"),
    "gate missing": ({"drop": "blk.2.ffn_gate.weight"}, CheckpointError, "has no blk.2.ffn_gate.weight"),
    "not fused": ({"architecture": "phi3"}, CheckpointError, r"has shape \[256, 24\].* \[256, 48\] there"),
    "fused": ({"fused": True}, CheckpointError, "has no blk.0.ffn_gate.weight"),
    "unproved": ({"kind": "Q8_K"}, ModelError, "is stored as Q8_K, of which it isn't proved that zero bytes are zeros"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_that_are_not_known(tmp_path: Path, found: Neurons, name: str) -> None:
    options, error, message = LAYOUTS[name]
    path = ggufs.write(tmp_path / "m.gguf", **options)
    with pytest.raises(error, match=message) as caught:
        bake_gguf(path, found, OFF, tmp_path / "out.gguf")
    assert str(path) in str(caught.value) and not (tmp_path / "out.gguf").exists()


def test_a_width_for_every_layer(tmp_path: Path, found: Neurons) -> None:
    path = ggufs.write(tmp_path / "m.gguf", keys={"llama.feed_forward_length": [24, 24, 24]})
    assert bake_gguf(path, found, OFF, tmp_path / "out.gguf").sidecar.to_data()["cleared"] == CLEARED


def test_architectures_are_the_gated_dense_ones_of_llama_cpp() -> None:
    """By what its package says of their tensors: separate ones have a gate, fused ones have none of their own."""
    from gguf.constants import MODEL_ARCH_NAMES, MODEL_TENSOR, MODEL_TENSORS

    theirs = {MODEL_ARCH_NAMES[arch]: set(tensors) for arch, tensors in MODEL_TENSORS.items()}
    for name in KNOWN:
        assert MODEL_TENSOR.FFN_UP in theirs[name] and MODEL_TENSOR.FFN_DOWN in theirs[name]
        assert (MODEL_TENSOR.FFN_GATE in theirs[name]) == (name in SEPARATE)
        assert MODEL_TENSOR.FFN_SUB_NORM not in theirs[name]
