"""Runs a model over text in each language and fits readers of every language to what some layers read (see `readers`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorpusError, StatisticsError
from ..live.load import hooked, load_model
from ..live.logits import batches
from ..live.modules import input_modules, trunk
from ..live.streaming import AUTO, Streaming
from ..models.activations import functions
from ..models.target import Target, check_unchanged
from ..progress import Progress
from ..text.corpus import Text
from ..text.tokens import Packed, read_texts
from .readers import Reader, fit_reader

TOKENS = 2048  # a language, that a reader is fitted to
HELD_OUT_TOKENS = 1024  # … that it is chosen and measured on, half each
CONTEXT = 256  # tokens


def record_readers(
    target: Target,
    texts: Mapping[str, Text],
    layers: Sequence[int],
    *,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    progress: Progress | None = None,
) -> dict[tuple[str, int], Reader]:
    """Fit a reader of each language at each of some layers: (language, layer) -> reader.

    Raises StatisticsError for layers that the model doesn't have, or that tell no languages apart, CorpusError for fewer
    than two languages, and for one without held-out text, ModelError when the model would have to run layer by layer.
    """
    streaming.require_whole(
        target.source.folder, "a reader that is fitted to text",
        "Make statistics with `monoglot detect --calibrate`: it runs layer by layer, and readers are fitted to what it keeps",
        device=device, dtype=dtype,
    )  # fmt: skip
    if absent := [layer for layer in layers if not 0 <= layer < target.feed_forward.layers]:
        raise StatisticsError(f"there is no layer {absent[0]}: the last one is {target.feed_forward.layers - 1}.")
    if len(texts) < 2:
        raise CorpusError("a language is told from others: give text in two languages or more.")
    seen = read_texts(target, texts, tokens=TOKENS, context=CONTEXT)
    unseen = read_texts(target, texts, tokens=HELD_OUT_TOKENS, context=CONTEXT, held_out=True)
    if few := [code for code, packed in unseen.items() if packed.tokens < 4]:
        raise CorpusError(
            f"{few[0]} has too few documents for one to be held out, and readers are measured on held-out text. Add "
            f"documents in {few[0]}."
        )
    model, family = load_model(target.source.folder, device=device, dtype=dtype), target.feed_forward.family
    modules = {layer: input_modules(model, family)[layer] for layer in layers}
    read = {
        code: [_inputs(model, modules, part[code]) for part in (seen, unseen)]
        for code in _each(sorted(texts), progress)
    }
    check_unchanged(target)
    acts = functions(target)
    return {
        (code, layer): fit_reader(
            code,
            {k: both[0][layer] for k, both in read.items()},
            {k: both[1][layer] for k, both in read.items()},
            acts[layer],
            gated=family.gated,
        )
        for layer in layers
        for code in sorted(texts)
    }


def _each(codes: Sequence[str], progress: Progress | None) -> Any:
    for number, code in enumerate(codes):
        yield code
        if progress:
            progress(code, number + 1, len(codes))


def _inputs(model: Any, modules: Mapping[int, Any], packed: Packed) -> dict[int, npt.NDArray[np.float64]]:
    """Return what each of the modules reads, by layer: float64 (n, d); the first token of each context is left out."""
    import torch

    found: dict[int, list[Any]] = {layer: [] for layer in modules}
    width = 0

    def keep(layer: int) -> Callable[[Any, Any], None]:
        def hook(module: Any, inputs: Any) -> None:
            rows = inputs[0].reshape(-1, width, inputs[0].shape[-1])[:, 1:]
            found[layer].append(rows.flatten(0, 1).double().cpu().numpy())

        return hook

    device = next(model.parameters()).device
    handles = [module.register_forward_pre_hook(keep(layer)) for layer, module in modules.items()]
    with hooked(handles), torch.inference_mode():
        for ids in batches(packed.contexts):
            width = ids.shape[1]
            trunk(model)(input_ids=ids.to(device), use_cache=False)
    made = {layer: np.concatenate(rows) for layer, rows in found.items()}
    if not all(np.isfinite(rows).all() for rows in made.values()):
        raise StatisticsError(
            "a layer reads NaN or infinity. Try `dtype` float32; if it stays, the checkpoint is broken."
        )
    return made
