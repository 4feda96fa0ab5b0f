"""How long finding takes, and how much memory, by default at the shape of LLaMA-2-70B in 21 languages.

    80 layers × 28,672 neurons × 21 languages, one sparse count and one sum each: a file of 770 MB

It makes a statistics file in a temporary folder, then measures a fresh process that loads it, finds and serialises. The last
line is JSON: seconds, peak_mb (resident, that process), neurons, union.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def make(path: Path, layers: int, width: int, languages: int) -> None:
    """Counts as a real model's: most neurons rarely active, some in all languages, a few in one."""
    from monoglot.editor.models.identity import ModelInfo
    from monoglot.editor.statistics import statistics

    generator = np.random.default_rng(0)
    tokens = 100_000
    names = [f"{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(languages)]
    common = generator.beta(0.5, 3, (layers, width))
    active, total = {}, {}
    for name in names:
        own = np.where(generator.random((layers, width)) < 0.01, generator.random((layers, width)), common)
        active[name] = generator.binomial(tokens, own)
        total[name] = active[name] * 0.25
    info = ModelInfo("benchmark", None, "llama", layers, width, "0" * 64)
    texts = {name: (name,) for name in names}
    statistics.save(statistics.Statistics(info, dict.fromkeys(names, tokens), active, total, texts), path)


def measure(path: Path) -> None:
    started = time.perf_counter()
    from monoglot.editor.neurons import neurons
    from monoglot.editor.neurons.find import find
    from monoglot.editor.statistics import statistics

    found = find(statistics.load(path))
    neurons.serialise(found)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    union = set().union(*(found.pairs(language) for language in found.languages))
    print(
        json.dumps(
            {
                "seconds": round(seconds, 2),
                "peak_mb": round(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)),  # bytes there, kB here
                "neurons": sum(found.count(language) for language in found.languages),
                "union": len(union),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=80)
    parser.add_argument("--width", type=int, default=28_672)
    parser.add_argument("--languages", type=int, default=21)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make, arguments.layers, arguments.width, arguments.languages)
        return
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stats.safetensors"
        # apart, because a process starts with the peak of the one that started it
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--make", str(path)], check=True)
        print(f"{arguments.languages} languages, {arguments.layers} layers of {arguments.width:,} neurons", flush=True)
        subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
