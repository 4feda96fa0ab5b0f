"""Runs a model over text in each language and keeps the means of its residual stream (see `residual`)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import StatisticsError
from ..live.load import hooked, load_model
from ..live.logits import batches
from ..live.modules import layer_modules, output_modules, trunk
from ..models.target import Target, check_unchanged
from ..progress import Progress
from ..text.corpus import Text
from ..text.tokens import read_texts
from .residual import Residual

TOKENS = 2048  # a language
CONTEXT = 256  # tokens


def record_residual(
    target: Target,
    texts: Mapping[str, Text],
    *,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Residual:
    """Record the means after every layer on at most TOKENS tokens of each language, in the order of their codes.

    Raises StatisticsError when the model puts out NaN, ModelError when it is not built of layers that are known.
    """
    import torch

    packed = read_texts(target, texts, tokens=TOKENS, context=CONTEXT)
    model, family = load_model(target.source.folder, device=device, dtype=dtype), target.feed_forward.family
    layers, outputs = layer_modules(model, family), output_modules(model, family)
    hidden, count = target.feed_forward.hidden, len(layers)
    sums, sizes = np.zeros((len(packed), count, hidden)), np.zeros(count)
    seen = np.zeros(len(packed))
    at = 0  # the language at hand

    def add(layer: int) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            sums[at, layer] += states[:, 1:].double().sum((0, 1)).cpu().numpy()

        return hook

    def size(layer: int) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            rows = output.double().reshape(shape[0], shape[1], -1)[:, 1:]
            sizes[layer] += rows.square().mean(-1).sqrt().sum().item()

        return hook

    handles = [module.register_forward_hook(add(number)) for number, module in enumerate(layers)]
    handles += [module.register_forward_hook(size(number)) for number, module in enumerate(outputs)]
    with hooked(handles), torch.inference_mode():
        for at, code in enumerate(sorted(packed)):
            for ids in batches(packed[code].contexts):
                shape = ids.shape
                trunk(model)(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
                seen[at] += shape[0] * (shape[1] - 1)
            if progress:
                progress(code, at + 1, len(packed))
    check_unchanged(target)
    centres, rms = (sums / seen[:, None, None]).astype(np.float32), sizes / seen.sum()
    if not (np.isfinite(centres).all() and np.isfinite(rms).all()):
        raise StatisticsError("the model puts out NaN or infinity. Try `dtype` float32; if it stays, it is broken.")
    return Residual(centres, rms)
