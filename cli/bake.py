"""monoglot bake: a model and a recipe in, a checkpoint out."""

from pathlib import Path
from typing import Any

import click

from .console import answer, bar, edit_options, note, table


@click.command("bake")
@click.argument("model", required=False)
@click.argument("neurons_file", metavar="[NEURONS]", required=False, type=click.Path(path_type=Path))
@edit_options
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), help="A recipe.yaml instead of the options.")
@click.option("--base-id", help="Hub id of the base, for the card, when MODEL is a folder.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--force", is_flag=True, help="Replace a checkpoint that monoglot wrote there.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(
    model: str | None,
    neurons_file: Path | None,
    deactivate: tuple[str, ...],
    scale: tuple[str, ...],
    shared: str,
    recipe_path: Path | None,
    base_id: str | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write MODEL with the edited NEURONS to a new folder.

    \b
    monoglot bake google/gemma-3-270m neurons.json --deactivate zh,ja -o gemma-no-zh-ja
    monoglot bake ./model neurons.json --scale fr=2 -o model-fr2
    monoglot bake --recipe recipe.yaml -o OUT
    """
    from ..editor import embedded, neurons
    from ..editor import recipe as recipes
    from ..editor.bake import open_target
    from ..editor.errors import RecipeError
    from ..editor.source import resolve

    if recipe_path:
        if deactivate or scale:
            raise click.UsageError("Give a recipe, or --deactivate and --scale, not both.")
        recipe = recipes.load(recipe_path)
        base = f"{recipe.base.model}@{recipe.base.revision}" if recipe.base.revision else recipe.base.model
        if (
            not model
            and not recipe.base.revision
            and "/" not in base
            and base != embedded.NAME
            and not Path(base).is_dir()
        ):
            raise RecipeError(
                f"the recipe's base was a folder called {base}, which is not here. Say where it is: "
                f"monoglot bake MODEL --recipe {recipe_path}"
            )
        model = model or base
        neurons_file = neurons_file or recipe_path.parent / recipe.neurons
    else:
        if not model or not neurons_file:
            raise click.UsageError("Name the model and the neurons file (or a --recipe).")
        if not deactivate and not scale:
            raise click.UsageError("Say what to edit: --deactivate zh, --scale fr=2.")
        recipe = recipes.Recipe(recipes.Base(model), recipes.parse_edits(deactivate, scale), shared)
    found = neurons.load(neurons_file)
    target = open_target(resolve(model, base_id))
    baked = run(target, found, recipe, output, force)
    if found.model and found.model.fingerprint != target.fingerprint:
        note(
            f"Warning: the neurons were found in {found.model.name}, {target.source.name} has other weights. "
            "On a fine-tune of it most will still be right; see the effect with `monoglot verify`."
        )
    show(baked, as_json)
    base = "" if target.source.hub or model == embedded.NAME else f" --base {model}"
    note(f"Wrote {output}. Prove it with: monoglot verify {output}{base}")


def run(target: Any, found: Any, recipe: Any, output: Path, force: bool) -> Any:
    from ..editor.bake import bake

    describe = card_writer(found.method)
    with bar("bake", "MB") as update:
        return bake(
            target, found, recipe, output, force=force, describe=describe,
            progress=lambda done, whole: update("", done // 10**6, whole // 10**6),
        )  # fmt: skip


def card_writer(method: dict[str, Any]) -> Any:
    """What `bake` and `verify` write README.md with."""
    from ..cards.render import render
    from ..editor.recipe import Base, Edit, Recipe, to_yaml

    def describe(manifest: dict[str, Any], base_folder: Path) -> str:
        base = Base(*(manifest["base"][key] for key in ("model", "revision", "fingerprint")))
        edits = tuple(Edit(**edit) for edit in manifest["recipe"]["edits"])
        return render(manifest, base_folder, to_yaml(Recipe(base, edits, manifest["recipe"]["shared"])), method)

    return describe


def show(baked: Any, as_json: bool) -> None:
    manifest = baked.manifest
    if as_json:
        answer(
            {
                "folder": str(baked.folder),
                "neurons_edited": manifest["neurons_edited"],
                "edited": manifest["edited"],
                "kept": manifest["kept"],
                "left_out": manifest["left_out"],
                "sha256": {name: entry["sha256"] for name, entry in manifest["files"].items()},
            }
        )
        return
    rows = [
        (
            edit["language"],
            edit["op"] if edit["strength"] is None else f"{edit['op']} × {edit['strength']:g}",
            manifest["edited"][edit["language"]],
            manifest["kept"][edit["language"]],
        )
        for edit in manifest["recipe"]["edits"]
    ]
    table(
        f"{baked.folder.name}: {manifest['neurons_edited']:,} neurons edited",
        ("language", "operation", "neurons edited", "kept, shared"),
        rows,
    )
    for language, kept in manifest["kept"].items():
        if kept > manifest["edited"][language]:
            note(
                f"Most neurons of {language} are shared with other languages and were kept, so the effect is weaker: "
                "--shared edit takes them too."
            )
    if manifest["left_out"]:
        note(f"Left out, other formats of the same weights: {', '.join(manifest['left_out'])}.")
