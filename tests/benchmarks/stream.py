"""A model layer by layer against the same model whole: seconds and peak memory of the whole process, `monoglot detect`.

Both run in turns on the same text; printed are their figures, the ratios, and whether the counts are equal. With
--synthetic a Llama of so many gigabytes is written first (layers as wide as a 7B's, random weights), and only the run layer
by layer is made: it is for a model that does not fit.

    python tests/benchmarks/stream.py
    python tests/benchmarks/stream.py path/to/checkpoint --corpus texts/ --tokens 2048
    python tests/benchmarks/stream.py --synthetic 8 --memory 2GB --tokens 64 --work /tmp/synthetic
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from monoglot.editor import embedded
from monoglot.editor.statistics import statistics

LAYER = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}
VOCABULARY = 32_000


class Run(NamedTuple):
    """Seconds and peak memory in bytes of one process."""

    seconds: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=embedded.MODEL, help="default: the embedded model")
    parser.add_argument("--corpus", default=embedded.NAME)
    parser.add_argument("--languages", default="en,fr")
    parser.add_argument("--tokens", type=int, default=2048, help="a language")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--memory", default="", help="what the run layer by layer may take")
    parser.add_argument("--synthetic", type=float, default=0, help="gigabytes")
    parser.add_argument("--work", type=Path, help="where the synthetic model is written, and stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = options.model
        if options.synthetic:
            model = synthetic(options.work or work / "synthetic", options.synthetic)
        size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
        print(f"{model.name}, {size / 1e9:.2f} GB of weights, {options.tokens:,} tokens in each of {options.languages}")
        modes = ("layers",) if options.synthetic else ("off", "layers", "off", "layers")
        found: dict[str, list[Run]] = {}
        for mode in modes:
            found.setdefault(mode, []).append(detect(model, mode, work / f"{mode}.safetensors", options))
        best = {mode: Run(*map(min, zip(*runs, strict=True))) for mode, runs in found.items()}
        for mode, run in best.items():
            print(
                f"{'whole' if mode == 'off' else 'by layers'}: {run.seconds:.1f} s, {run.peak / 1e9:.2f} GB at the peak"
            )
        if "off" in best:
            whole, layers = best["off"], best["layers"]
            same = equal(work / "off.safetensors", work / "layers.safetensors")
            print(f"by layers / whole: {layers.seconds / whole.seconds:.2f} × the time, {layers.peak / whole.peak:.2f} × "
                  f"the memory; counts {'equal' if same else 'DIFFERENT'}")  # fmt: skip


def detect(model: Path, mode: str, output: Path, options: argparse.Namespace) -> Run:
    """Run the command in a process of its own."""
    arguments = [sys.executable, "-m", "monoglot.cli", "detect", model, "--corpus", options.corpus, "--languages",
                 options.languages, "--tokens", options.tokens, "--minimum", 1, "--context", options.context,
                 "--stream", mode, "-o", output, "--force"]  # fmt: skip
    if options.memory and mode == "layers":
        arguments += ["--memory", options.memory]
    started = time.perf_counter()
    process = subprocess.Popen([str(each) for each in arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"detect ended with {process.returncode}.")
    return Run(time.perf_counter() - started, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def equal(a: Path, b: Path) -> bool:
    """Whether two files have the same counts."""
    one, other = statistics.load(a), statistics.load(b)
    return all(np.array_equal(one.active_count[k], other.active_count[k]) for k in one.languages)


def synthetic(folder: Path, gigabytes: float) -> Path:
    """Write a Llama in bfloat16, a shard a layer, unless it is there."""
    hidden, width = LAYER["hidden_size"], LAYER["intermediate_size"]
    shapes = {
        **{f"self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"},
        **{f"mlp.{name}_proj.weight": (width, hidden) for name in ("gate", "up")}, "mlp.down_proj.weight": (hidden, width),
        "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
    }  # fmt: skip
    layer = 2 * sum(int(np.prod(shape)) for shape in shapes.values())
    layers = round(gigabytes * 1e9 / layer)
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: tuple[int, ...]) -> torch.Tensor:
        return (
            torch.ones(shape).bfloat16()
            if len(shape) == 1
            else torch.randn(shape, generator=generator).mul_(0.02).bfloat16()
        )

    own = {name: drawn(shape) for name, shape in shapes.items()}
    placed = {}
    for number in range(layers):
        tensors = {f"model.layers.{number}.{name}": tensor for name, tensor in own.items()}
        file = f"model-{number + 1:05}-of-{layers + 1:05}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(tensors, file)
    around = {"model.embed_tokens.weight": drawn((VOCABULARY, hidden)), "model.norm.weight": drawn((hidden,))}
    file = f"model-{layers + 1:05}-of-{layers + 1:05}.safetensors"
    save_file(around, folder / file, {"format": "pt"})
    placed |= dict.fromkeys(around, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **LAYER, "num_hidden_layers": layers,
              "vocab_size": VOCABULARY, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu",
              "tie_word_embeddings": True, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1}  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded.MODEL / name, folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    main()
