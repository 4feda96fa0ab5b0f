"""monoglot evaluate: what neurons do in a model, and what a checkpoint does, beside its base and random neurons."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...editor.measures.options import CORPUS, EFFECT, GENERATE, LEAKS, OF_NEURONS, Options
from ..console import answer, listener, note
from ..numbers import FloatRange
from ..options import device_options, given, several, split, stream_options
from ..steps.evaluate import show_findings
from ..terminal import quoted

if TYPE_CHECKING:
    from ...editor.live.streaming import Streaming

ANSWERS = ("generate", "deactivate_each")
WHOLE = {"similarity", "deactivate_each"}  # measures that run the whole model
OF_ENGINES = ("temperature", "seed", "base_here")
OF_SERVERS = ("base_engine", "served", "base_served", "engine_key_env", "engine_dtype")
OF_VLLM = ("tensor_parallel_size", "python")
VLLM = "vllm"
WRITTEN = (*ANSWERS, "leaks")
OF_TEXT = ("perplexity", "effect")
USED_BY = {  # the measures that an option has something to say to
    "corpus": OF_TEXT, "text_tokens": OF_TEXT, "context": OF_TEXT, "aligned": ("similarity",),
    "shared": ("perplexity", "deactivate_each"), "prompts": WRITTEN, "chat": WRITTEN, "count": WRITTEN,
    "tokens": WRITTEN, "samples": WRITTEN, "judge": ANSWERS, "answer_in": ("generate",), "same_language": ("generate",),
    "answers": ("leaks",), "engine": ("generate",), "system": ANSWERS, "lid": ANSWERS,
}  # fmt: skip


# The options about who writes the answers, where that is not transformers.
engine_options = several(
    click.option(
        "--engine",
        metavar="vllm|URL",
        help="With --generate: who writes the answers. `vllm` is started for the base and for the checkpoint; a "
        "URL is that of an OpenAI-compatible server where they are served. Without it transformers writes them.",
    ),
    click.option("--served", metavar="NAME", help="The checkpoint's name at the URL. Default: the only one there."),
    click.option("--base-served", metavar="NAME", help="The base's name there. Default: the only one there."),
    click.option("--base-engine", metavar="URL", help="Where the base is served, if not at the same URL."),
    click.option(
        "--engine-key-env",
        metavar="VARIABLE",
        default=Options.engine_key_env,
        show_default=True,
        help="The environment variable that holds the servers' key, if they take one.",
    ),
    click.option("--engine-dtype", metavar="NAME", help="What the servers compute in, where they don't say it."),
    click.option(
        "--tensor-parallel-size", type=click.IntRange(1), default=1, help="With --engine vllm: on so many GPUs."
    ),
    click.option("--python", metavar="PATH", help="With --engine vllm: the interpreter that has it."),
    click.option(
        "--temperature",
        type=FloatRange(0),
        default=Options.temperature,
        show_default=True,
        help="Of an engine; 0 is greedy.",
    ),
    click.option("--seed", type=click.IntRange(0), default=Options.seed, show_default=True, help="Of an engine."),
    click.option(
        "--base-here/--no-base-here",
        default=True,
        help="Load the base here too, to see how likely each answer is. Without it loops and empty answers are seen, "
        "word salad is not.",
    ),
)


@click.command("evaluate")
@click.argument("model", metavar="OUT|MODEL")
@click.argument("neurons_path", metavar="[NEURONS]", required=False, type=click.Path(path_type=Path))
@click.option("--generate", is_flag=True, help="Of a checkpoint: which language it answers in, and how well.")
@click.option(
    "--same-language", is_flag=True, help="With --generate: how often it answers in the prompt's own language."
)
@click.option("--perplexity", is_flag=True, help="The matrix: language switched off × language of the text.")
@click.option("--profile", is_flag=True, help="Neurons per layer and language.")
@click.option("--overlap", is_flag=True, help="Neurons that languages share.")
@click.option(
    "--similarity", is_flag=True, help="How alike a text is in two languages to the model, layer by layer (SES)."
)
@click.option("--deactivate-each", is_flag=True, help="Answers with each language switched off in turn.")
@click.option(
    "--leaks",
    is_flag=True,
    help="Of a checkpoint: can it still write the script of a language that is off? Answers are drawn at temperature 1.",
)
@click.option(
    "--effect", is_flag=True, help="Of a checkpoint: the log-loss of text in each language, its own and the others'."
)
@click.option(
    "--all", "everything", is_flag=True, help="All of these but --leaks and --effect (--generate of a checkpoint only)."
)
@click.option(
    "--corpus",
    multiple=True,
    metavar="DIR|LANG=FILE|DATASET",
    help="With --perplexity, --effect and --prompts corpus: text, of which the held-out part is read. Default: the "
    "embedded texts.",
)
@click.option(
    "--text-tokens", type=click.IntRange(2), default=1024, show_default=True, help="Tokens of text a language."
)
@click.option("--context", type=click.IntRange(2), default=512, show_default=True, help="Tokens a context.")
@click.option(
    "--shared",
    type=click.Choice(["edit", "keep"]),
    default="edit",
    show_default=True,
    help="What switching a language off does to neurons that others have too: the paper takes them all.",
)
@click.option(
    "--aligned",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="With --similarity: {lang}.txt with a text a line, the same in each. Default: the embedded texts.",
)
@click.option(
    "--prompts",
    metavar="FILE|DIR|questions|corpus",
    help='A .jsonl of {"language": "en", "prompt": "…"}, a folder of {lang}.txt with a prompt a line, `questions`, the '
    "everyday questions that ship with monoglot, or `corpus`, the beginnings of held-out documents of --corpus. Default: "
    "the beginnings of the embedded texts, and questions where a search has seen such.",
)
@click.option(
    "--answer-in", metavar="LANG", help="With --generate: ask for answers in this language, in so many words."
)
@click.option("--chat", is_flag=True, help="Put the prompts into the model's chat template.")
@click.option("--system", metavar="TEXT", help="With --chat: a system prompt.")
@engine_options
@click.option(
    "--languages",
    help="Languages of prompts and texts, comma-separated. Default: all of the neurons that have some.",
)
@click.option(
    "--lid",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A fastText model (.bin, .ftz) that says which language an answer is in. Default: py3langid.",
)
@click.option("--count", type=click.IntRange(1), default=Options.count, show_default=True, help="Prompts a language.")
@click.option("--tokens", type=click.IntRange(1), default=Options.tokens, show_default=True, help="Tokens an answer.")
@click.option(
    "--samples", type=click.IntRange(0), default=Options.samples, show_default=True, help="Answers a language to show."
)
@click.option(
    "--answers",
    type=click.IntRange(1),
    default=Options.answers,
    show_default=True,
    help="With --leaks: answers in all.",
)
@click.option(
    "--judge", metavar="URL", help="Have a model mark the answers from 1 to 5: the address of an OpenAI-compatible API."
)
@click.option("--judge-model", metavar="NAME", help="The judge's name there.")
@click.option(
    "--judge-key-env",
    metavar="VARIABLE",
    default=Options.judge_key_env,
    show_default=True,
    help="The environment variable that holds the judge's key, if it takes one.",
)
@click.option("--judge-dry-run", is_flag=True, help="Say what the judge would be asked; send nothing and keep nothing.")
@click.option("--base", help="The base of a checkpoint: a folder or a Hub id. Default: the one in the manifest.")
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Of a model: where to keep what was found, for `monoglot report`. Of a checkpoint it is kept in its manifest.",
)
@device_options
@stream_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str,
    neurons_path: Path | None,
    generate: bool,
    leaks: bool,
    effect: bool,
    everything: bool,
    languages: str | None,
    base: str | None,
    output: Path | None,
    device: str,
    dtype: str,
    streaming: "Streaming",
    as_json: bool,
    **options: Any,
) -> None:
    """Measure what NEURONS do in MODEL, or what OUT, a checkpoint that monoglot made, does beside its base.

    Languages are switched off by hooks, one after the other, with as many random neurons as the control. Where a language
    is activated in OUT, --generate asks prompts in the others, and what counts is an answer in that language. Everything
    is kept in OUT's manifest and shown on its card, or in the folder of -o.

    \b
    monoglot evaluate OUT --generate
    monoglot evaluate OUT --generate --prompts corpus --corpus texts/ --count 40
    monoglot evaluate OUT --leaks
    monoglot evaluate OUT --effect --corpus other-texts/ --text-tokens 4096
    monoglot evaluate OUT --generate --same-language --prompts prompts.jsonl
    monoglot evaluate google/gemma-3-270m neurons.json --all --corpus texts/ -o findings
    monoglot evaluate OUT --generate --engine vllm --tensor-parallel-size 4 --python vllm-env/bin/python
    monoglot evaluate OUT --generate --engine http://127.0.0.1:8000/v1 --served NAME --base-served BASE
    monoglot evaluate OUT --deactivate-each --judge http://127.0.0.1:8080/v1 --judge-model NAME
    """
    from ...cards.maker import CARD
    from ...editor.measures.findings import held
    from ...editor.measures.interview import check_judge
    from ...editor.measures.keep import keeper
    from ...editor.measures.measure import evaluate
    from ...editor.measures.subject import open_subject

    chosen = {name for name in OF_NEURONS if options.pop(name) or everything}
    of_checkpoint = {name for name, asked in ((GENERATE, generate), (EFFECT, effect), (LEAKS, leaks)) if asked}
    if not chosen and not of_checkpoint and not everything:
        listed = ", ".join(map(flag, (GENERATE, LEAKS, *OF_NEURONS, EFFECT, "all")))
        raise click.UsageError(f"Say what to measure: {listed}.")
    whole = [flag(name) for name in (*sorted(chosen & WHOLE), *sorted(of_checkpoint - {LEAKS}))]
    if streaming.stream == "layers" and whole:
        raise click.UsageError(f"--stream layers goes with --perplexity; {', '.join(whole)} needs the model whole.")
    settings = Options(languages=tuple(split(languages)), dtype=dtype, **options)
    check(settings, chosen | of_checkpoint)
    check_judge(settings)
    subject = open_subject(model, neurons_path, base=base, device=device, dtype=dtype, streaming=streaming)
    if subject.folder is None and generate:
        raise click.UsageError(
            "--generate measures a checkpoint that monoglot made; for a model take --deactivate-each."
        )
    for name in sorted(of_checkpoint - {GENERATE}):
        if subject.folder is None:
            raise click.UsageError(f"{flag(name)} measures a checkpoint that monoglot made.")
    if subject.folder is not None and output:
        raise click.UsageError("-o goes with a model; what is found of a checkpoint is kept in its manifest.")
    if subject.folder is not None and (generate or everything):
        chosen.add(GENERATE)
    chosen |= of_checkpoint
    kept: dict[str, Any] = {}
    with held(output) if output and not settings.judge_dry_run else nullcontext():
        keep = dict if settings.judge_dry_run else keeper(subject, output, card=CARD, told=note)
        found = evaluate(
            subject, chosen, settings, keep=lambda measured: kept.update(keep(measured)), listener=listener()
        )  # fmt: skip
    if as_json:
        answer(kept)
    else:
        show_findings(found, settings.samples)
    if subject.folder is None and output and not settings.judge_dry_run:
        note(f"Kept in {output}. See it all: monoglot report {quoted(output)}")


def check(settings: Options, asked: set[str]) -> None:
    """Raise UsageError for options that have nothing to go with."""
    if settings.system and not settings.chat:
        raise click.UsageError("--system goes with --chat.")
    if settings.prompts == CORPUS and not settings.corpus:
        raise click.UsageError("--prompts corpus takes the beginnings of documents: name them with --corpus.")
    for name, users in USED_BY.items():
        if name == "corpus" and settings.prompts == CORPUS:
            continue
        if asked.isdisjoint(users) and (idle := given(name)):
            raise click.UsageError(f"{idle[0]} goes with {' or '.join(map(flag, users))}.")
    if (settings.judge is None) != (settings.judge_model is None):
        raise click.UsageError("--judge URL and --judge-model NAME go together.")
    for names, fits, what in (
        (OF_ENGINES, settings.engine is not None, "--engine"),
        (OF_SERVERS, settings.engine not in (None, VLLM), "--engine URL"),
        (OF_VLLM, settings.engine == VLLM, "--engine vllm"),
    ):
        if not fits and (idle := given(*names)):
            raise click.UsageError(f"{idle[0]} goes with {what}.")
    if settings.judge_dry_run and not settings.judge:
        raise click.UsageError("--judge-dry-run goes with --judge and --judge-model.")


def flag(measure: str) -> str:
    return f"--{measure.replace('_', '-')}"
