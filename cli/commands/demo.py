"""monoglot demo: runs export on the embedded model, and shows what changed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import bar, note, table
from ..steps.export import run_export
from ..terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...editor.edits.request import Request

CONTEXT = 256
ANSWER_TOKENS = 24
TOKENS = 8192


@click.command("demo")
@click.option("--deactivate", default="zh", show_default=True, metavar="LANG", help="en, zh, fr, es, vi, id or ja.")
@click.option("--activate", default="fr", show_default=True, metavar="LANG", help="Another one of these.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="The folder to write; the model that answers in a language goes into OUTPUT-LANG, the one that reads a language as "
    "another into OUTPUT-LANG-as-LANG.",
)
def command(deactivate: str, activate: str, output: Path) -> None:
    """Switch a language off in the embedded model, make it answer in one, and redirect the first to the other.

    All three are proved, and what they write is shown.

    The embedded model is tiny and was trained here with planted language neurons, so it shows the mechanism, not the
    quality of a real model. Everything runs offline, in a minute or two on a laptop.

    \b
    monoglot demo
    monoglot demo --deactivate fr --activate ja -o demo-without-french
    """
    from ...editor import embedded
    from ...editor.edits.request import AUTO, Request
    from ...editor.errors import CorpusError

    languages = sorted(path.stem for path in embedded.TEXTS.glob("*.txt"))
    for language in (deactivate, activate):
        if language not in languages:
            raise CorpusError(f"the embedded model has no {language!r}; it has {', '.join(languages)}.")
    note(f"The embedded model, 7 languages, {sum(f.stat().st_size for f in embedded.MODEL.iterdir()) / 1e6:.0f} MB.")
    work = output.with_name(f"{output.name}.work")
    passed = export(output, work, Request(deactivate=(deactivate,)))
    show(output, deactivate, "en" if deactivate != "en" else "fr")
    speaking = output.with_name(f"{output.name}-{activate}")
    others = tuple(language for language in languages if language != activate)
    pinned = Request(activate=(activate,), deactivate=others, op="pin", strength=AUTO, layers="all", carrier="flag")
    passed &= export(speaking, work, pinned)
    to = activate if activate != deactivate else "en" if activate != "en" else "fr"
    redirected = output.with_name(f"{output.name}-{deactivate}-as-{to}")
    passed &= export(redirected, work, Request(redirect=((deactivate, to),)))
    show_answers(speaking, activate)
    show_answers(redirected, to, [deactivate])
    if not passed:
        raise SystemExit(1)


def export(output: Path, work: Path, request: "Request") -> bool:
    from ...editor import embedded
    from ...editor.files.kinds import FILE
    from ...editor.statistics.detection import Detection

    return run_export(
        embedded.NAME, [embedded.NAME], request, output, rate=planted_rate(),
        detection=Detection(TOKENS, CONTEXT, minimum=1000, device="cpu", dtype="float32"), verify_tokens=2048, work=work,
        force=(output / FILE).is_file(),
    )  # fmt: skip


def planted_rate() -> float:
    """Return the share of the embedded model's neurons that were planted: what LAPE is asked to find in it."""
    from ...editor import embedded
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target

    feed_forward = open_target(resolve(embedded.NAME)).feed_forward
    planted = json.loads((embedded.MODEL / "planted.json").read_text())["languages"]
    return sum(len(layer) for layers in planted.values() for layer in layers) / (
        feed_forward.layers * feed_forward.width
    )


def show(output: Path, off: str, other: str) -> None:
    """Show the perplexity matrix, and one held-out text in two languages continued by base and checkpoint."""
    from ...cards.words.amounts import change
    from ...editor import embedded
    from ...editor.live.generate import continuations
    from ...editor.live.load import load_model
    from ...editor.measures.matrix import perplexity_matrices
    from ...editor.models.hf import load_tokenizer
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target
    from ...editor.neurons import neurons
    from ...editor.text.corpus import open_corpus
    from ...editor.text.prompts import beginning
    from ...editor.text.tokens import read_texts

    target = open_target(resolve(embedded.NAME))
    base, steered = load_model(embedded.MODEL, device="cpu"), load_model(output, device="cpu")
    texts = open_corpus([embedded.NAME])
    packed = read_texts(target, texts, tokens=TOKENS, context=CONTEXT, held_out=True)
    with bar("matrix", "contexts") as update:
        found = {"lape": neurons.load(output / "neurons.json")}
        matrix = perplexity_matrices(base, target.feed_forward, found, packed, progress=update)["lape"]
    rows: list[tuple[Any, ...]] = [
        (f"{name} off", *(change(row[k]) for k in packed)) for name, row in matrix.change.items()
    ]
    rows.append(("random neurons off", *(change(matrix.random[k]) for k in packed)))
    table("change of log-loss on held-out text in", ("", *packed), rows)

    tokenizer = load_tokenizer(embedded.MODEL)
    for language in (other, off):
        prompt = beginning(next(texts[language].part(held_out=True)), language)
        say(f"{language}     {prompt} …")
        for name, model in (("base", base), (output.name, steered)):
            say(
                f"  {name:<{max(4, len(output.name))}} … {' '.join(continuations(model, tokenizer, [prompt])[0].split())}"
            )


def show_answers(output: Path, language: str, codes: "Sequence[str]" = ()) -> None:
    """How often base and checkpoint answer prompts in the other languages in this one, and first answers.

    `codes` are the languages of the prompts that answers are shown of, by default the first two.
    """
    from ...editor import embedded
    from ...editor.live.generate import continuations
    from ...editor.live.load import load_model
    from ...editor.models.hf import load_tokenizer
    from ...editor.text.identify import share
    from ...editor.text.prompts import embedded_prompts

    tokenizer = load_tokenizer(embedded.MODEL)
    prompts = {code: own for code, own in embedded_prompts().items() if code != language}
    asked = [prompt for own in prompts.values() for prompt in own]
    written = {}
    for name, folder in (("base", embedded.MODEL), (output.name, output)):
        model = load_model(folder, device="cpu")
        with bar("answers", "answers") as update:
            written[name] = continuations(model, tokenizer, asked, tokens=ANSWER_TOKENS, progress=update)
    rows: list[tuple[Any, ...]] = []
    for name, answers in written.items():
        left = iter(answers)
        by_language = {code: [next(left) for _ in own] for code, own in prompts.items()}
        rows.append((name, *(f"{share(own, language):.0%}" for own in by_language.values())))
    table(f"answers in {language}, to prompts in", ("", *prompts), rows)
    for code in codes or list(prompts)[:2]:
        at = asked.index(prompts[code][0])
        say(f"{code}     {asked[at]} …")
        for name, answers in written.items():
            say(f"  {name:<{max(map(len, written))}} … {' '.join(answers[at].split())}")
