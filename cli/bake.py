"""monoglot bake: a model and a recipe in, a checkpoint out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..cards.render import card_writer
from .console import Edits, answer, bar, device_options, edit_options, given_edits, note, table


@click.command("bake")
@click.argument("model", required=False)
@click.argument("neurons_file", metavar="[NEURONS]", required=False, type=click.Path(path_type=Path))
@edit_options
@click.option(
    "--calibration",
    "calibration_file",
    type=click.Path(path_type=Path),
    help="For the calibrated carrier: statistics of `detect --calibrate`, or a calibration.monoglot.",
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
@device_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str | None,
    neurons_file: Path | None,
    calibration_file: Path | None,
    recipe_path: Path | None,
    base_id: str | None,
    output: Path,
    force: bool,
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
    monoglot bake --recipe recipe.yaml -o OUT
    monoglot bake model.gguf neurons.json --deactivate zh -o out.gguf

    --activate sets the neurons of a language to a constant, strength × what they are on text in that language. A model
    without biases needs a calibration for it: see `monoglot detect --calibrate`. --strength auto runs the model.
    A GGUF file can be deactivated in only, exactly in every quantisation; the neurons are found in its original checkpoint.
    """
    from ..editor import embedded
    from ..editor.edits import recipe as recipes
    from ..editor.edits.calibration import FILE
    from ..editor.edits.fit import open_calibration
    from ..editor.errors import RecipeError
    from ..editor.files.gguf import is_gguf
    from ..editor.models.source import resolve
    from ..editor.models.target import open_target
    from ..editor.neurons import neurons

    edits = Edits(**options)
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
        neurons_file = neurons_file or recipe_path.parent / recipe.neurons
        beside = recipe_path.parent / FILE
        calibration_file = calibration_file or (beside if beside.is_file() else None)
    else:
        if not model or not neurons_file:
            raise click.UsageError("Name the model and the neurons file (or a --recipe).")
        edits.require()
    if is_gguf(model):
        from . import gguf

        gguf.refuse(gguf.IDLE_IN_BAKE)
        if output.suffix != ".gguf":
            raise click.UsageError(
                f"-o {output}: {model} is a GGUF file, and so is what is made of it. Name an OUT.gguf."
            )
        found, path = neurons.load(neurons_file), Path(model).expanduser()
        gguf.bake(path, found, recipe or gguf.edited(path, found, edits), output, force, as_json)
        return
    if output.suffix == ".gguf":
        raise click.UsageError(
            f"-o {output}: a GGUF file is made of a GGUF file only. Name one as MODEL, or a folder with -o."
        )
    found = neurons.load(neurons_file)
    target = open_target(resolve(model, base_id))
    calibration = open_calibration(calibration_file, target) if calibration_file else None
    if recipe is not None:
        baked = run(target, found, recipe, calibration, output, force)
    else:
        baked = run_edits(target, found, edits, calibration, output, force, device=device, dtype=dtype)
    if calibration and not baked.carried.calibration:
        note(f"{calibration_file} was not needed: no constant here is carried by a calibrated direction.")
    if found.model and found.model.fingerprint != target.fingerprint:
        note(
            f"Warning: the neurons were found in {found.model.name}, {target.source.name} has other weights. "
            "On a fine-tune of it most will still be right; see the effect with `monoglot verify`."
        )
    about_config(target, baked, edits.compat_config)
    about_runtimes(target, baked, edits.for_runtimes)
    show(baked, as_json)
    base = "" if target.source.hub or model == embedded.NAME else f" --base {model}"
    note(f"Wrote {output}. Prove it with: monoglot verify {output}{base}")


def run_edits(
    target: Any, found: Any, edits: Edits, calibration: Any, output: Path, force: bool, *, device: str, dtype: str
) -> Any:
    """Bake what the options say; with --strength auto, at the strength that a search finds and the checkpoint confirms."""
    if edits.strength != "auto":
        recipe = edits.recipe(target, found.languages, edits.strength)
        return run(target, found, recipe, calibration, output, force)
    from .strength import run_auto

    return run_auto(target, found, edits, calibration, output, force, device=device, dtype=dtype)


