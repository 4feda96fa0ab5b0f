"""monoglot verify: the proof, written into the manifest and onto the card."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...editor.proof.settings import CONTEXT, TOKENS
from ..console import listener, note
from ..numbers import FloatRange
from ..options import PYTHON_HELP, corpus_options, device_options, given, names, split, stream_options
from ..steps.runtimes import conform
from ..steps.verify import show_proof

if TYPE_CHECKING:
    from ...editor.live.streaming import Streaming
    from ...editor.models.target import Target

OF_RUNTIMES = ("pythons", "prompts", "timeout")
OF_LOGITS = ("corpus", "languages", "tokens", "context", "device", "dtype", "stream", "memory", "scratch")


@click.command("verify")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--base", help="The base: a folder, a Hub id, or of a GGUF file its GGUF file. Default: the one in the manifest."
)
@click.option(
    "--neurons",
    "neurons_file",
    type=click.Path(path_type=Path),
    help="Neurons to hold it against. Default: OUT's own.",
)
@corpus_options
@click.option("--tokens", type=click.IntRange(2), default=TOKENS, show_default=True, help="Held-out tokens a language.")
@click.option("--context", type=click.IntRange(16), default=CONTEXT, show_default=True, help="Tokens a context.")
@device_options
@stream_options
@click.option("--fast", is_flag=True, help="Only compare bytes; takes seconds.")
@click.option(
    "--runtime",
    "runtimes",
    metavar="NAME[,NAME…]|all",
    help="Compare the bytes, then let these runtimes answer: see `monoglot runtimes`.",
)
@click.option("--python", "pythons", multiple=True, metavar="PATH|NAME=PATH", help=PYTHON_HELP)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="With --runtime: a .jsonl of prompts per language. Default: the embedded texts' beginnings.",
)
@click.option(
    "--timeout",
    type=FloatRange(1),
    default=900,
    show_default=True,
    help="With --runtime: seconds that each may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    folder: Path,
    base: str | None,
    neurons_file: Path | None,
    corpus: tuple[str, ...],
    languages: str | None,
    tokens: int,
    context: int,
    device: str,
    dtype: str,
    streaming: "Streaming",
    fast: bool,
    runtimes: str | None,
    pythons: tuple[str, ...],
    prompts: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Prove that OUT is its base with the recipe's edits and nothing else.

    Compares the bytes with the base's, the logits with those of the base under hooks, and measures what the edit does to
    each language on held-out text, with random neurons as the control. Exits with 1 when bytes or logits are not right.

    \b
    monoglot verify OUT --corpus texts/
    monoglot verify OUT --base ./model --fast
    monoglot verify OUT --runtime transformers,vllm --python vllm=env/bin/python
    monoglot verify OUT.gguf --base MODEL.gguf

    With --runtime each runtime answers a prompt in every language, greedily and in float32, beside transformers on OUT and on
    the base. Exits with 1 unless all are steered:

    \b
    steered    as OUT on every prompt
    dropped    as the base, or as OUT without its biases: the steering is lost in silence. Take another runtime or carrier
    different  like none of them: see whether it runs the base as transformers does
    undecided  OUT and the base answer these prompts alike. Give others with --prompts
    failed, missing   it did not run: see the message

    Of a GGUF file the bytes alone are compared: the rows of its neurons are zeros, and everything else is its base's.
    """
    from ...editor.errors import ModelError
    from ...editor.files.gguf import is_gguf

    if is_gguf(folder):
        from ..steps import gguf

        gguf.refuse((*OF_LOGITS, "runtimes", *OF_RUNTIMES))
        if not gguf.verify(folder, base, neurons_file, as_json):
            raise SystemExit(1)
        return
    if base and is_gguf(base):
        raise ModelError(
            f"{base} is a GGUF file, {folder} is none. Name the safetensors checkpoint that it was made from."
        )
    from ...cards.maker import CARD
    from ...editor.edits import manifest
    from ...editor.edits.manifest_base import open_source
    from ...editor.models.target import open_target
    from ...editor.proof.prove import prove, texts_for

    if runtimes is None and (idle := given(*OF_RUNTIMES)):
        raise click.UsageError(f"{idle[0]} goes with --runtime.")
    if runtimes is not None and (idle := given(*OF_LOGITS, "fast")):
        raise click.UsageError(
            f"{idle[0]} does not go with --runtime, which compares the bytes and lets runtimes answer."
        )
    wanted = names(runtimes) if runtimes is not None else []
    record = manifest.read(folder)
    if record.adapter and wanted:
        raise ModelError(
            f"{folder} is an adapter, and --runtime runs checkpoints. Leave it out: the adapter is proved on its base."
        )
    target = open_target(open_source(record.base, base, beside=folder))
    if wanted:
        _in_runtimes(folder, target, neurons_file, wanted, pythons, prompts, timeout, as_json)
        return
    texts = texts_for(folder, neurons_file, corpus, split(languages), note)
    proof = prove(
        folder, target, None if fast else texts, neurons_path=neurons_file, tokens=tokens, context=context, device=device,
        dtype=dtype, streaming=streaming, card=CARD, listener=listener(),
    )  # fmt: skip
    show_proof(proof, fast, as_json=as_json)
    if not proof.passed:
        raise SystemExit(1)


def _in_runtimes(
    folder: Path,
    target: "Target",
    neurons_file: Path | None,
    wanted: list[str],
    pythons: tuple[str, ...],
    prompts_file: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Compare the bytes, then let runtimes answer: what one makes of a checkpoint that isn't what it says is no news."""
    from ...cards.maker import CARD
    from ...editor.edits import manifest, manifest_base
    from ...editor.neurons import neurons
    from ...editor.proof.prove import prove
    from ...editor.runtimes import process
    from ...editor.text import prompts

    asked_in = prompts.load(prompts_file) if prompts_file else prompts.embedded_prompts()
    interpreters = process.interpreters(pythons)
    found = neurons.load(neurons_file) if neurons_file else manifest_base.neurons_of(folder, manifest.read(folder))
    proof = prove(folder, target, None, neurons_path=neurons_file, card=CARD, listener=listener())
    failed = bool(proof.certificate.bytes.problems)
    if failed or not as_json:
        show_proof(proof, True, as_json=as_json, silent=not failed)
    if failed:
        raise SystemExit(1)
    steered = conform(
        folder, target, found, wanted, interpreters=interpreters, asked_in=asked_in, timeout=timeout, as_json=as_json
    )
    if not steered:
        raise SystemExit(1)
