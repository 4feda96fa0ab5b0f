"""Record statistics with a progress bar, reuse those that still fit, and show them."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..console import answer, bar, note, table


def check_output(output: Path, force: bool) -> None:
    """Raise OutputError now for what would otherwise go wrong when the work is done."""
    from ...editor.errors import OutputError

    if output.is_dir():
        raise OutputError(f"{output} is a folder. Name a file in it.")
    if output.exists() and not force:
        raise OutputError(f"{output} exists. Choose another name, or replace it with --force.")
    folder = output.absolute().parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(f"nothing can be written in {existing}. Choose another place.")


def run_detect(
    model: str,
    corpus: tuple[str, ...],
    languages: list[str],
    rank: int,
    output: Path,
    *,
    tokens: int,
    context: int,
    minimum: int,
    calibrate: bool,
    **settings: Any,
) -> Any:
    """Statistics with a progress bar, the work divided among the processes that torchrun started, if it did."""
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target
    from ...editor.statistics.detect import prepare, prepare_held_out, record
    from ...editor.text.corpus import open_corpus

    with first_worker_first(rank):
        target = open_target(resolve(model))
        texts = open_corpus(corpus, languages)
        packed = prepare(target, texts, tokens=tokens, context=context, minimum=minimum)
        settings["held_out"] = prepare_held_out(target, texts, context=context) if calibrate else None
    resume_file = output.with_name(f".{output.name}.progress")
    with bar("detect", "tokens") if rank == 0 else nullcontext() as update:
        return record(target, packed, context=context, resume_file=resume_file, progress=update, **settings)


def with_bar(target: Any, texts: Any, **settings: Any) -> Any:
    """`detect` with a progress bar."""
    from ...editor.statistics.detect import detect

    with bar("detect", "tokens") as update:
        return detect(target, texts, progress=update, **settings)


def reused(target: Any, texts: Any, path: Path, **settings: Any) -> tuple[Any, bool]:
    """The statistics in `path` if they were made of the same model, texts and settings, else new ones, kept there; and
    whether they are new."""
    from ...editor.errors import StatisticsError
    from ...editor.statistics import statistics

    before = None
    if path.is_file():
        try:
            before = statistics.load(path)
        except StatisticsError as error:
            note(f"Making the statistics anew: {error}")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = with_bar(target, texts, reuse=before, resume_file=path.with_name(f".{path.name}.progress"), **settings)
    if found is before:
        note(f"The statistics in {path} still fit.")
        return found, False
    statistics.save(found, path)
    return found, True


@contextmanager
def workers() -> Iterator[int]:
    """Joins the other processes when started by torchrun; gives this one's rank, 0 when it is alone.

    All that passes between them is a verdict and one sum at the end, so gloo on the CPU does for every device. They may
    wait for each other as long as a download takes.
    """
    if not _several():
        yield 0
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is written; gloo's threads now and then abort an interpreter that shuts down beside them


@contextmanager
def first_worker_first(rank: int) -> Iterator[None]:
    """The block is run by rank 0, and by the others when it succeeded there.

    So a model is downloaded once, and what is wrong with a model, a text or a destination is said once: the others then
    leave without a word (with exit code 0, or torchrun would end rank 0 before it has spoken).
    """
    if not _several():
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


def _several() -> bool:
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def show_statistics(result: Any, as_json: bool) -> None:
    if as_json:
        answer({"model": vars(result.model), "tokens": result.tokens})
        return
    table(
        f"{result.model.name}: {result.model.layers} layers × {result.model.width} neurons",
        ("language", "tokens", "mean activation probability"),
        [(k, f"{n:,}", f"{result.probability(k).mean():.3f}") for k, n in result.tokens.items()],
    )
