"""Plain writers of quantised weights, number by number, as the sources of the formats' libraries describe them.

They share nothing with the code under test: codes are packed as one large whole number, weights computed by loops over Python
floats. Each makes one matrix from random codes and scales, and the tensors that it should be after rows or columns were
cleared. That the real libraries read and write the same is `quantised.py`'s to show.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MODULE = "model.layers.0.mlp.up_proj"
Tensors = dict[str, tuple[str, np.ndarray]]  # what the name adds to the module's -> dtype, stored numbers


@dataclass
class Made:
    """A matrix as it is stored: `weights` (rows, columns); `rows` and `columns` give the tensors with some of them cleared,
    None where that is refused. `metadata` goes into the file's header."""

    settings: dict[str, Any]
    tensors: Tensors
    weights: np.ndarray
    rows: Callable[[Sequence[int]], Tensors]
    columns: Callable[[Sequence[int]], Tensors] | None
    metadata: dict[str, str] = field(default_factory=dict)


def save(folder: Path, made: Made, module: str = MODULE) -> None:
    """A checkpoint with this one module."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **made.metadata}}
    data = b""
    for kind, (dtype, numbers) in made.tensors.items():
        raw = np.ascontiguousarray(numbers).tobytes()
        entries[f"{module}.{kind}"] = {
            "dtype": dtype, "shape": list(numbers.shape), "data_offsets": [len(data), len(data) + len(raw)],
        }  # fmt: skip
        data += raw
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": made.settings}))


def stream(codes: Sequence[int], bits: int, unit: int = 4) -> bytes:
    """Codes one after the other from the lowest bit on, in whole units of bytes."""
    value = sum(int(code) << (at * bits) for at, code in enumerate(codes))
    length = -(-len(codes) * bits // (8 * unit)) * unit
    return value.to_bytes(length, "little")


def packed_lines(codes: np.ndarray, bits: int, dtype: str = "<i4") -> np.ndarray:
    """(lines, codes) -> (lines, words)."""
    return np.stack([np.frombuffer(stream(line, bits), dtype) for line in codes])


def bf16(numbers: np.ndarray) -> np.ndarray:
    """Float32 numbers cut to bfloat16, as bits."""
    return (np.asarray(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def of_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def e4m3(byte: int) -> float:
    """The number that a byte stands for; NaN for 0x7F and 0xFF."""
    sign, exponent, fraction = byte >> 7, byte >> 3 & 15, byte & 7
    if exponent == 15 and fraction == 7:
        return float("nan")
    size = fraction / 8 * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if sign else size


def e2m1(code: int) -> float:
    size = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][code & 7]
    return -size if code & 8 else size


def with_zeros(numbers: np.ndarray, index: Any, zero: Any = 0) -> np.ndarray:
    changed = numbers.copy()
    changed[index] = zero
    return changed


def gptq(
    rng: np.random.Generator, rows: int, columns: int, *, bits: int = 4, group: int = 32, version: str = "gptq",
    act_order: bool = False, symmetric: bool = False, own_order: bool = True,
) -> Made:  # fmt: skip
    size = columns if group == -1 else group
    groups, offset = columns // size, 1 if version == "gptq" else 0
    q = rng.integers(0, 2**bits, (columns, rows))
    low = 1 if offset else 0  # v1 can't store 0; and 2**bits would run over
    z = rng.integers(low, 2**bits, (groups, rows))
    if symmetric:
        z = np.full_like(z, 2 ** (bits - 1))
    scales = rng.uniform(0.001, 0.1, (groups, rows)).astype(np.float16)
    order = np.arange(columns) // size
    if act_order:
        order = rng.permutation(order)

    def tensors(q: np.ndarray, scales: np.ndarray) -> Tensors:
        found: Tensors = {
            "qweight": ("I32", packed_lines(q.T, bits).T),
            "qzeros": ("I32", packed_lines(z - offset, bits)),
            "scales": ("F16", scales),
        }
        if own_order:
            found["g_idx"] = ("I32", order.astype("<i4"))
        return found

    return Made(
        {
            "quant_method": "gptq",
            "bits": bits,
            "group_size": group,
            "desc_act": act_order,
            "checkpoint_format": version,
        },
        tensors(q, scales),
        (scales.astype(np.float64)[order] * (q - z[order])).T,
        lambda which: tensors(q, with_zeros(scales, (slice(None), which))),
        lambda which: tensors(with_zeros(q, (which,), z[order][which]), scales),
    )


def awq(rng: np.random.Generator, rows: int, columns: int, *, group: int = 32) -> Made:
    size = columns if group == -1 else group
    q, z = rng.integers(0, 16, (columns, rows)), rng.integers(0, 16, (columns // size, rows))
    scales = rng.uniform(0.001, 0.1, (columns // size, rows)).astype(np.float16)
    order = np.arange(columns) // size

    def packed(codes: np.ndarray) -> np.ndarray:
        words = codes.reshape(len(codes), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]
        return packed_lines(words.reshape(len(codes), -1), 4)

    def tensors(q: np.ndarray, scales: np.ndarray) -> Tensors:
        return {"qweight": ("I32", packed(q)), "qzeros": ("I32", packed(z)), "scales": ("F16", scales)}

    return Made(
        {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"},
        tensors(q, scales),
        (scales.astype(np.float64)[order] * (q - z[order])).T,
        lambda which: tensors(q, with_zeros(scales, (slice(None), which))),
        lambda which: tensors(with_zeros(q, (which,), z[order][which]), scales),
    )


def ct_settings(form: str, **weights: Any) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors", "format": form, "ignore": ["lm_head"], "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}},
    }  # fmt: skip


def ct_packed(
    rng: np.random.Generator, rows: int, columns: int, *, bits: int = 4, strategy: str = "group", group: int = 32,
    symmetric: bool = True, act_order: bool = False,
) -> Made:  # fmt: skip
    size = group if strategy == "group" else columns
    groups = columns // size
    q = rng.integers(0, 2**bits, (rows, columns))  # codes; the numbers are q − 2^(bits − 1)
    shape = (1,) if strategy == "tensor" else (rows, groups)
    scales = bf16(rng.uniform(0.001, 0.1, shape))
    middle = 2 ** (bits - 1)
    z = np.full((rows, groups), middle) if symmetric else rng.integers(0, 2**bits, (rows, groups))
    if strategy == "tensor":
        z[:] = z[0, 0]
    order = np.arange(columns) // size
    if act_order:
        order = rng.permutation(order)

    def tensors(q: np.ndarray, scales: np.ndarray) -> Tensors:
        found: Tensors = {
            "weight_packed": ("I32", packed_lines(q, bits)),
            "weight_scale": ("BF16", scales),
            "weight_shape": ("I64", np.array([rows, columns])),
        }
        if not symmetric:
            found["weight_zero_point"] = (
                ("I8", np.array([z[0, 0] - middle], np.int8)) if strategy == "tensor"
                else ("I32", packed_lines(z.T, bits).T)
            )  # fmt: skip
        if act_order:
            found["weight_g_idx"] = ("I32", order.astype("<i4"))
        return found

    spread = np.broadcast_to(of_bf16(scales).astype(np.float64), (rows, groups))
    return Made(
        ct_settings("pack-quantized", num_bits=bits, type="int", strategy=strategy, group_size=group, symmetric=symmetric),
        tensors(q, scales),
        spread[:, order] * (q - z[:, order]),
        lambda which: (
            tensors(with_zeros(q, (which,), z[0, 0]), scales) if strategy == "tensor"
            else tensors(q, with_zeros(scales, (which,)))
        ),
        lambda which: tensors(with_zeros(q, (slice(None), which), z[:, order[which]]), scales),
    )  # fmt: skip


def int8(
    rng: np.random.Generator, rows: int, columns: int, *, strategy: str = "channel", symmetric: bool = True,
    form: str = "int-quantized",
) -> Made:  # fmt: skip
    q = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
    shape = (rows, 1) if strategy == "channel" else (1,)
    scales = bf16(rng.uniform(0.001, 0.1, shape))
    z = np.zeros(shape, np.int8) if symmetric else rng.integers(-128, 128, shape).astype(np.int8)

    def tensors(q: np.ndarray) -> Tensors:
        found: Tensors = {"weight": ("I8", q), "weight_scale": ("BF16", scales)}
        return found if symmetric else {**found, "weight_zero_point": ("I8", z)}

    return Made(
        ct_settings(form, num_bits=8, type="int", strategy=strategy, symmetric=symmetric),
        tensors(q),
        of_bf16(scales).astype(np.float64) * (q.astype(np.int64) - z.astype(np.int64)),
        lambda which: tensors(with_zeros(q, (which,), z[which] if strategy == "channel" else z[0])),
        lambda which: tensors(with_zeros(q, (slice(None), which), z if strategy == "channel" else z[0])),
    )


def fp8_codes(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    q = rng.integers(0, 256, (rows, columns)).astype(np.uint8)
    q[(q & 0x7F) == 0x7F] = 1  # NaN
    return q


def fp8(
    rng: np.random.Generator, rows: int, columns: int, *, kind: str = "blocks", block: tuple[int, int] = (16, 16)
) -> Made:
    """`kind`: blocks, ue8m0, scalar, mxfp8 (transformers); fbgemm; ct-channel, ct-tensor, ct-block, ct-mxfp8; modelopt."""
    q = fp8_codes(rng, rows, columns)
    channel, whole, mx = (1, columns), (rows, columns), (1, 32)
    size, name, dtype = {
        "blocks": (block, "weight_scale_inv", "F32"), "ue8m0": (block, "scale", "F8_E8M0"),
        "scalar": (whole, "weight_scale_inv", "BF16"), "mxfp8": (mx, "weight_scale_inv", "U8"),
        "fbgemm": (channel, "weight_scale", "F32"), "ct-channel": (channel, "weight_scale", "BF16"),
        "ct-tensor": (whole, "weight_scale", "F32"), "ct-block": (block, "weight_scale", "F32"),
        "ct-mxfp8": (mx, "weight_scale", "U8"), "modelopt": (whole, "weight_scale", "F32"),
    }[kind]  # fmt: skip
    grid = (-(-rows // size[0]), -(-columns // size[1]))
    if dtype in ("U8", "F8_E8M0"):
        stored = rng.integers(110, 130, grid).astype(np.uint8)
        scales = 2.0 ** (stored.astype(np.int64) - 127)
    elif dtype == "BF16":
        stored = bf16(rng.uniform(0.001, 0.1, grid))
        scales = of_bf16(stored).astype(np.float64)
    else:
        stored = rng.uniform(0.001, 0.1, grid).astype(np.float32)
        scales = stored.astype(np.float64)
    if grid == (1, 1):
        stored = stored.reshape((1,) if kind.startswith("ct") else ())
    settings: dict[str, Any] = {
        "blocks": {"quant_method": "fp8", "weight_block_size": list(block)},
        "ue8m0": {"quant_method": "fp8", "weight_block_size": list(block), "scale_fmt": "ue8m0"},
        "scalar": {"quant_method": "fp8", "weight_block_size": None, "activation_scheme": "static"},
        "mxfp8": {"quant_method": "mxfp8", "weight_block_size": [1, 32]},
        "fbgemm": {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]},
        "ct-channel": ct_settings("float-quantized", num_bits=8, type="float", strategy="channel"),
        "ct-tensor": ct_settings("float-quantized", num_bits=8, type="float", strategy="tensor"),
        "ct-block": ct_settings(
            "float-quantized", num_bits=8, type="float", strategy="block", block_structure=list(block)
        ),
        "ct-mxfp8": ct_settings("mxfp8-quantized", num_bits=8, type="float", strategy="group", group_size=32),
        "modelopt": {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]},
    }[kind]
    values = np.array([[e4m3(int(code)) for code in line] for line in q])
    spread = np.array([[scales[r // size[0], c // size[1]] for c in range(columns)] for r in range(rows)])

    def tensors(q: np.ndarray) -> Tensors:
        return {"weight": ("F8_E4M3", q), name: (dtype, stored)}

    return Made(
        settings, tensors(q), values * spread,
        lambda which: tensors(with_zeros(q, (which,))), lambda which: tensors(with_zeros(q, (slice(None), which))),
    )  # fmt: skip


def fp4(rng: np.random.Generator, rows: int, columns: int, *, kind: str = "nvfp4") -> Made:
    """`kind`: nvfp4, mxfp4 (compressed-tensors), modelopt, deepseek."""
    q = rng.integers(0, 16, (rows, columns))
    size = 16 if kind in ("nvfp4", "modelopt") else 32
    overall = np.float32(rng.uniform(100, 1000))
    if size == 16:
        stored = rng.integers(1, 0x7F, (rows, columns // 16)).astype(np.uint8)
        scales = np.array([[e4m3(int(one)) for one in line] for line in stored])
        scales = scales / float(overall) if kind == "nvfp4" else scales * float(1 / overall)
    else:
        stored = rng.integers(110, 130, (rows, columns // 32)).astype(np.uint8)
        scales = 2.0 ** (stored.astype(np.int64) - 127)
    weight, dtype, scale, scale_dtype = {
        "nvfp4": ("weight_packed", "U8", "weight_scale", "F8_E4M3"),
        "modelopt": ("weight", "U8", "weight_scale", "F8_E4M3"),
        "mxfp4": ("weight_packed", "U8", "weight_scale", "U8"),
        "deepseek": ("weight", "I8", "scale", "F8_E8M0"),
    }[kind]
    settings = {
        "nvfp4": ct_settings("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16),
        "mxfp4": ct_settings("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32),
        "modelopt": {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
        "deepseek": {
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
            "scale_fmt": "ue8m0",
            "expert_dtype": "fp4",
        },
    }[kind]

    def tensors(q: np.ndarray) -> Tensors:
        found: Tensors = {weight: (dtype, (q[:, ::2] | q[:, 1::2] << 4).astype(np.uint8)), scale: (scale_dtype, stored)}
        if kind == "nvfp4":
            found["weight_global_scale"] = ("F32", np.array([overall]))
        if kind == "modelopt":
            found["weight_scale_2"] = ("F32", np.array(np.float32(1 / overall)))
        return found

    values = np.array([[e2m1(int(code)) for code in line] for line in q])
    return Made(
        settings, tensors(q), values * np.repeat(scales, size, axis=1),
        lambda which: tensors(with_zeros(q, (which,))), lambda which: tensors(with_zeros(q, (slice(None), which))),
    )  # fmt: skip


NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]  # fmt: skip
BNB_FP4 = [0.0, 0.005208333333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25]


def bnb4(
    rng: np.random.Generator, rows: int, columns: int, *, kind: str = "nf4", nested: bool = False, block: int = 16,
    storage: str = "U8",
) -> Made:  # fmt: skip
    count = rows * columns
    table = np.array(NF4 if kind == "nf4" else [*BNB_FP4, *(-one for one in BNB_FP4)], np.float32)
    q = rng.integers(0, 16, (rows, columns))
    zero = NF4.index(0.0) if kind == "nf4" else 0
    blocks = -(-count // block)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [rows, columns]}
    extra: Tensors = {}
    if nested:
        inner = rng.integers(0, 256, blocks).astype(np.uint8)
        levels, tops = (
            np.sort(rng.uniform(-1, 1, 256)).astype(np.float32),
            rng.uniform(0.1, 1, -(-blocks // 4)).astype(np.float32),
        )
        state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.25}
        absmax = np.array([float(levels[code]) * float(tops[at // 4]) + 0.25 for at, code in enumerate(inner)])
        extra = {
            "weight.absmax": ("U8", inner), "weight.nested_absmax": ("F32", tops), "weight.nested_quant_map": ("F32", levels),
        }  # fmt: skip
    else:
        absmax = rng.uniform(0.01, 1, blocks).astype(np.float32)
        extra = {"weight.absmax": ("F32", absmax)}
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)

    def tensors(q: np.ndarray) -> Tensors:
        flat = [*q.reshape(-1).tolist(), *([0] if count % 2 else [])]
        data = np.array([high << 4 | low for high, low in zip(flat[::2], flat[1::2], strict=True)], np.uint8)
        weight = data[:, None] if storage == "U8" else data.view(np.uint16)[:, None]
        return {
            "weight": (storage, weight), **extra, "weight.quant_map": ("F32", table),
            f"weight.quant_state.bitsandbytes__{kind}": ("U8", text),
        }  # fmt: skip

    values = [float(table[code]) * float(absmax[at // block]) for at, code in enumerate(q.reshape(-1))]
    return Made(
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind},
        tensors(q),
        np.array(values).reshape(rows, columns),
        lambda which: tensors(with_zeros(q, (which,), zero)),
        lambda which: tensors(with_zeros(q, (slice(None), which), zero)),
    )


def bnb8(rng: np.random.Generator, rows: int, columns: int) -> Made:
    q = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
    scales = rng.uniform(0.1, 1, rows).astype(np.float32)

    def tensors(q: np.ndarray) -> Tensors:
        return {"weight": ("I8", q), "SCB": ("F32", scales), "weight_format": ("U8", np.array(0, np.uint8))}

    return Made(
        {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_skip_modules": None},
        tensors(q), q * scales.astype(np.float64)[:, None] / 127,
        lambda which: tensors(with_zeros(q, (which,))), lambda which: tensors(with_zeros(q, (slice(None), which))),
    )  # fmt: skip


def hqq(rng: np.random.Generator, rows: int, columns: int, *, bits: int = 4, group: int = 16) -> Made:
    groups = rows * columns // group
    q = rng.integers(0, 2**bits, (groups, group))
    per = {8: 1, 4: 2, 3: 10, 2: 4, 1: 8}[bits]
    lines = -(-groups // per)
    padded = np.zeros((lines * per, group), np.int64)
    padded[:groups] = q
    packed = np.zeros((lines, group), np.int64)
    for part in range(per):
        packed |= padded[part * lines : (part + 1) * lines] << (bits * (per - 1 - part))
    scales, zeros = (
        rng.uniform(0.01, 0.1, (groups, 1)).astype(np.float16),
        rng.uniform(0, 15, (groups, 1)).astype(np.float16),
    )

    def tensors(scales: np.ndarray) -> Tensors:
        return {
            "W_q": ("I32", packed.astype("<i4")) if bits == 3 else ("U8", packed.astype(np.uint8)), "scale": ("F16", scales),
            "zero": ("F16", zeros), "shape": ("I32", np.array([rows, columns], "<i4")),
        }  # fmt: skip

    each = columns // group
    own = {"nbits": bits, "group_size": group, "axis": 1, "channel_wise": True, "view_as_float": False}
    return Made(
        {"quant_method": "hqq", "quant_config": {"weight_quant_params": own}, "skip_modules": ["lm_head"]},
        tensors(scales),
        ((q - zeros.astype(np.float64)) * scales.astype(np.float64)).reshape(rows, columns),
        lambda which: tensors(with_zeros(scales, ([row * each + at for row in which for at in range(each)],))),
        None,
    )


def mlx(rng: np.random.Generator, rows: int, columns: int, *, bits: int = 4, group: int = 32) -> Made:
    q = rng.integers(0, 2**bits, (rows, columns))
    shape = (rows, columns // group)
    scales, biases = (bf16(rng.uniform(-0.1, 0.1, shape)) for _ in range(2))

    def tensors(scales: np.ndarray, biases: np.ndarray) -> Tensors:
        return {"weight": ("U32", packed_lines(q, bits, "<u4")), "scales": ("BF16", scales), "biases": ("BF16", biases)}

    wide = [np.repeat(of_bf16(each).astype(np.float64), group, axis=1) for each in (scales, biases)]
    return Made(
        {"bits": bits, "group_size": group, "mode": "affine"}, tensors(scales, biases), q * wide[0] + wide[1],
        lambda which: tensors(with_zeros(scales, (which,)), with_zeros(biases, (which,))), None,
    )  # fmt: skip


def torchao(rng: np.random.Generator, rows: int, columns: int, *, kind: str = "Int8Tensor") -> Made:
    """`kind`: Float8Tensor, Int8Tensor, IntxUnpackedToInt8Tensor, Int4Tensor."""
    group = 32 if kind in ("IntxUnpackedToInt8Tensor", "Int4Tensor") else columns
    about = {"_type": kind, "_data": {"block_size": [1, group]}, "_tensor_data_names": ["qdata", "scale"]}
    metadata = {f"{MODULE}.weight": json.dumps(about), "tensor_names": json.dumps([f"{MODULE}.weight"])}
    settings = {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "Config"}},
        "modules_to_not_convert": ["lm_head"],
    }
    grid = (rows, columns // group)
    scales = rng.uniform(0.01, 0.1, grid).astype(np.float32)
    if kind == "Int4Tensor":
        q, zeros = rng.integers(-8, 8, (rows, columns)), rng.uniform(-1, 1, grid).astype(np.float32)
        data = ((q[:, ::2] & 15) | (q[:, 1::2] & 15) << 4).astype(np.uint8)

        def plain(scales: np.ndarray, zeros: np.ndarray) -> Tensors:
            return {
                "_weight_qdata": ("I8", data),
                "_weight_scale": ("F32", scales.T),
                "_weight_zero_point": ("F32", zeros.T),
            }

        wide = [np.repeat(each.astype(np.float64), group, axis=1) for each in (scales, zeros)]
        return Made(
            settings, plain(scales, zeros), q * wide[0] + wide[1],
            lambda which: plain(with_zeros(scales, (which,)), with_zeros(zeros, (which,))), None, metadata,
        )  # fmt: skip
    if kind == "Float8Tensor":
        q, zeros, dtype = fp8_codes(rng, rows, columns), None, "F8_E4M3"
        values = np.array([[e4m3(int(code)) for code in line] for line in q])
    else:
        q, dtype = rng.integers(-8, 8, (rows, columns)).astype(np.int8), "I8"
        zeros = rng.integers(-8, 8, grid).astype(np.int8) if kind.startswith("Intx") else None
        values = q.astype(np.float64)
    wide_zeros = np.zeros_like(q) if zeros is None else np.repeat(zeros, group, axis=1)

    def tensors(q: np.ndarray) -> Tensors:
        found: Tensors = {"_weight_qdata": (dtype, q), "_weight_scale": ("F32", scales)}
        return found if zeros is None else {**found, "_weight_zero_point": ("I8", zeros)}

    return Made(
        settings, tensors(q), (values - wide_zeros) * np.repeat(scales.astype(np.float64), group, axis=1),
        lambda which: tensors(with_zeros(q, (which,), wide_zeros[which])),
        lambda which: tensors(with_zeros(q, (slice(None), which), wide_zeros[:, which])),
        metadata,
    )  # fmt: skip


FORMATS: dict[str, Callable[..., Made]] = {
    **{
        f"gptq-{bits}{'-v2' if version == 'gptq_v2' else ''}{'-act-order' if order else ''}": (
            lambda rng, rows=32, columns=64, *, bits=bits, version=version, order=order, **own: gptq(
                rng, rows, columns, bits=bits, version=version, act_order=order, **own
            )
        )
        for bits in (2, 3, 4, 8) for version in ("gptq", "gptq_v2") for order in (False, True)
    },
    "gptq-one-group": lambda rng, rows=32, columns=64: gptq(rng, rows, columns, group=-1),
    "gptq-without-g_idx": lambda rng, rows=32, columns=64: gptq(rng, rows, columns, own_order=False, symmetric=True),
    "awq": lambda rng, rows=32, columns=64: awq(rng, rows, columns),
    "awq-one-group": lambda rng, rows=32, columns=64: awq(rng, rows, columns, group=-1),
    **{
        f"ct-int{bits}-{strategy}{'' if symmetric else '-asymmetric'}": (
            lambda rng, rows=32, columns=64, bits=bits, strategy=strategy, symmetric=symmetric: ct_packed(
                rng, rows, columns, bits=bits, strategy=strategy, symmetric=symmetric
            )
        )
        for bits in (4, 8) for strategy in ("group", "channel", "tensor") for symmetric in (True, False)
    },
    "ct-int4-act-order": lambda rng, rows=32, columns=64: ct_packed(rng, rows, columns, act_order=True, symmetric=False),
    "ct-w8a8": lambda rng, rows=32, columns=64: int8(rng, rows, columns),
    "ct-w8a8-tensor": lambda rng, rows=32, columns=64: int8(rng, rows, columns, strategy="tensor", form="naive-quantized"),
    "ct-w8a8-asymmetric": lambda rng, rows=32, columns=64: int8(rng, rows, columns, symmetric=False),
    **{
        f"fp8-{kind}": lambda rng, rows=32, columns=64, kind=kind: fp8(rng, rows, columns, kind=kind)
        for kind in (
            "blocks", "ue8m0", "scalar", "mxfp8", "fbgemm", "ct-channel", "ct-tensor", "ct-block", "ct-mxfp8", "modelopt",
        )
    },
    "fp8-cut-blocks": lambda rng, rows=40, columns=72: fp8(rng, rows, columns),
    **{
        f"fp4-{kind}": lambda rng, rows=32, columns=64, kind=kind: fp4(rng, rows, columns, kind=kind)
        for kind in ("nvfp4", "mxfp4", "modelopt", "deepseek")
    },
    "bnb-nf4": lambda rng, rows=32, columns=64: bnb4(rng, rows, columns),
    "bnb-nf4-nested": lambda rng, rows=32, columns=64: bnb4(rng, rows, columns, nested=True),
    "bnb-nf4-odd": lambda rng, rows=7, columns=33: bnb4(rng, rows, columns),
    "bnb-nf4-bf16-storage": lambda rng, rows=32, columns=64: bnb4(rng, rows, columns, storage="BF16"),
    "bnb-fp4": lambda rng, rows=32, columns=64: bnb4(rng, rows, columns, kind="fp4"),
    "bnb-int8": lambda rng, rows=32, columns=64: bnb8(rng, rows, columns),
    **{
        f"hqq-{bits}": lambda rng, rows=32, columns=64, bits=bits: hqq(rng, rows, columns, bits=bits)
        for bits in (1, 2, 3, 4, 8)
    },
    **{
        f"mlx-{bits}": lambda rng, rows=32, columns=64, bits=bits: mlx(rng, rows, columns, bits=bits)
        for bits in (2, 3, 4, 5, 6, 8)
    },
    **{
        f"torchao-{kind}": lambda rng, rows=32, columns=64, kind=kind: torchao(rng, rows, columns, kind=kind)
        for kind in ("Float8Tensor", "Int8Tensor", "IntxUnpackedToInt8Tensor", "Int4Tensor")
    },
}  # fmt: skip
