"""Quantised weights: one module a format, behind one interface (see `matrix`).

A format is recognised by config.json's `quantization_config`, with its exceptions by module, and checked against the names,
dtypes and shapes of the tensors in the file; where they disagree, the error names both. Modules that the config leaves out
are floats, the plainest of the formats.

    module               names in the config         rows              columns
    fp8                  fp8, mxfp8, fbgemm_fp8      zero codes        zero codes
    gptq                 gptq                        zero scales       codes of the zero point
    awq                  awq                         zero scales       codes of the zero point
    compressed_tensors   compressed-tensors          zero codes, or zero scales; columns: codes of zero
    modelopt             modelopt, modelopt_fp4      zero codes        zero codes
    mxfp4                mxfp4 (gpt_oss)             zero codes        zero codes
    bitsandbytes         bitsandbytes                zero codes        zero codes
    torchao              torchao                     zero codes        zero codes (int4: refused)
    hqq                  hqq                         zero scales       refused
    mlx                  "quantization"              zero scales and biases; columns refused

    gguf_blocks          (GGUF files)                zero blocks       refused

whole_bytes, half_bytes and words are what several of them share. Formats in which a neuron has no bytes of its own,
because of a codebook or a rotation, are refused by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError, ModelError
from ..checkpoint import Checkpoint
from . import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp8,
    gptq,
    hqq,
    mlx,
    modelopt,
    mxfp4,
    plain,
    torchao,
)
from .matrix import Edits, Matrix, Run, seen, size, write
from .stored import FLOATS, Place, Stored

__all__ = [
    "Edits",
    "Matrix",
    "Quantisation",
    "Run",
    "is_packed",
    "modules_of",
    "plain_matrix",
    "quantisation_of",
    "seen",
    "size",
    "write",
]

FORMATS = {
    method: module
    for module in (awq, bitsandbytes, compressed_tensors, fp8, gptq, hqq, mlx, modelopt, mxfp4, torchao)
    for method in module.METHODS
}
REFUSED = {
    "aqlm": "its weights are sums of vectors from a codebook",
    "vptq": "its weights are vectors from a codebook",
    "higgs": "its weights are rotated and come from a codebook",
    "quip": "its weights are rotated and come from a codebook",
    "quip_sharp": "its weights are rotated and come from a codebook",
    "exl2": "its rows are shuffled, and bits differ within a matrix",
    "exl3": "its weights are rotated and come from a codebook",
    "fp_quant": "its weights are rotated",
    "spqr": "its outliers are stored apart",
    "quanto": "it is not stored with a description of its layout",
    "eetq": "it is laid out for one kind of kernel",
    "sinq": "its columns have scales of their own",
    "bitnet": "its zero is shared by whole matrices of three values",
    "quark": "its layouts are not known to monoglot",
    "auto-round": "its layouts are not known to monoglot; export it as GPTQ or AWQ",
    "fouroversix": "its layout is not known to monoglot",
    "metal": "its layout is not known to monoglot",
    "gemma": "its layout is not known to monoglot",
    "nvfp4": "its layout is not known to monoglot; compressed-tensors' and ModelOpt's NVFP4 are",
    "ipex": "it is laid out for one kind of kernel",
}
KEYS = ("quantization_config", "quantization")
SLAB = re.compile(r"(?P<module>.+)_(?P<kind>blocks|scales|bias)(?P<number>\[[0-9]+\])")
ANCHORS = ("weight", "qweight", "weight_packed", "W_q", "_weight_qdata")  # every module has one of these


@dataclass(frozen=True)
class Quantisation:
    """What a config says: the method's name and its settings."""

    method: str
    settings: Mapping[str, Any]

    def matrix(self, module: str, parts: Mapping[str, Place]) -> Matrix:
        """Return a module's weight. `parts` are its tensors, by what their names add to the module's.

        Raises ModelError for settings that aren't edited, CheckpointError where the config and the tensors disagree.
        """
        stored = Stored(module, parts, f"{self.method} ({self._settings()})")
        matrix: Matrix | None = FORMATS[self.method].open_matrix(stored, self.settings)
        if matrix is not None:
            return matrix
        unquantised = Stored(module, parts, f"{self.method}, which leaves {module} as it was")
        unquantised.take("weight", FLOATS)
        return plain.open_matrix(unquantised)

    def _settings(self) -> str:
        shown = (
            "bits",
            "group_size",
            "format",
            "checkpoint_format",
            "quant_algo",
            "bnb_4bit_quant_type",
            "weight_block_size",
        )
        return ", ".join(f"{key} {self.settings[key]}" for key in shown if key in self.settings) or "no settings"


