"""Record statistics with a progress bar, in one process or in several, and show them."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import answer, bar, table

if TYPE_CHECKING:
    from ...editor.statistics.detection import Detection
    from ...editor.statistics.statistics import Statistics


def run_detect(
    model: str, corpus: Sequence[str], languages: Sequence[str], rank: int, output: Path, detection: "Detection"
) -> "Statistics":
    """Statistics with a progress bar, the work divided among the processes that torchrun started, if it did."""
    from ...editor.live.load import choose_device
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target
    from ...editor.statistics.detect import prepare, prepare_rest, record
    from ...editor.text.corpus import open_corpus

    asked = detection
    with first_worker_first(rank):
        choose_device(asked.device)  # one that is not here is said before text is read
        target = open_target(resolve(model))
        texts = open_corpus(corpus, languages)
        packed = prepare(target, texts, tokens=asked.tokens, context=asked.context, minimum=asked.minimum)
        held_out, counted = prepare_rest(target, texts, packed, asked)
    resume_file = output.with_name(f".{output.name}.progress")
    with bar("detect", "tokens") if rank == 0 else nullcontext() as update:
        return record(
            target, packed, context=asked.context, batch_size=asked.batch_size, device=asked.device, dtype=asked.dtype,
            quantiles=asked.quantiles, per_text=asked.per_text, held_out=held_out, counted=counted,
            streaming=asked.streaming, spread=asked.spread, resume_file=resume_file, progress=update,
        )  # fmt: skip


@contextmanager
def workers(*, cuda: bool = False) -> Iterator[int]:
    """Join the other processes when started by torchrun; gives this one's rank, 0 when it is alone.

    Where they divide the texts, all that passes between them is a verdict and one sum at the end, so gloo on the CPU does for
    every device; where they divide a model that is on GPUs (`cuda`), its parts are added up there. They may
    wait for each other as long as a download takes.
    """
    if not several():
        yield 0
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if cuda and torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(days=7))
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is written; gloo's threads now and then abort an interpreter that shuts down beside them


@contextmanager
def first_worker_first(rank: int) -> Iterator[None]:
    """Let rank 0 run the block, and the others when it succeeded there.

    So a model is downloaded once, and what is wrong with a model, a text or a destination is said once: the others then
    leave without a word (with exit code 0, or torchrun would end rank 0 before it has spoken).
    """
    if not several():
        yield
        return
    import torch.distributed as dist

    verdict = [False]
    if rank:
        dist.broadcast_object_list(verdict, src=0)
        if not verdict[0]:
            raise SystemExit(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    try:
        yield
        verdict = [True]
    finally:
        dist.broadcast_object_list(verdict, src=0)


def several() -> bool:
    """Whether torchrun started several processes."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def show_statistics(result: "Statistics", as_json: bool) -> None:
    if as_json:
        answer({"model": result.model.to_data(), "tokens": result.tokens})
        return
    table(
        f"{result.model.name}: {result.model.in_words} neurons",
        ("language", "tokens", "mean activation probability"),
        [(k, f"{n:,}", f"{result.probability(k).mean():.3f}") for k, n in result.tokens.items()],
    )
