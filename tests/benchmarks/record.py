"""What recording statistics costs: a forward pass of the trunk with the recorder attached, against a bare one, with
per-text means, against one without, and with all that one pass of `detect` records for later steps, against the bare one.
And how long `--dry-run` says that this last pass takes, against how long it takes.

All run on the same batches, in turns, in one process; printed are the median seconds of each and the medians of the
ratios. Random tokens: no pass depends on what they say.

    python tests/benchmarks/record.py
    python tests/benchmarks/record.py path/to/checkpoint --device cuda --dtype bfloat16
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monoglot.editor import embedded
from monoglot.editor.forecast.costs import costs_of
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, input_modules, layer_modules, trunk
from monoglot.editor.live.speed import Speed, measure_speed
from monoglot.editor.models.feed_forward import FeedForward
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics.moments import Moments
from monoglot.editor.statistics.per_text import pieces
from monoglot.editor.statistics.recorder import BATCH_TOKENS, Recorder, Recording
from monoglot.editor.statistics.residual_sums import ResidualSums, outputs_by_layer
from monoglot.editor.text.tokens import Packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=embedded.MODEL, help="default: the embedded model")
    parser.add_argument("--context", type=int, default=512, help="tokens")
    parser.add_argument("--runs", type=int, default=11, help="pairs of passes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    if not options.model.is_dir():
        sys.exit(f"there is no model {options.model}: give a checkpoint folder.")
    target = open_target(resolve(str(options.model)))
    feed_forward = target.feed_forward
    model = load_model(options.model, device=options.device, dtype=options.dtype)
    device = next(model.parameters()).device
    decoder = trunk(model)
    batch = max(1, BATCH_TOKENS.get(device.type, 2048) // options.context)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(vocabulary, (batch, options.context), generator=torch.Generator().manual_seed(0)).to(device)
    modules = activation_modules(model, feed_forward.family)
    plain = Recorder(modules, feed_forward.width, device)
    contexts = tuple(np.zeros(options.context, np.int64) for _ in range(batch))
    texts = pieces(Packed("", contexts, 1, batch * (options.context - 1), ""))
    rows = np.zeros((len(texts), feed_forward.layers, feed_forward.width), np.float32)
    per_text = Recorder(modules, feed_forward.width, device, per_text=rows)
    per_text.texts = texts
    every = [plain, *rest(model, feed_forward)]

    def bare() -> None:
        decoder(input_ids=ids, use_cache=False)

    def recorded(*recorders: Recording) -> None:
        with ExitStack() as attached:
            for recorder in recorders:
                attached.enter_context(recorder.attached())
                recorder.start(batch, options.context, 1)
            decoder(input_ids=ids, use_cache=False)
        for recorder in recorders:
            recorder.commit()

    def seconds(forward: Callable[[], None]) -> float:
        started = time.perf_counter()
        forward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")

    def measured() -> Speed:
        return measure_speed(feed_forward.hidden, feed_forward.width, device=device.type, dtype=dtype)

    costs = costs_of(target, dtype, measured())

    def forecast() -> float:
        return replace(costs, speed=measured()).passes(batch * options.context, options.context, logits=False)

    passes = (bare, partial(recorded, plain), partial(recorded, per_text), partial(recorded, *every))
    with torch.inference_mode():
        for one in passes:
            one()
        turns = [(*map(seconds, passes), forecast()) for _ in range(options.runs)]
    without, attached, with_texts, all_of_it, _ = (statistics.median(column) for column in zip(*turns, strict=True))
    pairs = ((0, 1), (1, 2), (0, 3), (1, 3), (4, 3))
    ratio, ratio_of_texts, ratio_of_all, to_lean, to_forecast = (
        statistics.median(turn[b] / turn[a] for turn in turns) for a, b in pairs
    )
    shape = f"{feed_forward.layers} × {feed_forward.width} neurons"
    print(f"{options.model.name}: {shape}, {batch} × {options.context} tokens on {device.type}, {options.runs} turns")
    print(f"forward pass of the trunk {without:.3f} s, with recording {attached:.3f} s, ratio {ratio:.3f}")
    print(
        f"with {len(texts)} per-text means too {with_texts:.3f} s, ratio to recording without them {ratio_of_texts:.3f}"
    )
    print(f"all of it {all_of_it:.3f} s, ratio to the bare pass {ratio_of_all:.3f}, to --lean {to_lean:.3f}")
    print(f"ratio to what --dry-run says of it {to_forecast:.2f}")


def rest(model: Any, feed_forward: FeedForward) -> list[Recording]:
    """Return what records, besides activations, what later steps need: inputs, and the residual stream."""
    readers, layers = input_modules(model, feed_forward.family), layer_modules(model, feed_forward.family)
    hidden, outputs = feed_forward.hidden, outputs_by_layer(model, feed_forward.family, feed_forward.layers)
    count = len(readers)
    return [
        Moments(readers, np.zeros((count, hidden, hidden)), *(np.zeros((count, hidden)) for _ in range(3))),
        ResidualSums(dict(enumerate(layers)), outputs, np.zeros((len(layers) + 1, hidden)), np.zeros(len(layers))),
    ]


if __name__ == "__main__":
    main()
