"""monoglot export: a model, text and a language in; a proved, described checkpoint out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...editor.proof.settings import TOKENS
from ..edit_options import edit_options, form_options, search_options
from ..edit_request import check_form, request_of, require
from ..options import corpus_options, detect_options, find_options, given, rehash_option, split, stream_options
from ..steps.export import run_export
from ..steps.push import ready

if TYPE_CHECKING:
    from ...editor.live.streaming import Streaming


@click.command("export")
@click.argument("model")
@corpus_options
@edit_options
@form_options
@search_options
@find_options
@detect_options
@stream_options
@click.option(
    "--verify-tokens", type=click.IntRange(2), default=TOKENS, show_default=True, help="Held-out tokens a language."
)
@click.option("--fast", is_flag=True, help="Prove the bytes only, without running the checkpoint.")
@click.option("--base-id", help="Hub id of the base, for the card, when MODEL is a folder.")
@click.option(
    "--neurons-of",
    metavar="MODEL",
    help="Of a quantised MODEL: the model it was quantised from. Statistics and neurons are of that one.",
)
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the intermediate files. Default: OUT.work")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--force", is_flag=True, help="Replace a checkpoint that monoglot wrote there.")
@rehash_option
@click.option("--push", metavar="USER/NAME", help="Put it on the Hub when it is proved, as `monoglot push` does.")
@click.option("--yes", is_flag=True, help="With --push: don't ask.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done, how long it takes, and what it needs; write nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print only the answer, as JSON.")
def command(
    model: str,
    corpus: tuple[str, ...],
    languages: str | None,
    rate: float,
    quantile: float,
    tokens: int,
    context: int,
    minimum: int,
    batch_size: int,
    device: str,
    dtype: str,
    streaming: "Streaming",
    verify_tokens: int,
    fast: bool,
    base_id: str | None,
    neurons_of: str | None,
    work: Path | None,
    output: Path,
    force: bool,
    push: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find, edit, prove and describe in one go.

    Statistics and neurons are kept in OUT.work, and taken from there when the command is run again and they still fit. Name
    the same --work for another OUT, and another language costs only what is new. With --activate alone, what makes the model
    answer in the language is searched for, with --deactivate alone the mildest set of neurons that switches it off.

    \b
    monoglot export google/gemma-3-270m --corpus texts/ --deactivate zh -o gemma-no-zh
    monoglot export google/gemma-3-270m --corpus texts/ --deactivate fr --target-damage 2 -o gemma-no-fr
    monoglot export google/gemma-3-270m --corpus texts/ --activate fr -o gemma-fr
    monoglot export google/gemma-3-270m --corpus texts/ --activate fr --hold others --rate 0.05 -o gemma-fr-by-neurons
    monoglot export ./model --corpus texts/ --deactivate zh,ja --shared edit -o OUT
    monoglot export google/gemma-3-270m --corpus texts/ --redirect zh=en -o gemma-zh-as-en
    monoglot export google/gemma-3-270m --corpus texts/ --deactivate zh -o gemma-no-zh --dry-run
    monoglot export ./model-gptq --neurons-of ./model --corpus texts/ --deactivate zh -o OUT
    """
    from ...editor.statistics.detection import Detection

    if not corpus:
        raise click.UsageError("Name the text with --corpus (a folder of {lang}.txt).")
    of_neurons = given("rate", "quantile")
    chosen = of_neurons or given("shared", "op", "value", "strength", "layers", "slots")
    request = request_of(**options, choose=not chosen).searching()
    require(request)
    check_form(request.form)
    if yes and not push:
        raise click.UsageError("--yes goes with --push.")
    detection = Detection(tokens, context, minimum, batch_size, device, dtype, streaming=streaming)
    if dry_run:
        from ...editor.export_request import ask
        from ...editor.forecast.of_export import forecast_export
        from ..steps.forecast import show_forecast

        asked = ask(
            model, corpus, request, output, languages=split(languages), base_id=base_id, neurons_of=neurons_of, work=work,
            chosen=bool(chosen),
        )  # fmt: skip
        done = forecast_export(
            asked, output, detection, verify_tokens=verify_tokens, fast=fast, work=work, force=force
        )  # fmt: skip
        show_forecast(done, as_json)
        return
    if push:
        ready(push, yes)
    passed = run_export(
        model, corpus, request, output, languages=split(languages), rate=rate if of_neurons else None,
        quantile=quantile if of_neurons else None,
        detection=detection, verify_tokens=verify_tokens, fast=fast,
        base_id=base_id, neurons_of=neurons_of, work=work, force=force, as_json=as_json, push=push, yes=yes,
    )  # fmt: skip
    if not passed:
        raise SystemExit(1)
