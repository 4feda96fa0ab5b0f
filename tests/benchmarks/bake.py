"""What baking costs, against copying the same files and against going through transformers.

For a checkpoint of about 500 MB in one file (or the one given), and for a large one in shards, both made of random
weights: seconds, seconds of processor time, peak memory, and the time as a ratio to `cp` and to `cp` with a sync of the
copies, which is what baking does (and it writes every file's sha256 into the manifest). The base's own sha256 is known from
the first round on, as it is after `detect`; "--rehash" has it read again. One per cent of each layer's
neurons is zeroed; "activation" adds constants to another per cent besides, by a calibrated direction: it rewrites rows of
the gate and up projections too. Runs alternate, ratios are medians over runs of the same round, everything is synced
before each run, and the source was read just before, so it lies in the page cache as far as it fits. The peak memory of a
child can't read lower than that of this script, about 60 MB.

    python tests/benchmarks/bake.py
    python tests/benchmarks/bake.py path/to/checkpoint --runs 9 --size-gb 0
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timed import Run, process

from monoglot.editor.edits import calibration
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.calibration import Calibration, LayerError
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons

SHARE = 0.01  # of each layer's neurons
SMALL = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 13, "num_attention_heads": 8}
LARGE = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 4, "num_attention_heads": 64}
VOCABULARY = 32_000

THROUGH_TRANSFORMERS = """
import json, sys
import torch, transformers
source, neurons, out = sys.argv[1:]
model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype="auto")
layers = json.load(open(neurons))["languages"]["zh"]
with torch.no_grad():
    for layer, entry in zip(model.get_decoder().layers, layers):
        layer.mlp.down_proj.weight[:, entry["neurons"]] = 0
model.save_pretrained(out)
"""


def shapes(config: dict[str, int]) -> list[dict[str, tuple[int, int] | tuple[int]]]:
    """The tensors of a Llama with tied embeddings, a shard per layer."""
    d, d_ff = config["hidden_size"], config["intermediate_size"]
    shards: list[dict[str, tuple[int, int] | tuple[int]]] = []
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        shard: dict[str, tuple[int, int] | tuple[int]] = {
            f"{name}.self_attn.{part}_proj.weight": (d, d) for part in "qkvo"
        }
        shard |= {f"{name}.mlp.gate_proj.weight": (d_ff, d), f"{name}.mlp.up_proj.weight": (d_ff, d)}
        shard |= {f"{name}.mlp.down_proj.weight": (d, d_ff)}
        shard |= {f"{name}.{norm}_layernorm.weight": (d,) for norm in ("input", "post_attention")}
        shards.append(shard)
    shards[0] |= {"model.embed_tokens.weight": (VOCABULARY, d), "model.norm.weight": (d,)}
    return shards


def make_checkpoint(folder: Path, config: dict[str, int], *, sharded: bool) -> Path:
    """Write a Llama of random finite bfloat16 weights, without holding it in memory."""
    folder.mkdir()
    heads = config["num_attention_heads"]
    full = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **config, "num_key_value_heads": heads,
            "vocab_size": VOCABULARY, "tie_word_embeddings": True, "hidden_act": "silu", "dtype": "bfloat16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(full, indent=1))
    parts = shapes(config)
    if not sharded:
        parts = [{name: shape for part in parts for name, shape in part.items()}]
    # clearing the exponent's top bit leaves numbers below 2
    block = (np.random.default_rng(0).integers(0, 2**16, 2**23, np.uint16) & 0xBFFF).tobytes()
    weight_map = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors" if sharded else "model.safetensors"
        header, at = {}, 0
        for tensor, shape in part.items():
            size = 2 * int(np.prod(shape))
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            weight_map[tensor] = name
            at += size
        text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for begin in range(0, at, len(block)):
                file.write(block[: at - begin])
    if sharded:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def choose_neurons(target: Target, path: Path) -> neurons.Neurons:
    """SHARE of each layer's neurons, at random, as Chinese ones, and as many others as French ones with a mean of 1."""
    layers, width = target.feed_forward.layers, target.feed_forward.width
    generator = np.random.default_rng(0)
    count = max(1, round(width * SHARE))
    drawn = [generator.choice(width, 2 * count, replace=False) for _ in range(layers)]
    chosen = {
        "zh": tuple(np.sort(both[:count]) for both in drawn),
        "fr": tuple(np.sort(both[count:]) for both in drawn),
    }
    means = {language: tuple(np.ones(count) for _ in own) for language, own in chosen.items()}
    found = neurons.Neurons(
        chosen, {"mean": means}, model_info(target), {"name": "lape", "rate": SHARE, "quantile": 0.95}
    )
    neurons.save(found, path)
    return found