def quantisation_of(config: Mapping[str, Any]) -> Quantisation | None:
    """Return what config.json says about quantisation, at its top or in its text_config; None where it says nothing.

    Raises ModelError for a method that monoglot doesn't edit, with its reason or the list of the known ones.
    """
    for part in (config, config.get("text_config")):
        for key in KEYS if isinstance(part, Mapping) else ():
            settings = part.get(key)  # type: ignore[union-attr]
            if settings:
                return _quantisation(settings, key)
    return None


def _quantisation(settings: Any, key: str) -> Quantisation:
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"config.json has a {key} that is no object. Download it again.")
    method = settings.get("quant_method")
    if method is None:
        method = _unnamed(settings)
    if not isinstance(method, (str, type(None))):
        raise CheckpointError(f"config.json has a {key} whose quant_method is not a text. Download it again.")
    if method in REFUSED:
        raise ModelError(
            f"the checkpoint is quantised by {method}, in which a neuron can't be cleared exactly: "
            f"{REFUSED[method]}. Edit the model that it was quantised from, then quantise the result."
        )
    if method not in FORMATS:
        raise ModelError(
            f"the checkpoint is quantised by {method!r}, which monoglot doesn't know. Known: "
            f"{', '.join(sorted(FORMATS))}. Edit the model that it was quantised from, then quantise the result."
        )
    return Quantisation(str(method), settings)


def _unnamed(settings: Mapping[str, Any]) -> str | None:
    """MLX names no method, nor do old bitsandbytes checkpoints."""
    if settings.get("load_in_8bit") or settings.get("load_in_4bit"):
        return "bitsandbytes"
    return "mlx" if "group_size" in settings and "bits" in settings else None


def modules_of(checkpoint: Checkpoint) -> dict[str, dict[str, Place]]:
    """Return the tensors of each module that has a weight, by what their names add to the module's.

    An expert's part of a stack is a module too: `gate_up_proj_blocks[3]` are the "blocks" of `gate_up_proj[3]`.
    """
    places = {tensor.name: (shard, tensor) for shard, tensor in checkpoint.tensors()}
    stacks: dict[str, dict[str, Place]] = {}
    for name in [name for name in places if name.endswith("]")]:
        if match := SLAB.fullmatch(name):
            stacks.setdefault(f"{match['module']}{match['number']}", {})[match["kind"]] = places.pop(name)
    modules = {name.removesuffix(f".{anchor}") for name in places for anchor in ANCHORS if name.endswith(f".{anchor}")}
    found: dict[str, dict[str, Place]] = {module: {} for module in modules}
    for name, place in places.items():
        dot = len(name)
        while (dot := name.rfind(".", 0, dot)) > 0:  # the longest beginning that is a module
            if name[:dot] in found:
                found[name[:dot]][name[dot + 1 :]] = place
                break
    return found | {module: parts for module, parts in stacks.items() if "blocks" in parts}


def plain_matrix(module: str, parts: Mapping[str, Place], kind: str = "weight") -> Matrix:
    """Return a weight, or a bias as a matrix of one column, that is stored in floats."""
    return plain.Plain(Stored(module, parts, "nothing of it"), kind)


def is_packed(matrix: Matrix) -> bool:
    """Whether a weight is stored in codes, not in floats."""
    return not isinstance(matrix, plain.Plain)
