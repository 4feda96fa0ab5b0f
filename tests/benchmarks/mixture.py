"""What a mixture of experts costs: to open one of very many tensors, and to bake a large one, against `cp`.

Opening: 250 shards, 60 layers of 560 experts, so 100,800 tensors of experts and as many blocks as no released model has. The
tensors are tiny, for what is measured is headers, names and checks, not reading weights. Seconds of processor time and peak
memory of a process that opens it, beside one that does nothing but parse the JSON of the headers.

Baking: a mixture of `--size-gb`, one tensor an expert, in shards of about 200 MB, of random finite bfloat16 weights. Of each
expert one neuron in a hundred is switched off, so every shard is edited; or those of the first layer alone, so that one in
many is and the rest is copied; or experts are switched off by their router's bias. Runs alternate, ratios are medians over
runs of the same round, everything is synced before each run.

    python tests/benchmarks/mixture.py
    python tests/benchmarks/mixture.py --size-gb 2 --runs 1
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timed import Run, process

from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons

OPEN = """
import json, sys, time
from pathlib import Path
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
"""
HEADERS = """
at = time.process_time()
for path in Path(sys.argv[1]).glob("*.safetensors"):
    with path.open("rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")))
print(time.process_time() - at)
"""
OPENS = """
at = time.process_time()
found = open_target(resolve(sys.argv[1]))
print(time.process_time() - at, len(found.feed_forward.networks))
"""
EXPERTS = "mlp.experts.{}.{}_proj.weight"


def tensors(layers: int, experts: int, hidden: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of a DeepSeek V3 without its attention: layers of experts alone, and tied embeddings."""
    yield "model.embed_tokens.weight", (512, hidden)
    for layer in range(layers):
        name = f"model.layers.{layer}"
        yield f"{name}.mlp.gate.weight", (experts, hidden)
        yield f"{name}.mlp.gate.e_score_correction_bias", (experts,)
        for expert in range(experts):
            for projection in ("gate", "up", "down"):
                shape = (hidden, width) if projection == "down" else (width, hidden)
                yield f"{name}.{EXPERTS.format(expert, projection)}", shape
    yield "model.norm.weight", (hidden,)


def make(folder: Path, shards: int, layers: int, experts: int, hidden: int, width: int) -> Path:
    """Write it, without holding it in memory, as evenly spread over shards as its tensors allow."""
    folder.mkdir()
    config = {
        "model_type": "deepseek_v3", "hidden_size": hidden, "intermediate_size": width, "moe_intermediate_size": width,
        "num_hidden_layers": layers, "n_routed_experts": experts, "num_experts_per_tok": 8, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 0, "hidden_act": "silu", "dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    whole = list(tensors(layers, experts, hidden, width))
    block = (np.random.default_rng(0).integers(0, 2**16, 2**22, np.uint16) & 0xBFFF).tobytes()
    places = {}
    for number, part in enumerate(np.array_split(np.arange(len(whole)), shards), 1):
        name, header, at = f"model-{number:05}-of-{shards:05}.safetensors", {}, 0
        for tensor, shape in (whole[index] for index in part):
            size = 2 * int(np.prod(shape))
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            places[tensor] = name
            at += size
        text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for begin in range(0, at, len(block)):
                file.write(block[: at - begin])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def opening(scratch: Path, runs: int) -> None:
    model = make(scratch / "many", 250, 60, 560, 16, 8)
    idle = [process(sys.executable, "-c", OPEN, model) for _ in range(runs)]
    parsed = [process(sys.executable, "-c", OPEN + HEADERS, model) for _ in range(runs)]
    found = [process(sys.executable, "-c", OPEN + OPENS, model) for _ in range(runs)]
    count = len(list(tensors(60, 560, 16, 8)))
    seconds, least = (statistics.median(float(run.said.split()[0]) for run in each) for each in (found, parsed))
    peak, before = (statistics.median(run.peak for run in each) for each in (found, idle))
    print(f"open {count:,} tensors in 250 shards, {found[0].said.split()[1]} networks: {seconds:.2f} s,")
    print(f"{seconds / least:.1f} × as long as parsing the JSON of the headers")
    print(f"peak memory {peak:.0f} MB, {before:.0f} MB of them before anything is opened", flush=True)


def choose(target: Target, path: Path, layers: int) -> None:
    """One neuron in a hundred of each expert of the first layers, as Chinese ones."""
    generator = np.random.default_rng(0)
    chosen = tuple(
        np.sort(generator.choice(block.width, -(-block.width // 100), replace=False))
        if block.layer < layers
        else np.zeros(0, np.int64)
        for block in target.feed_forward.networks
    )
    about = {"name": "lape", "rate": 0.01, "quantile": 0.95}
    neurons.save(neurons.Neurons({"zh": chosen}, {}, model_info(target), about), path)


def baking(scratch: Path, size_gb: float, runs: int) -> None:
    hidden, width, experts = 2048, 768, 64
    layer = experts * 3 * hidden * width * 2 / 1e9
    layers = max(2, round(size_gb / layer))
    model = make(scratch / "large", max(2, round(size_gb * 5)), layers, experts, hidden, width)
    target = open_target(resolve(str(model)))
    out = scratch / "out"
    for name, count in (("all", layers), ("first", 1)):
        choose(target, scratch / f"{name}.json", count)
    bake = (sys.executable, "-m", "monoglot.cli", "bake", model)
    off = [",".join(f"{at}.{expert}" for at in range(layers) for expert in range(8))]
    ways = {
        "cp": ("cp", "-rL", model, out),
        "cp, synced": ("sh", "-c", 'cp -rL "$0" "$1" && find "$1" -type f -exec sync {} +', model, out),
        "bake, every expert edited": (*bake, scratch / "all.json", "--deactivate", "zh", "-o", out),
        "bake, experts of one layer": (*bake, scratch / "first.json", "--deactivate", "zh", "-o", out),
        "bake --experts, 8 of each layer": (*bake, "--experts", *off, "-o", out),
    }
    measured: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, command in ways.items():
            os.sync()
            measured[name].append(process(*command))
            shutil.rmtree(out)
    size = sum(path.stat().st_size for path in model.iterdir())
    print(f"{size / 1e9:.2f} GB, {len(target.feed_forward.networks):,} experts in {layers} layers, {runs} rounds")
    print(f"{'':34}{'seconds':>9}{'cpu s':>8}{'/ cp':>8}{'/ synced':>10}{'peak MB':>9}")
    for name, own in measured.items():
        seconds, processor, peak = (statistics.median(run[at] for run in own) for at in range(3))
        ratios = [
            statistics.median(a.seconds / b.seconds for a, b in zip(own, measured[other], strict=True))
            for other in ("cp", "cp, synced")
        ]
        print(f"{name:34}{seconds:9.2f}{processor:8.2f}{ratios[0]:8.2f}{ratios[1]:10.2f}{peak:9.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, default=8, help="of the mixture to bake; 0: none")
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="a folder on a real disk")
    options = parser.parse_args()
    need = 2.2 * options.size_gb + 1
    if (free := shutil.disk_usage(options.scratch).free / 1e9) < need:
        sys.exit(f"{options.scratch} has {free:.0f} GB free, {need:.0f} GB are needed. See --scratch and --size-gb.")
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        opening(Path(temporary), max(1, options.runs))
        if options.size_gb:
            baking(Path(temporary), options.size_gb, options.runs)


if __name__ == "__main__":
    main()
