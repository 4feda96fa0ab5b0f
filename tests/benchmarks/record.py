"""What recording activation statistics costs: a forward pass of the trunk with the recorder attached, against a bare one.

Both run on the same batches, in turns, in one process; printed are the median seconds of each and the median of the
ratios. Random tokens: neither pass depends on what they say.

    python tests/benchmarks/record.py
    python tests/benchmarks/record.py path/to/checkpoint --device cuda --dtype bfloat16
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monoglot.editor import embedded
from monoglot.editor.families import activation_modules, trunk
from monoglot.editor.live import load_model
from monoglot.editor.record import BATCH_TOKENS, Recorder
from monoglot.editor.source import resolve
from monoglot.editor.target import open_target


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
    feed_forward = open_target(resolve(str(options.model))).feed_forward
    model = load_model(options.model, device=options.device, dtype=options.dtype)
    device = next(model.parameters()).device
    decoder = trunk(model)
    batch = max(1, BATCH_TOKENS.get(device.type, 2048) // options.context)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(vocabulary, (batch, options.context), generator=torch.Generator().manual_seed(0)).to(device)
    recorder = Recorder(activation_modules(model, feed_forward.family), feed_forward.width, device)

    def bare() -> None:
        decoder(input_ids=ids, use_cache=False)

    def recorded() -> None:
        with recorder.attached():
            recorder.start(batch, options.context, 1)
            decoder(input_ids=ids, use_cache=False)
        recorder.commit()

    def seconds(forward: Callable[[], None]) -> float:
        started = time.perf_counter()
        forward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    with torch.inference_mode():
        bare()
        recorded()
        pairs = [(seconds(bare), seconds(recorded)) for _ in range(options.runs)]
    without, attached = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    shape = f"{feed_forward.layers} × {feed_forward.width} neurons"
    print(f"{options.model.name}: {shape}, {batch} × {options.context} tokens on {device.type}, {options.runs} pairs")
    print(f"forward pass of the trunk {without:.3f} s, with recording {attached:.3f} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
