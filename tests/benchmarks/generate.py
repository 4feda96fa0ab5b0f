"""How fast an exported checkpoint writes, beside its base and the base under hooks that do the same.

A checkpoint is baked for it: the first language of the neurons is activated and the others are deactivated, or what
--checkpoint names is taken as it is. All three write greedily after the same random prompts, always the same number of
tokens, in turns, in one process; printed are the median tokens a second of each and the medians of the ratios of the same
round. Without a model a random Llama is made.

    python tests/benchmarks/generate.py
    python tests/benchmarks/generate.py path/to/base --checkpoint path/to/OUT --device cuda --dtype bfloat16
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.calibration import Calibration, LayerError
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.manifest_base import carried_in
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.live.load import load_model
from monoglot.editor.live.logits import Variant
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons

SHARE = 0.01  # of each layer's neurons
LANGUAGES = ("fr", "en", "zh")
MIDDLE = {
    "vocab_size": 16_000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 8,
    "num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip


def make_model(folder: Path) -> Path:
    """A Llama of random weights, with about 100 million of them."""
    import transformers

    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**MIDDLE)).to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_checkpoint(target: Target, out: Path) -> Path:
    """One language activated and two switched off, each with SHARE of the neurons, by a direction that was not fitted."""
    layers, width, hidden = target.feed_forward.layers, target.feed_forward.width, target.feed_forward.hidden
    generator, count = np.random.default_rng(0), max(1, round(width * SHARE))
    drawn = [generator.choice(width, len(LANGUAGES) * count, replace=False) for _ in range(layers)]
    chosen = {
        language: tuple(np.sort(each[at * count : (at + 1) * count]) for each in drawn)
        for at, language in enumerate(LANGUAGES)
    }
    means = {language: tuple(np.full(count, 0.1) for _ in own) for language, own in chosen.items()}
    found = neurons.Neurons(chosen, {"mean": means}, None, {"name": "random"})
    first, *others = LANGUAGES
    edits = (*(Edit(language, "deactivate") for language in others), Edit(first, "add", 1.0, "mean"))
    directions = generator.normal(0, 0.02, (layers, hidden)).astype(np.float32).astype(np.float64)
    stand_in = Calibration(
        directions, np.full(layers, -1.25), np.ones(layers), (LayerError(1.0, 0.0, 0.0, "letters", 0.0, None),) * layers,
        1000, 1000, LANGUAGES, target.feed_forward.outputs[0][1].dtype, target.fingerprint,
    )  # fmt: skip
    return bake(target, found, Recipe(Base("base"), edits, carrier="calibrated"), out, calibration=stand_in).folder


def measure(folder: Path, checkpoint: Path | None, scratch: Path, options: Any) -> None:
    target = open_target(resolve(str(folder)))
    baked = checkpoint or make_checkpoint(target, scratch / "out")
    plan = carried_in(baked, target, neurons.load(baked / "neurons.json")).plan
    base, made = (load_model(each, device=options.device, dtype=options.dtype) for each in (folder, baked))
    modules = activation_modules(base, target.feed_forward.family)
    variants = {
        "checkpoint": Variant("", made),
        "base": Variant("", base),
        "base under hooks": Variant("", base, lambda: steered(modules, plan)),
    }
    device, vocabulary = next(base.parameters()).device, base.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(min(1000, vocabulary), (options.batch, options.prompt), generator=generator).to(device)

    def rate(variant: Variant, tokens: int) -> float:
        """New tokens a second, of all prompts together."""
        with variant.inside(), torch.inference_mode():
            started = time.perf_counter()
            written = variant.model.generate(
                input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=False, min_new_tokens=tokens,
                max_new_tokens=tokens, pad_token_id=0,
            )  # fmt: skip
            if device.type == "cuda":
                torch.cuda.synchronize()
        return (written.shape[1] - prompts.shape[1]) * len(prompts) / (time.perf_counter() - started)

    for variant in variants.values():
        rate(variant, 4)  # warm
    rounds = [
        {name: rate(variants[name], options.tokens) for name in (*variants,)[number % 3 :] + (*variants,)[: number % 3]}
        for number in range(options.runs)
    ]
    shape = f"{target.feed_forward.layers} × {target.feed_forward.width} neurons, {plan.size} of them edited"
    print(f"{folder.name}: {shape}")
    print(f"{options.batch} × {options.tokens} tokens on {device.type}, {options.runs} rounds")
    for name in variants:
        median = statistics.median(one[name] for one in rounds)
        ratio = statistics.median(one[name] / one["base"] for one in rounds)
        print(f"{name:20}{median:10.1f} tokens/s{ratio:8.3f} of the base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="the base, a folder; default: a random Llama")
    parser.add_argument("--checkpoint", type=Path, help="what monoglot made of it; default: one is baked")
    parser.add_argument("--batch", type=int, default=4, help="prompts at once")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens")
    parser.add_argument("--runs", type=int, default=7, help="rounds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    if options.checkpoint and not options.model:
        parser.error("name the base of --checkpoint.")
    if options.model and not options.model.is_dir():
        sys.exit(f"there is no model {options.model}: give a checkpoint folder.")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        measure(options.model or make_model(scratch / "llama"), options.checkpoint, scratch, options)


if __name__ == "__main__":
    main()
