"""Logits of checkpoints in float32 as another interpreter's transformers computes them:

python transformers_logits.py '[[token, …], …]' OUT.npz FOLDER…

One array a folder, (B, T, vocabulary), in its order; an empty one where it can't be loaded, and why on stderr.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers


def main(tokens: str, out: str, *folders: str) -> None:
    torch.set_num_threads(1)
    ids = torch.tensor(json.loads(tokens))
    np.savez(out, *(logits(folder, ids) for folder in folders))


def logits(folder: str, ids: torch.Tensor) -> Any:
    wrapper = "vision_config" in json.loads((Path(folder) / "config.json").read_text())
    auto = transformers.AutoModelForImageTextToText if wrapper else transformers.AutoModelForCausalLM
    try:
        model = auto.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.inference_mode():
            return model(input_ids=ids, use_cache=False).logits.numpy()
    except Exception as error:
        print(f"{folder}: {error!r}", file=sys.stderr)
        return np.zeros(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