def run(target: Any, found: Any, recipe: Any, calibration: Any, output: Path, force: bool) -> Any:
    from ..editor.edits.bake import bake

    describe = card_writer(found.method)
    with bar("bake", "MB") as update:
        return bake(
            target, found, recipe, output, calibration=calibration, force=force, describe=describe,
            progress=lambda done, whole: update("", done // 10**6, whole // 10**6),
        )  # fmt: skip


def about_config(target: Any, baked: Any, asked: bool | None) -> None:
    """Which keys config.json got and for whom, or, where nobody `asked` for it to be left as it is, why it got none."""
    from ..editor.models.compat_config import READERS, old_keys, unread_tokenizer

    keys = {key for found in old_keys(target.checkpoint.config).values() for key in found}
    named = ", ".join(f"{key} ({READERS[key]})" for key in sorted(keys))
    if baked.carried.compat_config:
        note(
            "The base's config.json has only the spelling of transformers 5. Added what others read, with the same values: "
            f"{named}. --no-compat-config leaves it as it is."
        )
    elif keys and asked is None:  # the recipe didn't say
        note(
            f"Warning: config.json has only the spelling of transformers 5, and others take their defaults for {named}. "
            "`compat_config: true` in the recipe adds what they read."
        )
    elif asked:
        note("--compat-config had nothing to add: config.json has the older spelling of all that it says.")
    if name := unread_tokenizer(target.checkpoint.folder):
        note(
            f"The base's tokenizer_config.json names {name}, which transformers 4 does not know, nor what converts with it "
            '(ctranslate2, optimum-onnx): for them write "PreTrainedTokenizerFast" there, in the base, and bake again.'
        )


def about_runtimes(target: Any, baked: Any, runtimes: Sequence[str]) -> None:
    """Which of the runtimes that it is for were seen to lose what was chosen, and which were not run."""
    from ..editor.runtimes.capabilities import dropping, seen

    model_type, carrier = target.feed_forward.model_type, baked.carried.carrier or "none"
    lost = dropping(runtimes, carrier, model_type)
    unknown = [name for name in runtimes if seen(name, carrier, model_type) is None]
    for name in lost:
        note(
            f"Warning: {name} was seen not to honour constants by {carrier} in a {model_type}: it would run the model "
            "without them, or not at all. --carrier calibrated has nothing that it could drop."
        )
    if unknown:
        note(
            f"{', '.join(unknown)}: not run yet with {'constants by ' + carrier if carrier != 'none' else 'such edits'} in a "
            f"{model_type}. See with: monoglot verify {baked.folder} --runtime {','.join(unknown)}"
        )


def show(baked: Any, as_json: bool) -> None:
    manifest = baked.manifest
    if as_json:
        answer(
            {
                "folder": str(baked.folder),
                "neurons_edited": manifest["neurons_edited"],
                "edited": manifest["edited"],
                "kept": manifest["kept"],
                "carrier": manifest["carrier"],
                "rounding": manifest["rounding"],
                "strength": manifest.get("strength"),
                "left_out": manifest["left_out"],
                "sha256": {name: entry["sha256"] for name, entry in manifest["files"].items()},
            }
        )
        return
    if searched := manifest.get("strength"):
        from .strength import show as show_curve

        show_curve(searched)
    show_edits(baked.folder.name, manifest)
    if carrier := manifest["carrier"]:
        _show_carrier(carrier, manifest["rounding"])
    note_shared(manifest)
    if manifest["left_out"]:
        note(f"Left out, other formats of the same weights: {', '.join(manifest['left_out'])}.")


def show_edits(name: str, manifest: dict[str, Any]) -> None:
    """What was done to which language."""
    from ..cards.render import operation

    rows = [
        (
            edit["language"],
            operation(edit),
            manifest["edited"][edit["language"]],
            manifest["kept"][edit["language"]],
        )
        for edit in manifest["recipe"]["edits"]
    ]
    table(
        f"{name}: {manifest['neurons_edited']:,} neurons edited",
        ("language", "operation", "neurons edited", "kept, shared"),
        rows,
    )


def note_shared(manifest: dict[str, Any]) -> None:
    for language, kept in manifest["kept"].items():
        if kept > manifest["edited"][language]:
            note(
                f"Most neurons of {language} are shared with other languages and were kept, so the effect is weaker: "
                "--shared edit takes them too."
            )


def _show_carrier(carrier: dict[str, Any], rounding: dict[str, float]) -> None:
    """Where the constants went, and what that costs."""
    cast = ", ".join(f"{what} {error:.1e}" for what, error in rounding.items())
    click.echo(f"carrier: {carrier['name']}; rounding to the checkpoint's dtype, relative: {cast or 'none'}")
    if not carrier["calibration"]:
        return
    table(
        "calibration, on text that it was not fitted to",
        ("layer", "w·x", "deviation", "first token", "worst on", "there", "level", "error of the activation"),
        [
            (
                number,
                f"{row['mean']:.3f}",
                f"{row['deviation']:.3f}",
                "–" if row["first_token"] is None else f"{row['first_token']:.2f}",
                row["worst_kind"],
                f"{row['worst']:.2f}",
                f"{row['level']:g}",
                f"{row['after']:.1%}" + (" left out" if number in carrier["layers_left_out"] else ""),
            )
            for number, row in enumerate(carrier["calibration"])
        ],
    )
