"""What log-loss costs where the vocabulary is wide: against logits of whole contexts, in time and in peak memory.

    python tests/benchmarks/perplexity.py [CHECKPOINT]

Without a checkpoint, a random Llama with 262,144 tokens in its vocabulary, as Gemma has. Each way runs in a process of its
own, for the peak is that of a process. Linux only.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

CONTEXTS, LENGTH, ROUNDS = 8, 512, 3


def made(folder: Path) -> Path:
    """A random model: the output layer is most of it."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def whole(model: Any, contexts: list[Any]) -> float:
    """As transformers would be asked: all logits of a context at once."""
    nats = 0.0
    for context in contexts:
        with torch.inference_mode():
            found = model(input_ids=torch.from_numpy(context)[None], use_cache=False).logits[0, :-1].float()
        nats += torch.nn.functional.cross_entropy(found, torch.from_numpy(context[1:]), reduction="sum").item()
    return nats


def pieces(model: Any, contexts: list[Any]) -> float:
    from monoglot.editor.live.logits import Variant, batches, hidden_states, token_losses

    found = [
        token_losses(model, hidden_states(Variant("", model), ids), ids[:, 1:].flatten()) for ids in batches(contexts)
    ]
    return sum(one.sum().item() for one in found)


def run(way: str, folder: Path) -> None:
    """In the child: nats, seconds of each round, and MB above what the loaded model takes."""
    from monoglot.editor.live.load import load_model

    model = load_model(folder, device="cpu")
    generator = np.random.default_rng(0)
    contexts = [generator.integers(3, model.config.vocab_size, LENGTH) for _ in range(CONTEXTS)]
    pieces(model, [contexts[0][:8]])  # what only the first call does
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: loading has one of its own
    seconds, nats = [], 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        nats = {"whole": whole, "pieces": pieces}[way](model, contexts)
        seconds.append(time.perf_counter() - started)
    peak = memory("VmHWM")
    print(json.dumps({"nats": nats, "seconds": seconds, "mb": peak - before, "all_mb": peak}))


def memory(kind: str) -> float:
    """MB of this process, as Linux counts them: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


def main() -> None:
    if len(sys.argv) == 3:
        run(sys.argv[1], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) == 2 else made(Path(scratch) / "model")
        found = {}
        for way in ("whole", "pieces"):
            command = [sys.executable, __file__, way, str(folder)]
            found[way] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    time_ratio, memory_ratio = (
        statistics.median(found["pieces"]["seconds"]) / statistics.median(found["whole"]["seconds"]),
        found["pieces"]["mb"] / found["whole"]["mb"],
    )
    difference = abs(found["pieces"]["nats"] / found["whole"]["nats"] - 1)
    print(f"{CONTEXTS} contexts of {LENGTH} tokens, the same log-loss to {difference:.0e}")
    for way, one in found.items():
        rate = CONTEXTS * LENGTH / statistics.median(one["seconds"])
        print(
            f"  {way:<7} {rate:6,.0f} tokens/s, {one['mb']:6,.0f} MB above the model, {one['all_mb']:6,.0f} MB in all"
        )
    print(f"in pieces / whole: time {time_ratio:.2f}, memory above the model {memory_ratio:.2f}")


if __name__ == "__main__":
    main()
