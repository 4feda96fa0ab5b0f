"""monoglot evaluate: what a checkpoint does, measured against its base and against random neurons."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..editor.prompts import COUNT
from .console import answer, bar, device_options, note, split, table

TOKENS = 24
BASE, THIS, RANDOM, REAL = "base", "this model", "random neurons", "real text"


@click.command("evaluate")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--generate", is_flag=True, help="Measure which language it answers in, and how well.")
@click.option("--same-language", is_flag=True, help="How often it answers in the prompt's own language.")
@click.option(
    "--prompts",
    "prompts_path",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help='A .jsonl of {"language": "en", "prompt": "…"}, or a folder of {lang}.txt with a prompt a line. '
    "Default: the beginnings of the embedded texts.",
)
@click.option(
    "--languages", help="Languages of the prompts, comma-separated. Default: all of the neurons that have some."
)
@click.option("--count", type=click.IntRange(1), default=COUNT, show_default=True, help="Prompts a language.")
@click.option("--tokens", type=click.IntRange(1), default=TOKENS, show_default=True, help="Tokens an answer.")
@click.option("--samples", type=click.IntRange(0), default=1, show_default=True, help="Answers a language to show.")
@click.option("--base", help="The base: a folder or a Hub id. Default: the one in the manifest.")
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    folder: Path,
    generate: bool,
    same_language: bool,
    prompts_path: Path | None,
    languages: str | None,
    count: int,
    tokens: int,
    samples: int,
    base: str | None,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Measure what OUT does: the languages it answers in, beside its base and the base with random neurons edited.

    Where a language is activated, the prompts are in the others, and what counts is an answer in that language. With
    --same-language what counts is an answer in the prompt's own. The first samples of each language are shown.

    \b
    monoglot evaluate OUT --generate
    monoglot evaluate OUT --generate --same-language --prompts prompts.jsonl
    """
    from ..editor import manifest, neurons
    from ..editor.source import resolve_base
    from ..editor.target import open_target

    if not generate:
        raise click.UsageError("Say what to measure: --generate.")
    record = manifest.read(folder)
    target = open_target(resolve_base(record["base"], base, beside=folder))
    found = neurons.load(folder / "neurons.json")
    kind, measured = generation(
        folder, record, target, found, prompts_path, split(languages), same_language=same_language, count=count,
        tokens=tokens, samples=samples, device=device, dtype=dtype,
    )  # fmt: skip
    record["evaluation"] = {**(record.get("evaluation") or {}), kind: measured}
    save(folder, record, found, target)
    if as_json:
        answer(record["evaluation"])
    else:
        show(measured)


def save(folder: Path, record: dict[str, Any], found: Any, target: Any) -> None:
    """Write the manifest, and the card anew unless a person has edited it."""
    from ..editor import manifest
    from .bake import card_writer

    card = folder / "README.md"
    if card.is_file() and manifest.entry(card.read_bytes()) == record["files"].get(card.name):
        text = card_writer(found.method)(record, target.source.folder)
        manifest.replace_text(folder, record, card.name, text)
    else:
        manifest.write(folder, record)


def generation(
    folder: Path,
    record: dict[str, Any],
    target: Any,
    found: Any,
    prompts_path: Path | None,
    languages: list[str],
    *,
    same_language: bool,
    count: int,
    tokens: int,
    samples: int,
    device: str,
    dtype: str,
) -> tuple[str, dict[str, Any]]:
    """--generate: "activated" or "same_language", and what was measured."""
    from ..editor.live import load_model, load_tokenizer
    from ..editor.verify import carried_in, recipe_of

    plan = carried_in(folder, target, found).plan
    activated = recipe_of(record, target).activated or tuple(
        filter(None, [(record.get("strength") or {}).get("language")])
    )
    if not activated and not same_language:
        note("No language is activated in it: measured is how often it answers in the prompt's own language.")
        same_language = True
    prompts = choose_prompts(prompts_path, languages, count, found.languages, () if same_language else activated)
    wanted = {language: (language,) if same_language else activated for language in prompts}
    base, this = (load_model(each, device=device, dtype=dtype) for each in (target.source.folder, folder))
    tokenizer = load_tokenizer(folder)
    measured = measure(base, this, tokenizer, target, plan, prompts, wanted, tokens=tokens, samples=samples)
    return "same_language" if same_language else "activated", measured


