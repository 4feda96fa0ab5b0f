"""compressed-tensors, which llm-compressor writes: several formats under one name, chosen by groups of modules.

config_groups   name -> {targets, weights: {num_bits, type, strategy, group_size, symmetric}, format}
ignore          modules that are left as they were
format          of all groups that name none: pack-quantized, int-quantized, float-quantized, naive-quantized,
                nvfp4-pack-quantized, mxfp4-pack-quantized, mxfp8-quantized

nvfp4   weight_packed U8, weight_scale F8_E4M3 for 16 columns, weight_global_scale F32;  W = E2M1 · scale / global
mxfp4   weight_packed U8, weight_scale U8 (E8M0) for 32 columns
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import ModelError
from .half_bytes import HalfBytes
from .matrix import Float32, Matrix
from .settings import names, targeted
from .stored import FLOATS, Stored
from .whole_bytes import WholeBytes, whole_block
from .words import Packed

METHODS = ("compressed-tensors",)
BITS = (2, 4, 8)  # those that divide a byte: of the others versions of compressed-tensors pack differently
KNOWN = (
    "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized",
    "mxfp8-quantized",
)  # fmt: skip


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    _check(settings)
    if targeted(stored.module, settings.get("ignore")):
        return None
    group = _group(settings, stored.module)
    weights = group.get("weights") if group else None
    if not group or weights is None:
        return None
    if not isinstance(weights, Mapping):
        raise ModelError("config.json's quantization_config describes weights in a way that is not an object.")
    form = str(group.get("format") or settings.get("format"))
    bits, strategy, symmetric = weights.get("num_bits"), str(weights.get("strategy")), weights.get("symmetric", True)
    said = f"compressed-tensors {form} ({bits} bits, {_scales(weights)}{'' if symmetric else ', asymmetric'})"
    if form == "nvfp4-pack-quantized" and symmetric:
        return _nvfp4(stored, said)
    if form == "mxfp4-pack-quantized" and symmetric:
        return HalfBytes(
            stored,
            said,
            weight="weight_packed",
            dtypes=("U8",),
            scale="weight_scale",
            scales=("U8", "F8_E8M0"),
            group=32,
        )
    if form == "pack-quantized" and bits in BITS and weights.get("type", "int") == "int":
        columns = {"group": weights.get("group_size"), "channel": None, "tensor": 0}
        if strategy in columns and (strategy != "group" or (type(columns["group"]) is int and columns["group"] > 0)):
            return Packed(stored, bits, columns[strategy], zeros=not symmetric, form=said)
    dtypes = {"int": ("I8",), "float": ("F8_E4M3",)}.get(str(weights.get("type", "int")))
    if form in ("int-quantized", "float-quantized", "naive-quantized", "mxfp8-quantized") and bits == 8 and dtypes:
        exponents = form == "mxfp8-quantized"
        zeros = None if symmetric else "weight_zero_point"
        if symmetric or dtypes == ("I8",):
            return WholeBytes(
                stored, said, dtypes=dtypes, block=_block(stored, weights), exponents=exponents, zeros=zeros
            )
    raise ModelError(
        f"{stored.module} is in {said}, which monoglot doesn't edit. It edits {', '.join(KNOWN)} of 4 or 8 bits. Edit "
        "the model that it was quantised from, then quantise the result."
    )


def _check(settings: Mapping[str, Any]) -> None:
    """Raise ModelError for what isn't a matter of one module."""
    transforms = settings.get("transform_config")
    if isinstance(transforms, Mapping) and transforms.get("config_groups"):
        raise ModelError(
            "the checkpoint is quantised after a rotation (transform_config), which mixes neurons: none can be "
            "cleared alone. Edit the model that it was quantised from, then quantise the result."
        )
    sparsity = settings.get("sparsity_config")
    if isinstance(sparsity, Mapping) and sparsity.get("format", "dense") != "dense":
        raise ModelError(
            f"the checkpoint is stored sparse ({sparsity['format']}), which monoglot doesn't edit. Edit the model "
            "that it was made from, then compress the result."
        )


def _group(settings: Mapping[str, Any], module: str) -> Mapping[str, Any] | None:
    """Return the group that a module belongs to: by its name before an expression, by that before its class."""
    groups = settings.get("config_groups")
    if not isinstance(groups, Mapping) or not all(isinstance(group, Mapping) for group in groups.values()):
        raise ModelError("config.json's quantization_config (compressed-tensors) has no config_groups.")
    for wanted in ("name", "expression", "class"):
        for group in groups.values():
            if targeted(module, [target for target in names(group.get("targets")) if _kind(target) == wanted]):
                found: Mapping[str, Any] = group
                return found
    return None


def _kind(target: str) -> str:
    return "expression" if target.startswith("re:") else "class" if target == "Linear" else "name"


def _scales(weights: Mapping[str, Any]) -> str:
    strategy = str(weights.get("strategy"))
    if strategy in ("group", "tensor_group"):
        return f"groups of {weights.get('group_size')}"
    if strategy == "block":
        structure = weights.get("block_structure")
        return f"blocks of {' × '.join(map(str, structure if isinstance(structure, list) else []))}"
    return {"channel": "a scale for each row", "tensor": "one scale"}.get(strategy, strategy)


def _block(stored: Stored, weights: Mapping[str, Any]) -> tuple[int | None, int | None] | None:
    strategy = weights.get("strategy")
    if strategy == "tensor":
        return None
    if strategy == "channel":
        return (1, None)
    if strategy == "group":
        return (1, whole_block(stored, [1, weights.get("group_size")], "group_size")[1])
    if strategy == "block":
        return whole_block(stored, weights.get("block_structure"), "block_structure")
    raise ModelError(f"config.json gives {stored.module} the unknown strategy {strategy!r}.")


def _nvfp4(stored: Stored, said: str) -> Matrix:
    shape = stored.take("weight_global_scale", FLOATS).shape
    if shape not in ((1,), ()):
        stored.take("weight_global_scale", FLOATS, (1,))

    def divided(scales: Float32) -> Float32:
        with np.errstate(divide="ignore", invalid="ignore"):
            return scales / stored.floats("weight_global_scale").reshape(())

    return HalfBytes(
        stored, said, weight="weight_packed", dtypes=("U8",), scale="weight_scale", scales=("F8_E4M3",), group=16,
        factor=divided, others=("weight_global_scale",),
    )  # fmt: skip
