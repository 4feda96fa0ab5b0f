"""monoglot detect: a model and text in, activation statistics out."""

import os
from pathlib import Path
from typing import Any

import click

from .console import answer, bar, corpus_options, detect_options, note, split, table


@click.command("detect")
@click.argument("model", required=False)
@corpus_options
@detect_options
@click.option(
    "--merge", multiple=True, type=click.Path(path_type=Path), help="Add statistics files instead of running."
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The statistics file to write.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str | None,
    corpus: tuple[str, ...],
    languages: str | None,
    tokens: int,
    context: int,
    minimum: int,
    batch_size: int,
    device: str,
    dtype: str,
    merge: tuple[Path, ...],
    more: tuple[Path, ...],
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Record how MODEL's neurons respond to text in each language.

    MODEL is a folder, a Hub id (org/name, org/name@revision), or `embedded`. Interrupted, it goes on where it stopped when
    it is run again. Under torchrun the work is divided among the processes.

    \b
    monoglot detect google/gemma-3-270m --corpus texts/ -o stats.safetensors
    monoglot detect ./model --corpus en=en.txt --corpus zh=zh.jsonl.gz -o stats.safetensors
    monoglot detect --merge a.safetensors b.safetensors -o both.safetensors
    torchrun --nproc-per-node 4 -m monoglot.cli detect ./model --corpus texts/ -o stats.safetensors
    """
    from ..editor import statistics
    from ..editor.errors import OutputError

    if output.exists() and not force:
        raise OutputError(f"{output} exists. Choose another name, or replace it with --force.")
    if merge:
        parts = [*merge, *([Path(model)] if model else []), *more]
        result = statistics.merge([statistics.load(path) for path in parts])
    else:
        if not model or more:
            raise click.UsageError("Name one model (or use --merge with statistics files).")
        if not corpus:
            raise click.UsageError("Name the text with --corpus.")
        rank = int(os.environ.get("RANK", "0"))
        result = run(
            model, corpus, split(languages), tokens=tokens, context=context, minimum=minimum, batch_size=batch_size,
            device=device, dtype=dtype, resume_file=output.with_name(f".{output.name}.progress"),
        )  # fmt: skip
        if rank:
            return
    statistics.save(result, output)
    show(result, as_json)
    note(f"Wrote {output}.")


def run(model: str, corpus: tuple[str, ...], languages: list[str], **settings: Any) -> Any:
    """Statistics with a progress bar."""
    from ..editor.bake import open_target
    from ..editor.corpus import open_corpus
    from ..editor.detect import detect
    from ..editor.source import resolve

    target = open_target(resolve(model))
    with workers(), bar("detect", "tokens") as update:
        return detect(target, open_corpus(corpus, languages), progress=update, **settings)


class workers:  # noqa: N801
    """Joins the other processes when started by torchrun."""

    def __enter__(self) -> None:
        if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            import torch
            import torch.distributed as dist

            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    def __exit__(self, *error: object) -> None:
        if "RANK" in os.environ:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()


def show(result: Any, as_json: bool) -> None:
    if as_json:
        answer({"model": vars(result.model), "tokens": result.tokens})
        return
    table(
        f"{result.model.name}: {result.model.layers} layers × {result.model.width} neurons",
        ("language", "tokens", "mean activation probability"),
        [(k, f"{n:,}", f"{result.probability(k).mean():.3f}") for k, n in result.tokens.items()],
    )