def choose_prompts(
    path: Path | None, languages: list[str], count: int, known: tuple[str, ...], activated: tuple[str, ...]
) -> dict[str, list[str]]:
    """The prompts that were asked for, those in the activated languages left out."""
    from ..editor import prompts
    from ..editor.errors import CorpusError

    if path:
        found = prompts.load(path, languages, count)
    else:
        note("Prompts: beginnings of the embedded texts. Name your own with --prompts.")
        found = prompts.embedded_prompts(languages or [code for code in known if prompts.passages(code)], count)
    found = {language: own for language, own in found.items() if language not in activated}
    if not found:
        only = f" in another language than {', '.join(activated)}" if activated else ""
        raise CorpusError(
            f"there are no prompts{only}, so there is nothing to evaluate. Give some with --prompts FILE."
        )
    return found


def measure(
    base: Any,
    this: Any,
    tokenizer: Any,
    target: Any,
    plan: Any,
    prompts: dict[str, list[str]],
    wanted: dict[str, tuple[str, ...]],
    *,
    tokens: int,
    samples: int,
) -> dict[str, Any]:
    """What goes into the manifest: by the prompts' language and the model, and samples."""
    from ..editor.answers import ask
    from ..editor.families import activation_modules
    from ..editor.hooks import random_plan, steered
    from ..editor.logits import Variant
    from ..editor.prompts import passages
    from ..editor.quality import quality, rounded

    modules = activation_modules(base, target.feed_forward.family)
    control = random_plan(plan, target.feed_forward.width)
    variants = (Variant(BASE, base), Variant(THIS, this), Variant(RANDOM, base, partial(steered, modules, control)))
    known = {}
    for codes in set(wanted.values()):
        texts = [text for code in codes for text in passages(code)[:COUNT]]
        known[codes] = quality(base, tokenizer, texts, tokens=tokens)
    real = {language: known[codes] for language, codes in wanted.items()}
    perplexity = {language: one.perplexity for language, one in real.items()}
    with bar("evaluate", "answers") as update:
        found = ask(variants, base, tokenizer, prompts, wanted, perplexity, tokens=tokens, progress=update)
    return {
        "tokens": tokens,
        "prompts": {language: len(own) for language, own in prompts.items()},
        "wanted": {language: list(codes) for language, codes in wanted.items()},
        "by_language": {
            language: {
                **{name: by[language].figures() for name, by in found.items()},
                REAL: rounded(real[language]),
            }
            for language in prompts
        },
        "samples": [
            {"language": language, "prompt": prompt, **{name: by[language].texts[at] for name, by in found.items()}}
            for language, own in prompts.items()
            for at, prompt in enumerate(own[:samples])
        ],
    }


def show(measured: dict[str, Any]) -> None:
    rows = measured["by_language"]
    models = (BASE, THIS, RANDOM)
    own = all(codes == [language] for language, codes in measured["wanted"].items())
    wanted = "the prompt's language" if own else " or ".join(next(iter(measured["wanted"].values())))
    table(
        f"answers in {wanted}",
        ("prompts in", "prompts", *models),
        [(k, measured["prompts"][k], *(_share(row[m]["accuracy"]) for m in models)) for k, row in rows.items()],
    )
    for title, key, form in (
        ("perplexity, to the base, of what was written", "perplexity", _perplexity),
        ("repeated token 3-grams in it", "repetition", _share),
    ):
        table(
            title,
            ("prompts in", *models, REAL),
            [(k, *(form(row[m][key]) for m in (*models, REAL))) for k, row in rows.items()],
        )
    for sample in measured["samples"]:
        click.echo(f"{sample['language']}     {sample['prompt']} …")
        for name in models:
            click.echo(f"  {name:<14} … {' '.join(sample[name].split())}")


def _perplexity(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
