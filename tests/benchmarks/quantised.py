"""What it costs to bake a quantised checkpoint, one row a format: time as a ratio to copying the same file, and peak memory.

The feed-forward networks of a model, of about the same number of weights in every format, with random codes and one scale;
one per cent of each layer's neurons switched off. "rows" is a gated network, whose rows of the up projection are cleared;
"columns" a plain one, whose columns of the output projection are, where the format can. Runs alternate, ratios are medians
over runs of the same round; everything is synced before each run, and the copy is synced after it, as the bake is (which also
writes the sha256 of every file). The source was read just before, so it lies in the page cache, and its own sha256 is known,
as after any earlier command: "first" is a run before that, which reads it once more. Memory is read from /proc, so this runs
on Linux; what the process took before the bake is taken off.

    python tests/benchmarks/quantised.py [--weights 4e8] [--runs 5] [--formats gptq,fp8]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from monoglot.editor.errors import MonoglotError
from monoglot.editor.files import hashes
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.neurons.neurons import Neurons

HIDDEN, WIDTH, SHARE, GROUP = 2048, 8192, 0.01, 128
PIECE = 2**24  # bytes written at once
F16_ONE, F32_ONE, BF16_ONE = b"\x00\x3c", b"\x00\x00\x80\x3f", b"\x80\x3f"
RANDOM = b""

Part = tuple[str, tuple[int, ...], bytes]  # dtype, shape, the bytes that fill it (none: random ones)
Format = tuple[dict[str, Any], Callable[[int, int], dict[str, Part]]]


def ct(form: str, **weights: Any) -> dict[str, Any]:
    groups = {"g": {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}


def bnb(rows: int, columns: int) -> dict[str, Part]:
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [rows, columns]}).encode()
    table = np.linspace(-1, 1, 16, dtype="<f4")
    table[7] = 0
    return {
        "weight": ("U8", (rows * columns // 2, 1), RANDOM), "weight.absmax": ("F32", (rows * columns // 64,), F32_ONE),
        "weight.quant_map": ("F32", (16,), table.tobytes()),
        "weight.quant_state.bitsandbytes__nf4": ("U8", (len(state),), state),
    }  # fmt: skip


FORMATS: dict[str, Format] = {
    "bfloat16": ({}, lambda r, c: {"weight": ("BF16", (r, c), BF16_ONE)}),
    "fp8": (
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        lambda r, c: {"weight": ("F8_E4M3", (r, c), RANDOM), "weight_scale_inv": ("F32", (r // 128, c // 128), F32_ONE)},
    ),
    "int8": (
        ct("int-quantized", num_bits=8, type="int", strategy="channel"),
        lambda r, c: {"weight": ("I8", (r, c), RANDOM), "weight_scale": ("BF16", (r, 1), BF16_ONE)},
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "checkpoint_format": "gptq_v2"},
        lambda r, c: {
            "qweight": ("I32", (c // 8, r), RANDOM), "qzeros": ("I32", (c // GROUP, r // 8), RANDOM),
            "scales": ("F16", (c // GROUP, r), F16_ONE),
        },
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"},
        lambda r, c: {
            "qweight": ("I32", (c, r // 8), RANDOM), "qzeros": ("I32", (c // GROUP, r // 8), RANDOM),
            "scales": ("F16", (c // GROUP, r), F16_ONE),
        },
    ),
    "int4": (
        ct("pack-quantized", num_bits=4, type="int", strategy="group", group_size=GROUP),
        lambda r, c: {
            "weight_packed": ("I32", (r, c // 8), RANDOM), "weight_scale": ("BF16", (r, c // GROUP), BF16_ONE),
            "weight_shape": ("I64", (2,), np.array([r, c], "<i8").tobytes()),
        },
    ),
    "nvfp4": (
        ct("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16),
        lambda r, c: {
            "weight_packed": ("U8", (r, c // 2), RANDOM), "weight_scale": ("F8_E4M3", (r, c // 16), b"\x38"),
            "weight_global_scale": ("F32", (1,), F32_ONE),
        },
    ),
    "nf4": ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, bnb),
    "hqq": (
        {"quant_method": "hqq", "quant_config": {"nbits": 4, "group_size": 64, "axis": 1}},
        lambda r, c: {
            "W_q": ("U8", (r * c // 128, 64), RANDOM), "scale": ("F16", (r * c // 64, 1), F16_ONE),
            "zero": ("F16", (r * c // 64, 1), F16_ONE), "shape": ("I32", (2,), np.array([r, c], "<i4").tobytes()),
        },
    ),
    "mlx": (
        {"bits": 4, "group_size": 64},
        lambda r, c: {
            "weight": ("U32", (r, c // 8), RANDOM), "scales": ("BF16", (r, c // 64), BF16_ONE),
            "biases": ("BF16", (r, c // 64), BF16_ONE),
        },
    ),
}  # fmt: skip
NETWORKS = {
    "rows": (
        "llama",
        {"mlp.gate_proj": (WIDTH, HIDDEN), "mlp.up_proj": (WIDTH, HIDDEN), "mlp.down_proj": (HIDDEN, WIDTH)},
    ),
    "columns": ("gpt_neox", {"mlp.dense_h_to_4h": (WIDTH, HIDDEN), "mlp.dense_4h_to_h": (HIDDEN, WIDTH)}),
}
SIZES = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8}

BAKE = """
import re, sys, time
from pathlib import Path
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons
folder, found, out = sys.argv[1], neurons.load(Path(sys.argv[2])), Path(sys.argv[3])
def peak():
    return int(re.search("VmHWM: *[^0-9]*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
started = time.perf_counter()
target = open_target(resolve(folder))
bake(target, found, Recipe(target.base, (Edit("zh", "deactivate"),)), out)
print(time.perf_counter() - started, peak() - before)
"""


def make(folder: Path, name: str, network: str, weights: float) -> int:
    """Write the checkpoint; how many layers it has."""
    settings, parts = FORMATS[name]
    model_type, projections = NETWORKS[network]
    layers = max(1, round(weights / sum(rows * columns for rows, columns in projections.values())))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    fills: list[tuple[int, bytes]] = []
    at = 0
    prefix = "model.layers" if model_type == "llama" else "gpt_neox.layers"
    for layer in range(layers):
        for projection, shape in projections.items():
            for kind, (dtype, form, fill) in parts(*shape).items():
                size = int(np.prod(form)) * SIZES[dtype]
                name_there = f"{prefix}.{layer}.{projection}.{kind}"
                entries[name_there] = {"dtype": dtype, "shape": list(form), "data_offsets": [at, at + size]}
                fills.append((size, fill))
                at += size
    folder.mkdir()
    noise = np.random.default_rng(0).bytes(PIECE)
    header = json.dumps(entries).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for size, fill in fills:
            piece = noise if fill == RANDOM else fill * max(1, min(PIECE, size) // len(fill))
            for start in range(0, size, len(piece)):
                file.write(piece[: size - start])
    key = "quantization_config" if "quant_method" in settings else "quantization"
    config = {"model_type": model_type, "hidden_act": "gelu", **({key: settings} if settings else {})}
    (folder / "config.json").write_text(json.dumps(config))
    return layers


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    os.sync()
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def copy(source: Path, out: Path) -> None:
    out.mkdir()
    subprocess.run(["cp", "--reflink=never", source / "model.safetensors", out / "model.safetensors"], check=True)
    with (out / "model.safetensors").open("rb") as file:
        os.fsync(file.fileno())


def baked(source: Path, found: Path, out: Path) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, "-c", BAKE, str(source), str(found), str(out)], check=True, capture_output=True, text=True
    )
    seconds, memory = done.stdout.split()
    return float(seconds), int(memory)


def measured(scratch: Path, name: str, network: str, weights: float, runs: int) -> str:
    source, found = scratch / "model", scratch / "neurons.json"
    layers = make(source, name, network, weights)
    rng = np.random.default_rng(0)
    own = tuple(np.sort(rng.choice(WIDTH, round(SHARE * WIDTH), replace=False)) for _ in range(layers))
    neurons.save(Neurons({"zh": own}, {}), found)
    size = (source / "model.safetensors").stat().st_size
    try:
        target = open_target(resolve(str(source)))
    except MonoglotError as error:
        return f"{name:10} {network:8} {error}"
    time.sleep(hashes.SETTLED + 1)  # a file that was written moments ago is read again and again
    first, _ = baked(source, found, scratch / "first")
    subprocess.run(["rm", "-rf", scratch / "first"], check=True)
    ratios, seconds, memory = [], [], 0
    for number in range(runs):
        copied, _ = timed(lambda number=number: copy(source, scratch / f"copy{number}"))
        _, (one, peak) = timed(lambda number=number: baked(source, found, scratch / f"baked{number}"))
        ratios.append(one / copied)
        seconds.append(one)
        memory = max(memory, peak)
        for path in (f"copy{number}", f"baked{number}"):
            subprocess.run(["rm", "-rf", scratch / path], check=True)
    form = target.quantised or "bfloat16"
    return (
        f"{name:10} {network:8} {size / 1e6:7,.0f} MB  {statistics.median(seconds):6.2f} s (first {first:.2f})  "
        f"{statistics.median(ratios):5.2f} × cp and sync  {memory / 1024:5.0f} MB more  {form}"
    )


def rows(arguments: argparse.Namespace) -> Iterator[str]:
    wanted = arguments.formats.split(",") if arguments.formats else list(FORMATS)
    for name in wanted:
        for network in NETWORKS:
            with tempfile.TemporaryDirectory() as scratch:
                yield measured(Path(scratch), name, network, arguments.weights, arguments.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=float, default=4e8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--formats", default="")
    for row in rows(parser.parse_args()):
        print(row, flush=True)


if __name__ == "__main__":
    main()
