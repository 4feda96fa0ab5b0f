"""monoglot demo: the whole of export on the embedded model, and a look at what it did."""

import json
from pathlib import Path
from typing import Any

import click

from . import export as export_command
from .console import bar, note, table

CONTEXT = 256
TOKENS = 8192
PROMPT_WORDS = {"default": 8, "zh": 12, "ja": 14}  # words; characters in scripts without spaces


@click.command("demo")
@click.option("--deactivate", default="zh", show_default=True, metavar="LANG", help="en, zh, fr, es, vi, id or ja.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="The folder to write.",
)
def command(deactivate: str, output: Path) -> None:
    """Switch a language off in the embedded model, prove it, and show what it writes.

    The embedded model is tiny and was trained here with planted language neurons, so it shows the mechanism, not the
    quality of a real model. Everything runs offline, in under a minute on a laptop.

    \b
    monoglot demo
    monoglot demo --deactivate fr -o demo-without-french
    """
    from ..editor import embedded, manifest
    from ..editor.errors import CorpusError

    languages = sorted(path.stem for path in embedded.TEXTS.glob("*.txt"))
    if deactivate not in languages:
        raise CorpusError(f"the embedded model has no {deactivate!r}; it has {', '.join(languages)}.")
    note(f"The embedded model, 7 languages, {sum(f.stat().st_size for f in embedded.MODEL.iterdir()) / 1e6:.0f} MB.")
    passed = export_command.run(
        embedded.NAME, (embedded.NAME,), [], deactivate=(deactivate,), scale=(), shared="keep", rate=planted_rate(),
        quantile=0.95, detection={"tokens": TOKENS, "context": CONTEXT, "minimum": 1000, "batch_size": 0}, device="cpu",
        dtype="float32", verify_tokens=2048, fast=False, base_id=None, work=output.with_name(f"{output.name}.work"),
        output=output, force=(output / manifest.FILE).is_file(), as_json=False,
    )  # fmt: skip
    show(output, deactivate, "en" if deactivate != "en" else "fr")
    if not passed:
        raise SystemExit(1)


def planted_rate() -> float:
    """The share of the embedded model's neurons that were planted: what LAPE is asked to find in it."""
    from ..editor import embedded
    from ..editor.bake import open_target
    from ..editor.source import resolve

    feed_forward = open_target(resolve(embedded.NAME)).feed_forward
    planted = json.loads((embedded.MODEL / "planted.json").read_text())["languages"]
    return sum(len(layer) for layers in planted.values() for layer in layers) / (
        feed_forward.layers * feed_forward.width
    )


def show(output: Path, off: str, other: str) -> None:
    """The perplexity matrix, and one held-out text in two languages continued by base and checkpoint."""
    from ..cards.render import change
    from ..editor import embedded, neurons
    from ..editor.bake import open_target
    from ..editor.corpus import open_corpus
    from ..editor.detect import read_texts
    from ..editor.evaluate import perplexity_matrix
    from ..editor.generate import continuations
    from ..editor.live import load_model, load_tokenizer
    from ..editor.source import resolve

    target = open_target(resolve(embedded.NAME))
    base, steered = load_model(embedded.MODEL, device="cpu"), load_model(output, device="cpu")
    texts = open_corpus([embedded.NAME])
    packed = read_texts(target, texts, tokens=TOKENS, context=CONTEXT, held_out=True)
    with bar("matrix", "contexts") as update:
        matrix = perplexity_matrix(
            base, target.feed_forward, neurons.load(output / "neurons.json"), packed, progress=update
        )
    rows: list[tuple[Any, ...]] = [
        (f"{name} off", *(change(row[k]) for k in packed)) for name, row in matrix.change.items()
    ]
    rows.append(("random neurons off", *(change(matrix.random[k]) for k in packed)))
    table("change of log-loss on held-out text in", ("", *packed), rows)

    tokenizer = load_tokenizer(embedded.MODEL)
    for language in (other, off):
        prompt = beginning(next(texts[language].part(held_out=True)), language)
        click.echo(f"{language}     {prompt} …")
        for name, model in (("base", base), (output.name, steered)):
            click.echo(f"  {name:<6} … {' '.join(continuations(model, tokenizer, [prompt])[0].split())}")


def beginning(text: str, language: str) -> str:
    """The first words of a text; in scripts without spaces the first characters."""
    if language in PROMPT_WORDS:
        return text[: PROMPT_WORDS[language]]
    return " ".join(text.split()[: PROMPT_WORDS["default"]])
