"""Runs a model over text in each language and keeps the means of its residual stream (see `residual`)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import StatisticsError
from ..live.layered import open_layered
from ..live.load import hooked, load_model
from ..live.logits import batches
from ..live.modules import layer_modules, output_modules, trunk
from ..live.streamed import through_layers
from ..live.streaming import AUTO, Streaming
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
    streaming: Streaming = AUTO,
    progress: Progress | None = None,
) -> Residual:
    """Record the means after every layer on at most TOKENS tokens of each language, in the order of their codes.

    A model that does not fit in memory runs layer by layer.
    Raises StatisticsError when the model puts out NaN, ModelError when it is not built of layers that are known.
    """
    import torch

    packed = read_texts(target, texts, tokens=TOKENS, context=CONTEXT)
    folder, family = target.source.folder, target.feed_forward.family
    layered = None
    if streaming.chosen(folder, device=device, dtype=dtype):
        layered = open_layered(folder, device=device, dtype=dtype)
    model = layered.skeleton.model if layered else load_model(folder, device=device, dtype=dtype)
    layers, outputs = layer_modules(model, family), output_modules(model, family)
    hidden, count = target.feed_forward.hidden, len(layers)
    sums, sizes = np.zeros((len(packed), count, hidden)), np.zeros(count)
    seen = np.zeros(len(packed))
    at, shape = 0, torch.Size()  # the language and the batch at hand

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
        codes = sorted(packed)
        every = [(number, ids) for number, code in enumerate(codes) for ids in batches(packed[code].contexts)]
        for number, ids in every:
            seen[number] += ids.shape[0] * (ids.shape[1] - 1)

        def begin(layer: int, number: int) -> None:
            nonlocal at, shape
            at, shape = every[number][0], every[number][1].shape
            if progress and layered:
                progress(f"layer {layer + 1} of {count}", layer * len(every) + number + 1, count * len(every))

        if layered:
            through_layers(layered, [ids for _, ids in every], streaming, begin)
        for number, (_, ids) in enumerate(every if not layered else ()):
            begin(0, number)
            trunk(model)(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
            if progress:
                progress(codes[at], at + 1, len(codes))
    check_unchanged(target)
    centres, rms = (sums / seen[:, None, None]).astype(np.float32), sizes / seen.sum()
    if not (np.isfinite(centres).all() and np.isfinite(rms).all()):
        raise StatisticsError("the model puts out NaN or infinity. Try `dtype` float32; if it stays, it is broken.")
    return Residual(centres, rms)
