"""What it costs to bake a GGUF file, as a ratio to copying it, and the peak memory.

A llama of random Q8_0 weights, one per cent of each layer's neurons cleared. Runs alternate in random order, ratios are
medians over runs of the same round; everything is synced before each run, and the source was read just before, so it lies
in the page cache as far as it fits. `cp` is coreutils': it may share blocks where the file system can; so does the bake. Two
sha256 are part of the bake, of what was read and of what was written, side by side: "sha256" is what one of them costs
alone, on an idle core.

Memory is read from /proc, so this runs on Linux.

    python tests/benchmarks/gguf.py
    python tests/benchmarks/gguf.py path/to/model.gguf --runs 9
"""

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from monoglot.editor.files.gguf import read_gguf
from monoglot.editor.gguf.up_projection import locate_up
from monoglot.editor.neurons import neurons

BLOCK, BLOCK_BYTES, Q8_0 = 32, 34, 8
HIDDEN, WIDTH, VOCABULARY = 2048, 8192, 32_000
SHARE = 0.01  # of each layer's neurons

BAKE = """
import re, sys, time
from pathlib import Path
from monoglot.editor import neurons
from monoglot.editor.gguf_bake import bake_gguf
from monoglot.editor.recipe import Base, Edit, Recipe
model, found, out = Path(sys.argv[1]), neurons.load(Path(sys.argv[2])), Path(sys.argv[3])
def peak():
    return re.search("VmHWM: *[^0-9]*([0-9]+) kB", Path("/proc/self/status").read_text())[1]
before = peak()
started = time.perf_counter()
bake_gguf(model, found, Recipe(Base("m"), (Edit("zh", "deactivate"),)), out)
print(time.perf_counter() - started, before, peak())
"""

HASH = """
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
"""


def make(path: Path, size: float) -> Path:
    """Write a llama's feed-forward network of about `size` bytes, without holding it in memory."""
    layer = [("ffn_down", (WIDTH, HIDDEN)), ("ffn_gate", (HIDDEN, WIDTH)), ("ffn_up", (HIDDEN, WIDTH))]
    layers = max(1, round(size / (3 * HIDDEN * WIDTH / BLOCK * BLOCK_BYTES)))
    shapes = {"token_embd.weight": (HIDDEN, VOCABULARY)}
    shapes |= {f"blk.{i}.{name}.weight": shape for i in range(layers) for name, shape in layer}

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {"block_count": layers, "feed_forward_length": WIDTH, "embedding_length": HIDDEN}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), 1 + len(numbers))
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    head += b"".join(text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in numbers.items())
    at = 0
    for name, shape in shapes.items():
        head += text(name) + struct.pack("<IQQIQ", 2, *shape, Q8_0, at)
        at += shape[0] * shape[1] // BLOCK * BLOCK_BYTES
    noise = np.random.default_rng(0).bytes(2**24)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for begin in range(0, at, len(noise)):
            file.write(noise[: at - begin])
    return path


def some(model: Path, path: Path) -> Path:
    up = locate_up(read_gguf(model))
    generator = np.random.default_rng(0)
    count = max(1, round(SHARE * up.width))
    drawn = tuple(np.sort(generator.choice(up.width, count, replace=False)) for _ in range(up.layers))
    neurons.save(neurons.Neurons({"zh": drawn}, method={"name": "hand"}), path)
    return path


def timed(*command: str | Path) -> float:
    started = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file; default: one is made")
    parser.add_argument("--size-gb", type=float, default=1.0, help="of the one that is made")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="a folder on a real disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        scratch = Path(temporary)
        model = options.model or make(scratch / "model.gguf", options.size_gb * 1e9)
        found, out = some(model, scratch / "neurons.json"), scratch / "out.gguf"
        memory: list[float] = []

        def bake() -> float:
            done = subprocess.run(
                [sys.executable, "-c", BAKE, model, found, out], check=True, capture_output=True, text=True
            )
            seconds, before, after = map(float, done.stdout.split())
            memory.append((after - before) * 1024 / 1e6)
            return seconds

        command = (sys.executable, "-m", "monoglot.cli", "bake", model, found, "--deactivate", "zh", "-o", out)
        ways: dict[str, Callable[[], float]] = {
            "cp": lambda: timed("cp", model, out),
            "cp, synced": lambda: timed("sh", "-c", 'cp "$0" "$1" && sync "$1"', model, out),
            "sha256": lambda: timed(sys.executable, "-c", HASH, model),
            "bake, call in a warm process": bake,
            "monoglot bake, whole process": lambda: timed(*command),
        }
        measured: dict[str, list[float]] = {name: [] for name in ways}
        order = random.Random(0)
        for _ in range(options.runs):
            for name, way in order.sample(
                list(ways.items()), len(ways)
            ):  # a run may profit from what the last one left
                timed("sh", "-c", 'cat "$0" > /dev/null', model)
                os.sync()
                measured[name].append(way())
                for path in (out, Path(f"{out}.json")):
                    path.unlink(missing_ok=True)
        print(f"{model.name}: {model.stat().st_size / 1e9:.2f} GB, {options.runs} rounds")
        print(f"{'':32}{'seconds':>9}{'/ cp':>8}{'/ synced':>10}")
        for name, runs in measured.items():
            ratios = [
                statistics.median(a / b for a, b in zip(runs, measured[to], strict=True)) for to in ("cp", "cp, synced")
            ]
            print(f"{name:32}{statistics.median(runs):9.2f}{ratios[0]:8.2f}{ratios[1]:10.2f}")
        print(f"peak memory that the bake adds: {max(memory):.0f} MB")
        assert max(memory) < 100, "memory is not constant"


if __name__ == "__main__":
    main()
