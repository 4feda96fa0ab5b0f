"""Recording: the model runs over the text, and its neurons' activations are added up (see `statistics`).

Only the decoder's trunk runs; the logits are never computed. Recording hangs on the activation modules and costs a few
per cent of the forward pass, with per-text means hardly more; histograms and the moments of the inputs cost about a tenth
of it each on a CPU.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StatisticsError
from ..live.load import hooked
from ..live.modules import trunk
from ..live.spread import inputs_device, sums_device
from ..models.identity import Block, ModelInfo, split
from ..text.tokens import Packed
from ..version import versions
from . import histogram as histograms
from .histogram import BINS, UInt32
from .inputs import Sample
from .language_sums import TokenCounts
from .moments import Moments
from .per_text import Float32, Piece, pieces
from .residual_sums import ResidualSums
from .resume import Resume
from .sample import require_finite
from .statistics import SUM_GRID, Int64, Statistics
from .sums import MOMENTS, add_up, result, workers, zeros

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384, "mps": 4096}  # what `batch_size=0` (auto) aims at
CPU_ROWS = 64  # a block that stays in the cache, and whose counts fit in 8 bits


class Recorder:
    """Adds up what the activation modules put out, batch by batch.

    `active_count` int64 and `total` float64, both (layers, width), or (neurons,) where `blocks` are given, which are not all
    of one width, on the CPU; a batch is summed where the model is
    (in float64, on MPS, which has none, in float32). Where given, `histogram`, uint32 (layers, width, BINS), is added to,
    and of `per_text`, float32 (texts, layers, width), the rows of `texts` are written: those that lie in the batch, their
    contexts counted from its first one. `routed`, int64 (blocks,), counts the tokens that went through each expert. An
    expert's module says which tokens of the batch its rows are of (see `live.experts`). `share` is this worker's rank and the
    number of workers where these divide the neurons of each module among them: each adds to the sums of its own.
    """

    def __init__(
        self,
        modules: Sequence[Any],
        width: int,
        device: "torch.device",
        histogram: UInt32 | None = None,
        per_text: Float32 | None = None,
        *,
        blocks: Sequence[Block] = (),
        share: tuple[int, int] = (0, 1),
    ) -> None:
        import torch

        self._widths = [block.width for block in blocks]
        self._rank, self._world = share
        shape = (sum(self._widths),) if blocks else (len(modules), width)
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.modules, self.first = modules, 0  # number of the first of them, for messages
        self.routed = np.zeros(len(modules), np.int64)
        self._routed = np.zeros(len(modules), np.int64)
        self.active_count = np.zeros(shape, np.int64)
        self.total = np.zeros(shape, np.float64)
        self._count = torch.zeros(shape, dtype=torch.int64, device=device)
        self._sum = torch.zeros(shape, dtype=exact, device=device)
        self._block = torch.empty(CPU_ROWS, width, dtype=torch.float64)
        self._positive = np.empty((CPU_ROWS, width), np.bool_)
        self.histogram = histogram
        self._binned = torch.zeros((0,) if histogram is None else (*shape, BINS), dtype=torch.int64, device=device)
        self._patterns = torch.from_numpy(histograms.PATTERNS).to(device)
        self.per_text = per_text
        self.texts: Sequence[Piece] = ()
        self._shape = (0, 0)
        self._skip = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._hook(layer)) for layer, module in enumerate(self.modules)]
        with hooked(handles):
            yield

    def start(self, batch: int, length: int, skip: int) -> None:
        """Before a forward pass on (batch, length) tokens of which the first `skip` positions don't count."""
        self._shape, self._skip = (batch, length), skip
        self._count.zero_()
        self._sum.zero_()
        self._binned.zero_()
        self._routed[:] = 0

    def commit(self) -> None:
        """After it: add the batch, its sums rounded to the grid.

        Raises StatisticsError when an activation was NaN or infinite: NaN > 0 is false, so it would pass for inactive.
        """
        total = self._sum.cpu().numpy().astype(np.float64)
        if not np.isfinite(total).all():
            broken = [int((~np.isfinite(each)).sum()) for each in split(total, self._widths)]
            layer = next(number for number, count in enumerate(broken) if count)
            raise StatisticsError(
                f"layer {self.first + layer} puts out NaN or infinity ({broken[layer]:,} of its neurons). "
                "Try `dtype` float32; if it stays, the checkpoint is broken."
            )
        self.routed += self._routed
        self.active_count += self._count.cpu().numpy()
        self.total += np.round(total * SUM_GRID) / SUM_GRID
        if self.histogram is not None:
            self.histogram += self._binned.cpu().numpy().astype(np.uint32).reshape(self.histogram.shape)

    def _hook(self, layer: int) -> Callable[[Any, Any, "torch.Tensor"], None]:
        import torch

        count, total = (split(sums, self._widths)[layer] for sums in (self._count, self._sum))
        binned = split(self._binned, self._widths)[layer].flatten() if self.histogram is not None else None
        means = None if self.per_text is None else [split(row, self._widths)[layer] for row in self.per_text]

        def record(module: Any, inputs: Any, output: "torch.Tensor") -> None:
            if self._world > 1:
                part = self._part(layer, output.shape[-1], count.shape[0])
                if part is None:
                    return
                add(module, output, count[part], total[part], part)
            else:
                add(module, output, count, total, slice(None))

        def add(module: Any, output: "torch.Tensor", count: "torch.Tensor", total: "torch.Tensor", part: slice) -> None:
            length, tokens = self._shape[1], getattr(module, "tokens", None)
            if tokens is None:
                contexts = output.detach().reshape(*self._shape, output.shape[-1])[
                    :, self._skip :
                ]  # (batch, counted, F)
            else:
                tokens = tokens[tokens % length >= self._skip]
                contexts = output.detach()[module.tokens % length >= self._skip][None]  # (1, routed and counted, F)
                self._routed[layer] += len(tokens)
            if contexts.device.type == "cpu":
                for context in contexts:
                    self._record_blocks(context, count, total)
            else:
                count.add_((contexts > 0).sum((0, 1)).to(count.device))
                total.add_(contexts.sum((0, 1), dtype=total.dtype).to(total.device))
            if binned is not None:
                own = binned.view(-1, BINS)[part].flatten()  # a view: neurons next to one another
                histograms.count(contexts.reshape(-1, contexts.shape[-1]), self._patterns, own)
            for text in self.texts if means is not None else ():  # written, not added: a pass may be run again
                if tokens is None:
                    mean = contexts[text.context, text.begin : text.end].mean(0, dtype=torch.float32)
                else:  # over all tokens of the text: those that went elsewhere count as 0
                    place = tokens % length - self._skip
                    there = (tokens // length == text.context) & (place >= text.begin) & (place < text.end)
                    mean = contexts[0][there].sum(0, dtype=torch.float32) / (text.end - text.begin)
                means[text.number][part] = mean.cpu().numpy()  # type: ignore[index]

        return record

    def _part(self, layer: int, own: int, width: int) -> slice | None:
        """Return which of a module's neurons this worker has; None where all have all, and the first one adds them."""
        if own == width:
            return None if self._rank else slice(0, width)
        if own * self._world != width:
            raise StatisticsError(
                f"the {width:,} neurons of layer {layer} are not divided evenly among {self._world} workers. Use another "
                "number of them."
            )
        return slice(self._rank * own, (self._rank + 1) * own)

    def _record_blocks(self, activation: "torch.Tensor", count: "torch.Tensor", total: "torch.Tensor") -> None:
        """Record in blocks that stay in the cache, counted in numpy: several times as fast on a CPU."""
        import torch

        width = activation.shape[1]
        block, positive = self._block[:, :width], self._positive[:, :width]
        values = block.numpy()
        counts, sums = count.numpy(), total.numpy()
        for rows in torch.split(activation, CPU_ROWS):
            n = len(rows)
            block[:n].copy_(rows)
            np.greater(values[:n], 0, out=positive[:n])
            counts += np.add.reduce(positive[:n].view(np.uint8), axis=0, dtype=np.uint8)
            sums += np.add.reduce(values[:n], axis=0)


Recording = Recorder | Moments | ResidualSums
Progress = Callable[[str, int, int], None]  # language, tokens done of all languages, tokens in all


def collect(
    model: Any,
    modules: Sequence[Any],
    info: ModelInfo,
    texts: Mapping[str, Packed],
    *,
    batch_size: int = 0,
    settings: Mapping[str, Any] | None = None,
    quantiles: bool = False,
    per_text: bool = False,
    readers: Sequence[Any] = (),
    sample: Sample | None = None,
    counted: Mapping[str, TokenCounts] | None = None,
    layers: Sequence[Any] = (),
    outputs: Mapping[int, Any] | None = None,
    divided: bool = False,
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Run the trunk of `model` over every context of every language and record its neurons.

    `modules` are `families.activation_modules(model, …)`. `quantiles` asks for histograms, `per_text` for the means over
    single texts. With a `sample` (see `sample.take_sample`) the moments of what goes into `readers`,
    `families.input_modules(model, …)`, are recorded too; with what is `counted` of the texts, the residual stream after
    `layers` and the size of what `outputs` put out (see `language_sums`). `batch_size` contexts go through at a time; 0
    chooses one, and halves it when a GPU runs out of memory. With `resume_file`, progress is saved there every 20 s and
    taken up from there; the file is removed at the end. Under torch.distributed each worker takes every N-th batch and all
    return the same sum. With `divided` the workers have divided the model, not the texts: all run every batch, each with
    its part of the neurons, and nothing is kept for an interrupted run. Settings that change the result (dtype, context)
    belong into `settings`: a resume file of others is ignored.

    Raises StatisticsError when an activation is NaN or infinite, and when even the smallest batch doesn't fit.
    """
    import torch

    device = sums_device(model)
    decoder = trunk(model)
    rank, world = workers()
    share = (rank, world) if divided else (0, 1)
    if divided:
        resume_file = None  # workers would have to go on at the same place
    batch_tokens = BATCH_TOKENS.get(inputs_device(model).type, 2048)
    key = {"model": info.to_data(), "texts": {name: packed.sha256 for name, packed in texts.items()}, "world": world,
           "settings": dict(settings or {}), "batch": [batch_size, batch_tokens],
           "device": device.type, "versions": versions()}  # fmt: skip
    if resume_file and world > 1:
        resume_file = resume_file.with_name(f"{resume_file.name}-{rank}")
    chosen = {name: pieces(packed) if per_text else [] for name, packed in texts.items()}
    hidden = sample.x[0].shape[1] if sample is not None else None
    stream = (len(layers), _width(model), bool(outputs)) if counted else None
    sums = zeros(
        info, texts, quantiles=quantiles, pieces=chosen if per_text else None, hidden=hidden, residual=stream
    )  # fmt: skip
    state = Resume(resume_file, key, texts, sums, batch_tokens)
    whole = sum(packed.tokens for packed in texts.values())
    done = sum(
        len(context) - packed.skip for name, packed in texts.items() for context in packed.contexts[: state.done[name]]
    )
    for name, packed in texts.items():
        recorder = Recorder(
            modules,
            info.width,
            device,
            sums.get(f"{name}.histogram"),
            sums.get(f"{name}.per_text"),
            blocks=info.blocks,
            share=share,
        )
        recorder.active_count, recorder.total = sums[f"{name}.active_count"], sums[f"{name}.total"]  # added to in place
        recorder.routed = sums.get(f"{name}.routed", recorder.routed)
        recorders: list[Recording] = [recorder]
        if sample is not None and share[0] == 0:
            second, first, begin = (sums[f"inputs.{kind}"] for kind in MOMENTS)
            recorders.append(Moments(readers, second, first, begin, sums.get(f"{name}.read")))
        if counted and share[0] == 0:
            stream_sums = sums[f"{name}.residual"], sums.get(f"{name}.output_size")
            recorders.append(ResidualSums(dict(enumerate(layers)), outputs or {}, *stream_sums))
        longest = len(packed.contexts[0]) if packed.contexts else 1
        with ExitStack() as attached:
            for one in recorders:
                attached.enter_context(one.attached())
            attached.enter_context(torch.inference_mode())
            while state.done[name] < len(packed.contexts):
                at, size = state.done[name], batch_size or max(1, state.batch_tokens // longest)
                batch = batch_at(packed.contexts, at, size)
                if divided or (at // size) % world == rank:
                    recorder.texts = inside(chosen[name], at, len(batch))
                    try:
                        _forward(decoder, torch.from_numpy(batch).to(inputs_device(model)), recorders, packed.skip)
                    except torch.cuda.OutOfMemoryError:
                        if size == 1 or batch_size or world > 1:  # workers must agree on the batches
                            raise StatisticsError(
                                f"out of memory on {device} with {len(batch)} contexts of {longest} tokens at once. "
                                "Try a smaller `batch_size` or `context`."
                            ) from None
                        torch.cuda.empty_cache()
                        state.batch_tokens = size // 2 * longest
                        continue
                    except KeyboardInterrupt:  # nearly all the time is spent here, and here the sums are whole
                        state.save()
                        raise
                    for one in recorders:
                        one.commit()
                state.done[name] = at + len(batch)
                done += batch.size - packed.skip * len(batch)
                if progress:
                    progress(name, done, whole)
                if state.due():
                    state.save()
    for x in sample.x if sample is not None else ():
        require_finite(x)
    if world > 1:
        add_up(sums)
    state.remove()
    return result(info, texts, sums, settings, sample, counted)


def _width(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


def batch_at(contexts: Sequence[Int64], at: int, size: int) -> Int64:
    """Up to `size` contexts from `at` on, all of one length (only the last context can be shorter)."""
    group = contexts[at : at + size]
    if len(group[-1]) != len(group[0]):
        group = group[:-1]
    return np.stack(group)  # (batch, length)


def inside(texts: Sequence[Piece], at: int, size: int) -> list[Piece]:
    """Return the texts in `size` contexts from `at` on, their contexts counted from there."""
    return [replace(text, context=text.context - at) for text in texts if at <= text.context < at + size]


def _forward(decoder: Any, ids: "torch.Tensor", recorders: "Sequence[Recording]", skip: int) -> None:
    for recorder in recorders:
        recorder.start(ids.shape[0], ids.shape[1], skip)
    decoder(input_ids=ids, use_cache=False)
