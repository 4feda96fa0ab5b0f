"""Logits of checkpoints in float32 as mlx-lm computes them, on a CPU:

python mlx_logits.py '[[token, …], …]' OUT.npz FOLDER…

One array a folder, (B, T, vocabulary), in its order; an empty one where it can't be loaded, and why on stderr.
"""

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model


def main(tokens: str, out: str, *folders: str) -> None:
    mx.set_default_device(mx.cpu)
    ids = mx.array(json.loads(tokens))
    np.savez(out, *(logits(folder, ids) for folder in folders))


def logits(folder: str, ids: mx.array) -> Any:
    try:
        model, _ = load_model(Path(folder))
        model.set_dtype(mx.float32)
        return np.array(model(ids))
    except (Exception, SystemExit) as error:  # one family asks for a package and exits
        print(f"{folder}: {error!r}", file=sys.stderr)
        return np.zeros(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