def fabricate(target: Target) -> Calibration:
    """A calibration with random directions: what it costs to bake one doesn't depend on how good it is."""
    layers, hidden = target.feed_forward.layers, target.feed_forward.hidden
    directions = np.random.default_rng(1).normal(0, 0.02, (layers, hidden)).astype(np.float32).astype(np.float64)
    error = LayerError(1.0, 0.02, 0.01, "letters", 0.03, None)
    dtype = target.feed_forward.outputs[0][1].dtype
    return Calibration(
        directions, np.full(layers, -1.25), np.ones(layers), (error,) * layers, 1000, 1000, ("fr",), dtype,
        target.fingerprint,
    )  # fmt: skip


def compare(model: Path, scratch: Path, runs: int, *, transformers: bool) -> None:
    """Alternate all ways `runs` times and print the table."""
    neurons_path, calibration_path, out = scratch / "neurons.json", scratch / "calibration.monoglot", scratch / "out"
    target = open_target(resolve(str(model)))
    found, stand_in = choose_neurons(target, neurons_path), fabricate(target)
    calibration.save(stand_in, calibration_path)
    off = Recipe(Base(model.name), (Edit("zh", "deactivate"),))
    on = Recipe(Base(model.name), (*off.edits, Edit("fr", "add", 1.0, "mean")), carrier="calibrated")

    def library(recipe: Recipe, made: Calibration | None = None) -> Run:
        started, before = time.perf_counter(), time.process_time()
        bake(open_target(resolve(str(model))), found, recipe, out, calibration=made)
        return Run(time.perf_counter() - started, time.process_time() - before, float("nan"), "")

    command = (sys.executable, "-m", "monoglot.cli", "bake", model, neurons_path, "--deactivate", "zh", "-o", out)
    activation = ("--activate", "fr", "--carrier", "calibrated", "--layers", "all", "--calibration", calibration_path)
    ways: dict[str, Callable[[], Run]] = {
        "cp": lambda: process("cp", "-rL", model, out),
        "cp, synced": lambda: process("sh", "-c", 'cp -rL "$0" "$1" && find "$1" -type f -exec sync {} +', model, out),
        "bake, call in a warm process": lambda: library(off),
        "bake of an activation, the same": lambda: library(on, stand_in),
        "monoglot bake, whole process": lambda: process(*command),
        "monoglot bake --activate, the same": lambda: process(*command, *activation),
        "monoglot bake --rehash, the same": lambda: process(*command, "--rehash"),
    }
    if transformers:
        ways["from_pretrained, edit, save_pretrained"] = lambda: process(
            sys.executable, "-c", THROUGH_TRANSFORMERS, model, neurons_path, out
        )
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    process("sh", "-c", 'cat "$0"/*.safetensors > /dev/null', model)
    measured: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            os.sync()
            measured[name].append(way())
            shutil.rmtree(out)

    def ratio(name: str, to: str) -> float:
        return statistics.median(a.seconds / b.seconds for a, b in zip(measured[name], measured[to], strict=True))

    print(f"{model.name}: {size / 1e9:.2f} GB, {runs} rounds")
    print(f"{'':40}{'seconds':>9}{'cpu s':>8}{'/ cp':>8}{'/ synced':>10}{'peak MB':>9}")
    for name, found_runs in measured.items():
        seconds, processor, peak = (
            statistics.median(column) for column in zip(*(run[:3] for run in found_runs), strict=True)
        )
        ratios = f"{ratio(name, 'cp'):8.2f}{ratio(name, 'cp, synced'):10.2f}"
        memory = "" if peak != peak else f"{peak:9.0f}"
        print(f"{name:40}{seconds:9.2f}{processor:8.2f}{ratios}{memory}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a Llama-like checkpoint folder; default: one is made")
    parser.add_argument("--size-gb", type=float, default=8, help="of the large checkpoint; 0: none")
    parser.add_argument("--runs", type=int, default=7, help="rounds with the small checkpoint")
    parser.add_argument("--large-runs", type=int, default=3, help="rounds with the large one")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="a folder on a real disk")
    options = parser.parse_args()
    layer_gb = sum(2 * int(np.prod(shape)) for shape in shapes({**LARGE, "num_hidden_layers": 2})[1].values()) / 1e9
    large = {**LARGE, "num_hidden_layers": max(1, round(options.size_gb / layer_gb))}
    need = 2 * (options.size_gb + layer_gb / 2 + 0.6) + 1  # the checkpoint and its copy, in GB
    if (free := shutil.disk_usage(options.scratch).free / 1e9) < need:
        sys.exit(f"{options.scratch} has {free:.0f} GB free, {need:.0f} GB are needed. See --scratch and --size-gb.")
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        scratch = Path(temporary)
        small = options.model or make_checkpoint(scratch / "small", SMALL, sharded=False)
        if options.runs:
            compare(small, scratch, options.runs, transformers=True)
        if options.size_gb:
            made = make_checkpoint(scratch / "large", large, sharded=True)
            compare(made, scratch, options.large_runs, transformers=False)


if __name__ == "__main__":
    main()
