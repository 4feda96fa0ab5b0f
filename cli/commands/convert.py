"""monoglot convert: a checkpoint as a GGUF file, and whether the steering survives quantisation."""

from pathlib import Path

import click

from ..console import answer, bar, note, table
from ..numbers import FloatRange
from ..options import PYTHON_HELP
from ..terminal import quoted, say


@click.command("convert")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--to", "form", type=click.Choice(["gguf"]), default="gguf", show_default=True, help="The format.")
@click.option(
    "--quantize",
    metavar="TYPE",
    help="f32, f16, bf16 or q8_0, by the converter; q6_k, q5_k_m, q4_k_m, q3_k_m, q2_k and others like them, by "
    "llama-quantize. Default: the checkpoint's own dtype.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write. Default: OUT[-TYPE].gguf.")
@click.option("--python", "pythons", multiple=True, metavar="PATH|NAME=PATH", help=PYTHON_HELP)
@click.option(
    "--quantizer",
    metavar="PATH",
    help="llama-quantize, for what the converter does not write. Default: the one on the PATH.",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="A .jsonl of prompts per language. Default: the embedded texts' beginnings.",
)
@click.option("--timeout", type=FloatRange(1), default=3600, show_default=True, help="Seconds for each step.")
@click.option("--force", is_flag=True, help="Replace a file that was converted there before.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    folder: Path,
    form: str,
    quantize: str | None,
    output: Path | None,
    pythons: tuple[str, ...],
    quantizer: str | None,
    prompts: Path | None,
    timeout: float,
    force: bool,
    as_json: bool,
) -> None:
    """Write OUT, a checkpoint of monoglot's, as a GGUF file, by llama.cpp's own converter.

    With --quantize, llama.cpp then runs the quantised and the unquantised file: language of the answers and KL say whether
    the steering is still there.

    \b
    monoglot convert OUT --quantize q8_0 --python env/bin/python
    monoglot convert OUT --to gguf --quantize q4_k_m -o out.gguf
    """
    from ...editor.gguf import convert
    from ...editor.runtimes import process
    from ...editor.runtimes.adapters import llama_cpp
    from ...editor.text import prompts as prompts_file

    kind = quantize.lower() if quantize else None
    if kind and kind not in (*convert.OWN, *convert.BY_QUANTIZER):
        raise click.BadParameter(f"one of {', '.join((*convert.OWN, *convert.BY_QUANTIZER))}", param_hint="--quantize")
    if quantizer and kind not in convert.BY_QUANTIZER:
        raise click.UsageError("--quantizer goes with --quantize, and with other types than the converter's own.")
    if prompts and not kind:
        raise click.UsageError("--prompts goes with --quantize.")
    here = folder if folder.name not in ("", "..") else folder.resolve()
    place = output or here.with_name(f"{here.name}{f'-{kind}' if kind else ''}.{form}")
    if place.suffix != ".gguf":
        raise click.UsageError(f"-o {place}: name an OUT.gguf.")
    asked = prompts_file.load(prompts) if prompts else prompts_file.embedded_prompts()
    python = process.python_for("llama.cpp", process.interpreters(pythons))
    made = convert.convert(
        folder, place, python=python, quantise=kind, quantizer=quantizer, prompts=asked, force=force, timeout=timeout,
        stage=bar,
    )  # fmt: skip
    survival = made.survival
    if as_json:
        answer(
            {"file": str(place), "type": made.type, "size": made.size, "sha256": made.sha256,
             "survival": survival.record() if survival else None}
        )  # fmt: skip
    else:
        say(f"{place}: {made.type}, {made.size / 1e6:,.1f} MB")
    if survival and not as_json:
        said = "answers in the language" if survival.wanted == "activated" else "answers in the language that is off"
        table(
            f"{said}, in llama.cpp",
            ("to prompts in", "unquantised", made.type),
            [(k, f"{a:.0%}", f"{b:.0%}") for k, (a, b) in [*survival.shares.items(), ("mean", survival.means)]],
        )
        say(
            f"KL(unquantised ‖ {made.type}) of the next token: {survival.kl:.2g} nats, over {survival.positions} positions."
        )
        for prompt, ours, theirs in survival.samples[:2]:
            say(f"{prompt} …\n  unquantised {' '.join(ours.split())}\n  {made.type} {' '.join(theirs.split())}")
    if survival and survival.faded:
        before, after = survival.means
        note(
            f"Warning: the steering fades in {made.type}: {before:.0%} of the answers were in the language, now {after:.0%}. "
            + (
                "Bake with more --strength, with another --carrier, or quantise less."
                if survival.wanted == "activated"
                else "Bake the quantised file itself (monoglot bake MODEL.gguf), with --shared edit, or quantise less."
            )
        )
    if llama_cpp.cuts_as_gpt2(folder):
        note("The tokenizer cuts text as GPT-2's does, and the file says so.")
    note(
        f"Wrote {place}."
        + ("" if kind else f" What llama.cpp makes of it: monoglot verify {quoted(folder)} --runtime llama.cpp")
    )
