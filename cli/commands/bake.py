"""monoglot bake: a model and a recipe in, a checkpoint out."""

from pathlib import Path
from typing import Any

import click

from ..console import listener, note
from ..edit_options import edit_options, form_options
from ..edit_request import check_form, given_edits, request_of, require
from ..options import device_options, rehash_option
from ..show import show_baked
from ..steps.bake import about_adapter, about_config, about_runtimes
from ..terminal import quoted


@click.command("bake")
@click.argument("model", required=False)
@click.argument("neurons_file", metavar="[NEURONS]", required=False, type=click.Path(path_type=Path))
@edit_options
@form_options
@click.option(
    "--calibration",
    "calibration_file",
    type=click.Path(path_type=Path),
    help="For the calibrated carrier: statistics of `detect --calibrate`, or a calibration.monoglot.",
)
@click.option(
    "--vocabulary",
    "vocabulary_file",
    type=click.Path(path_type=Path),
    help="For --redirect and --op vector: what `monoglot detect` or `monoglot tokens` wrote.",
)
@click.option(
    "--vector",
    "vector_file",
    type=click.Path(path_type=Path),
    help="For --op vector: a control vector made elsewhere, .gguf, .safetensors or .pt; it goes by the name in --activate.",
)
@click.option(
    "--export-vector",
    type=click.Path(path_type=Path),
    help="Write the vectors that are added after layers, times their strength, as a control vector: .gguf or .safetensors.",
)
@click.option(
    "--corpus",
    multiple=True,
    metavar="DIR|LANG=FILE|DATASET",
    help="For --silence: text in every language that is to be read, the silenced ones too.",
)
@click.option(
    "--silence-file",
    type=click.Path(path_type=Path),
    help="For --silence: the silence.monoglot of another checkpoint of the model, instead of text.",
)
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), help="A recipe.yaml instead of the options.")
@click.option("--base-id", help="Hub id of the base, for the card, when MODEL is a folder.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder to write; of a GGUF file, the file.",
)
@click.option("--force", is_flag=True, help="Replace what monoglot wrote there.")
@click.option("--dry-run", is_flag=True, help="Say what would be edited and written, and what it needs; write nothing.")
@rehash_option
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str | None,
    neurons_file: Path | None,
    calibration_file: Path | None,
    vocabulary_file: Path | None,
    vector_file: Path | None,
    export_vector: Path | None,
    corpus: tuple[str, ...],
    silence_file: Path | None,
    recipe_path: Path | None,
    base_id: str | None,
    output: Path,
    force: bool,
    dry_run: bool,
    device: str,
    dtype: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Write MODEL with the edited NEURONS to a new folder; or, where MODEL is a GGUF file, to a new GGUF file.

    \b
    monoglot bake google/gemma-3-270m neurons.json --deactivate zh,ja -o gemma-no-zh-ja
    monoglot bake google/gemma-3-270m neurons.json --activate fr --hold others --calibration stats.safetensors -o gemma-fr
    monoglot bake gpt2 neurons.json --activate fr --deactivate en --strength 2 -o gpt2-fr
    monoglot bake google/gemma-3-270m --redirect zh=en --vocabulary vocabulary.monoglot -o gemma-zh-as-en
    monoglot bake google/gemma-3-270m --activate fr --op vector --vocabulary vocabulary.monoglot -o gemma-fr
    monoglot bake google/gemma-3-270m --activate polite --op vector --vector polite.gguf -o gemma-polite
    monoglot bake google/gemma-3-270m --silence Han --corpus texts/ -o gemma-no-han
    monoglot bake google/gemma-3-270m neurons.json --deactivate zh --as adapter -o gemma-zh-off
    monoglot bake --recipe recipe.yaml -o OUT
    monoglot bake model.gguf neurons.json --deactivate zh -o out.gguf

    --activate sets the neurons of a language to a constant, strength × what they are on text in that language. A model
    without biases needs a calibration for it: see `monoglot detect --calibrate`. --strength auto runs the model.
    --redirect and --op vector need no neurons, but the counts of tokens that `monoglot detect` kept with its statistics, or
    `monoglot tokens` alone. --silence needs none either, but
    text, unless the model's output layer has a bias: the model runs on it.
    --as adapter writes a PEFT LoRA of the same edits, which vLLM and others load beside the base.
    A GGUF file can be deactivated in only, exactly in every quantisation; the neurons are found in its original checkpoint.
    """
    from ...cards.maker import CARD
    from ...editor import embedded
    from ...editor.edits import recipe as recipes
    from ...editor.edits import silence as silences
    from ...editor.edits.calibration import FILE
    from ...editor.edits.request import with_vector
    from ...editor.errors import RecipeError
    from ...editor.files.gguf import is_gguf
    from ...editor.measures.search import bake_recipe, bake_requested
    from ...editor.models.hf import has_tokenizer
    from ...editor.models.source import resolve
    from ...editor.models.target import about_sampled, open_target
    from ...editor.neurons import neurons
    from ...editor.statistics import control_vector

    request = request_of(**options)
    check_form(request.form)
    recipe = None
    if recipe_path:
        if given := given_edits():
            raise click.UsageError(f"Give a recipe, or {given[0]} and what goes with it, not both.")
        recipe = recipes.load(recipe_path)
        base = f"{recipe.base.model}@{recipe.base.revision}" if recipe.base.revision else recipe.base.model
        if (
            not model
            and not recipe.base.revision
            and "/" not in base
            and base != embedded.NAME
            and not Path(base).is_dir()
            and not is_gguf(base)
        ):
            raise RecipeError(
                f"the recipe's base was a folder called {base}, which is not here. Say where it is: "
                f"monoglot bake MODEL --recipe {recipe_path}"
            )
        model = model or base
        if recipe.needs_neurons:
            neurons_file = neurons_file or recipe_path.parent / recipe.neurons
        if recipe.scripts and not corpus:
            beside = recipe_path.parent / recipe.silence
            silence_file = silence_file or (beside if beside.is_file() else None)
        if recipe.of_vocabulary:
            vocabulary_file = vocabulary_file or recipe_path.parent / recipe.vocabulary
        beside = recipe_path.parent / FILE
        calibration_file = calibration_file or (beside if beside.is_file() else None)
    else:
        if not model or not (neurons_file or not request.needs_neurons):
            raise click.UsageError("Name the model and the neurons file (or a --recipe).")
        require(request)
        if vector_file and not request.of_vocabulary:
            raise click.UsageError("--vector goes with --op vector.")
        if request.of_vocabulary and not (vocabulary_file or vector_file):
            what = "--redirect" if request.redirect else "--op vector without --vector"
            raise click.UsageError(
                f"{what} needs what `monoglot detect` or `monoglot tokens` wrote: name it with --vocabulary."
            )
        if vocabulary_file and not request.of_vocabulary:
            raise click.UsageError("--vocabulary goes with --redirect or --op vector.")
        if (corpus or silence_file) and not request.of_scripts:
            raise click.UsageError(f"{'--corpus' if corpus else '--silence-file'} goes with --silence or --quieten.")
    if corpus and silence_file:
        raise click.UsageError("--silence-file stands for --corpus. Give one of them.")
    if dry_run and corpus:
        raise click.UsageError("--dry-run reads no text, and runs no model: give a --silence-file instead of --corpus.")
    if is_gguf(model):
        from ..steps import gguf

        if (request.of_vocabulary or request.of_scripts) or (recipe and (recipe.of_vocabulary or recipe.scripts)):
            raise RecipeError(
                "tokens are redirected or silenced, and vectors added, in the safetensors checkpoint that "
                f"{model} was made from. Bake that, then convert the result with `monoglot convert`."
            )
        gguf.refuse(gguf.IDLE_IN_BAKE)
        if dry_run:
            raise click.UsageError(
                "--dry-run looks at a safetensors checkpoint; a GGUF file is copied with zeros in it."
            )
        if output.suffix != ".gguf":
            raise click.UsageError(
                f"-o {output}: {model} is a GGUF file, and so is what is made of it. Name an OUT.gguf."
            )
        found, path = neurons.load(Path(neurons_file or "")), Path(model).expanduser()
        gguf.bake(path, found, recipe or gguf.edited(path, found, request), output, force, as_json)
        return
    if output.suffix == ".gguf":
        raise click.UsageError(
            f"-o {output}: a GGUF file is made of a GGUF file only. Name one as MODEL, or a folder with -o."
        )
    found = neurons.load(neurons_file) if neurons_file else neurons.NONE
    target = open_target(resolve(model, base_id))
    if not has_tokenizer(target.source.folder):
        note(
            f"{target.source.name} has no tokenizer, and so the checkpoint will have none. Copy its files into the model's "
            "folder, and bake again."
        )
    read = {int(str(edit.point)) for edit in recipe.readers} if recipe else request.read_layers
    vocabulary = calibration = silence = None
    if vocabulary_file:
        from ...editor.statistics.from_statistics import open_vocabulary

        vocabulary = open_vocabulary(vocabulary_file, target, sorted(read))
    if calibration_file:
        from ...editor.edits.fit import open_calibration

        calibration = open_calibration(calibration_file, target)
    if vector_file:
        request, vocabulary = with_vector(request, vector_file, target, vocabulary)
    if export_vector:
        points = {edit.point for edit in recipe.vectors} if recipe else {*request.points, request.point}
        control_vector.check_place(export_vector, {point for point in points if type(point) is int})
    if dry_run:
        from ...editor.forecast.of_bake import forecast_bake
        from ..steps.forecast import show_forecast

        forecast = forecast_bake(
            target, found, recipe or request, output, calibration=calibration, vocabulary=vocabulary,
            silence=silences.load(silence_file) if silence_file else None, force=force,
        )  # fmt: skip
        show_forecast(forecast, as_json)
        return
    if recipe.scripts if recipe else request.of_scripts:
        from ...editor.edits.silencing import silence_for

        silence = silence_for(
            target, recipe or request, corpus, silence_file, lose=request.lose, form=request.form, output=output,
            force=force, device=device, dtype=dtype, listener=listener(),
        )  # fmt: skip
    if recipe is not None:
        baked = bake_recipe(
            target, found, recipe, output, calibration=calibration, vocabulary=vocabulary, silence=silence, force=force,
            card=CARD, listener=listener(), form=request.form, max_rank=request.max_rank,
        )  # fmt: skip
    else:
        baked = bake_requested(
            target, found, request, output, calibration=calibration, vocabulary=vocabulary, silence=silence, force=force,
            device=device, dtype=dtype, card=CARD, listener=listener(),
        )  # fmt: skip
    if calibration and not baked.carried.calibration:
        note(f"{calibration_file} was not needed: no constant here is carried by a calibrated direction.")
    if found.model and found.model.fingerprint != target.fingerprint and target.quantised:
        note(
            f"The neurons were found in {found.model.name}, which has as many layers and neurons. That {target.source.name} "
            "was quantised from it can't be known from the files; see the effect with `monoglot verify`."
        )
    elif found.model and found.model.fingerprint != target.fingerprint:
        note(
            f"Warning: the neurons were found in {found.model.name}, {target.source.name} has other weights. "
            "On a fine-tune of it most will still be right; see the effect with `monoglot verify`."
            f"{about_sampled(target, found.model.fingerprint)}"
        )
    if export_vector:
        values = {vector.layer: vector.value for vector in baked.carried.vectors}
        control_vector.write(export_vector, values, target.feed_forward.model_type)
        note(f"Wrote {export_vector}: the vectors after {len(values)} layer{'s' * (len(values) > 1)}.")
    if baked.manifest.adapter:
        about_adapter(baked)
    else:
        about_config(baked, request.compat_config)
        about_runtimes(baked, request.for_runtimes)
    show_baked(baked, as_json)
    base = "" if target.source.hub or model == embedded.NAME else f" --base {quoted(str(model))}"
    note(f"Wrote {output}. Prove it with: monoglot verify {quoted(output)}{base}")
