"""monoglot diff: what distinguishes two checkpoints, and the recipe that makes the one from the other."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import answer, bar, note, table
from ..terminal import quoted, say

if TYPE_CHECKING:
    from ...editor.edits.manifest import Manifest
    from ...editor.edits.recipe import Recipe
    from ...editor.neurons.neurons import Neurons
    from ...editor.proof.as_recipe import Said
    from ...editor.proof.difference import Difference, TensorDifference

SHOWN = 20  # tensors, keys and files, each
WIDE = 60  # characters of a value
NEURONS = "neurons.json"  # beside the recipe


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--recipe",
    "recipe_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"Write the difference as a recipe, and {NEURONS} beside it: with them `monoglot bake A` gives B's weights again, "
    "byte for byte. For neurons that were deactivated or scaled; constants in biases are not recognised.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option(
    "--exit-code", is_flag=True, help="Exit with 1 when they differ. Otherwise it is 0 whether or not they do."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(a: str, b: str, recipe_path: Path | None, force: bool, exit_code: bool, as_json: bool) -> None:
    """Say what distinguishes two checkpoints, A and B: folders, Hub ids, or `embedded`.

    Compares tensors by name, whichever files they lie in, then configs, metadata and every other file. How the weights are
    spread over files is no difference.

    \b
    monoglot diff google/gemma-3-270m OUT
    monoglot diff A B --recipe found/recipe.yaml
    monoglot diff A B --exit-code
    """
    from ...editor.errors import RecipeError
    from ...editor.models.source import resolve
    from ...editor.proof.as_recipe import as_recipe
    from ...editor.proof.difference import difference

    if force and not recipe_path:
        raise click.UsageError("--force goes with --recipe.")
    if recipe_path:
        check_free(recipe_path, force)
    one, other = resolve(a), resolve(b)
    with bar("diff", "MB") as update:
        found = difference(one, other, lambda done, whole: update("", done // 10**6, whole // 10**6))
    said = as_recipe(one, other, found)
    if as_json:
        answer(data(found, said))
    else:
        show(found, said, (a, b), recipe_path)
    if recipe_path:
        if said.recipe is None or said.neurons is None:
            raise RecipeError(f"there is no recipe that makes {b} from {a}: {said.reason}. Nothing was written.")
        write(said.recipe, said.neurons, recipe_path)
        note(
            f"Wrote {recipe_path} and {NEURONS} beside it. B's weights again: "
            f"monoglot bake {quoted(a)} --recipe {quoted(recipe_path)}"
        )
    if exit_code and found.any:
        raise SystemExit(1)


def check_free(path: Path, force: bool) -> None:
    """Raise OutputError when one of the files is there, or can't be."""
    from ...editor.errors import OutputError
    from ...editor.files.output import check_absent

    if path.name == NEURONS:
        raise OutputError(f"{path} is where the neurons go. Choose another name, for example recipe.yaml.")
    for each in (path, path.with_name(NEURONS)):
        check_absent(each, force=force)


def write(recipe: "Recipe", neurons: "Neurons", path: Path) -> None:
    from ...editor.edits import recipe as recipes
    from ...editor.files.output import replace_file
    from ...editor.neurons.neurons import save

    save(neurons, path.with_name(NEURONS))
    replace_file(path, recipes.to_yaml(replace(recipe, neurons=NEURONS)).encode())


def data(found: "Difference", said: "Said") -> dict[str, Any]:
    """For programs. A key that a config doesn't have stands on its own side alone."""
    from ...editor.edits import recipe as recipes

    return {
        "differ": found.any,
        "weights_differ": found.weights,
        "tensors": {
            "same": found.same,
            "changed": [asdict(each) for each in found.changed],
            "other_form": {name: dict(zip("AB", forms, strict=True)) for name, forms in found.other_form.items()},
            "only_in": dict(zip("AB", found.only, strict=True)),
        },
        "config": _sides(found.config),
        "config_respelled": list(found.respelled),
        "metadata": _sides(found.metadata),
        "files": {"same": list(found.same_files), "differ": found.files},
        "shards": dict(zip("AB", found.shards, strict=True)),
        "fingerprints": dict(zip("AB", found.fingerprints, strict=True)),
        "recipe": recipes.as_data(said.recipe) if said.recipe else None,
        "no_recipe": said.reason or None,
        "made_by_recipe": {
            side: {key: manifest.to_data()[key] for key in ("base", "recipe")} if manifest else None
            for side, manifest in zip("AB", found.manifests, strict=True)
        },
    }


def _sides(pairs: dict[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    from ...editor.proof.difference import ABSENT

    return {
        key: {side: value for side, value in zip("AB", values, strict=True) if value is not ABSENT}
        for key, values in pairs.items()
    }


def show(found: "Difference", said: "Said", names: tuple[str, str], recipe_path: Path | None) -> None:
    say(f"A  {names[0]}\nB  {names[1]}\n")
    _tensors(found)
    for title, pairs in (("config", found.config), ("metadata", found.metadata)):
        if pairs:
            rows = [(key, _value(one), _value(other)) for key, (one, other) in pairs.items()]
            _first_rows(title, ("key", "A", "B"), rows)
        else:
            say(f"{title}: the same")
    if found.respelled:
        say(f"only the older spelling of what both configs say: {', '.join(found.respelled)}")
    if found.files:
        _first_rows("other files", ("file", ""), list(found.files.items()))
        say(f"{len(found.same_files)} others are the same")
    else:
        say(f"other files: the same, {len(found.same_files)} of them")
    _recipe(found, said, recipe_path)
    if not found.any:
        say("A and B are the same.")


def _tensors(found: "Difference") -> None:
    parts = [f"{found.same:,} the same"]
    parts += [f"{len(found.changed):,} changed"] * bool(found.changed)
    parts += [f"{len(found.other_form):,} of another shape or dtype"] * bool(found.other_form)
    for side, only in zip("AB", found.only, strict=True):
        parts += [f"{len(only):,} only in {side}"] * bool(only)
    spread = f", in {found.shards[0]} and {found.shards[1]} files" if found.shards[0] != found.shards[1] else ""
    say(f"tensors: {', '.join(parts)}{spread}")
    if found.changed:
        rows = [
            (
                each.name,
                _form(each),
                f"{each.numbers:,}",
                _where(each),
                _figure(each.largest),
                _figure(each.largest_relative),
            )
            for each in found.changed
        ]
        _first_rows("", ("changed tensor", "", "numbers", "in", "largest change", "relative"), rows)
    if found.other_form:
        _first_rows("", ("tensor", "A", "B"), [(name, *forms) for name, forms in found.other_form.items()])
    for side, only in zip("AB", found.only, strict=True):
        if only:
            _first_rows("", (f"tensor only in {side}",), [(name,) for name in only])


def _form(each: "TensorDifference") -> str:
    return f"{each.dtype} {' × '.join(map(str, each.shape))}"


def _where(each: "TensorDifference") -> str:
    """Name the rows or the columns that changed, whichever are the smaller share."""
    rows = (each.shape or (1,))[0]
    if len(each.shape) == 2 and each.columns and each.columns / each.shape[1] < each.rows / rows:
        what, count, whole, first = "columns", each.columns, each.shape[1], each.first_columns
    else:
        what, count, whole, first = "rows", each.rows, rows, each.first_rows
    named = f": {', '.join(map(str, first))}{' …' if count > len(first) else ''}" if count < whole else ""
    return f"{count:,} of {whole:,} {what}{named}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _value(value: object) -> str:
    from ...editor.proof.difference import ABSENT

    text = "–" if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDE else f"{text[: WIDE - 1]}…"


def _first_rows(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    def plain(text: str) -> str:  # names and values are the files'
        return "".join(one if one.isprintable() else "�" for one in text)

    table(title, columns, [tuple(map(plain, row)) for row in rows[:SHOWN]])
    if len(rows) > SHOWN:
        say(f"… and {len(rows) - SHOWN:,} more: --json lists them all.")


def _recipe(found: "Difference", said: "Said", recipe_path: Path | None) -> None:
    from ...cards.words import wording

    a, b = found.manifests
    for side, manifest, other in (("B", b, 0), ("A", a, 1)):
        if manifest and manifest.base.fingerprint == found.fingerprints[other]:
            say(f"{side} was made from {'AB'[other]} by monoglot {manifest.monoglot}:")
            for edit in manifest.recipe.edits:
                say(f"  {edit.language}: {wording.operation(edit)}")
            for script in manifest.recipe.scripts:
                say(f"  {script.script}: {wording.script_operation(script)}")
    if a and b:
        _recipes(a, b)
    if said.recipe and said.neurons:
        say("as a recipe, which gives B's weights from A's byte for byte:")
        for edit in said.recipe.edits:
            how = "deactivated" if edit.op == "deactivate" else f"scaled × {edit.strength!r}"
            say(f"  {said.neurons.count(edit.language):,} neurons {how}")
        if not recipe_path:
            note("Write it with --recipe FILE.")
    elif found.weights:
        say(f"as a recipe: no, {said.reason}")


def _recipes(a: "Manifest", b: "Manifest") -> None:
    """Two checkpoints of monoglot's: what either does to each language."""
    from ...editor.edits.manifest import recipe_record

    if a.base.fingerprint != b.base.fingerprint:
        say(f"They were made from other models: A from {a.base.model}, B from {b.base.model}.")
        return
    ours, theirs = _operations(a), _operations(b)
    one_recipe, other_recipe = (recipe_record(each.recipe) for each in (a, b))
    settings = [
        (name, one_recipe.get(key), other_recipe.get(key))
        for key, name in (
            ("shared", "shared neurons"),
            ("carrier", "carrier"),
            ("slots", "slots"),
            ("compat_config", "older config keys"),
            ("except_chars", "characters that may still be written"),
        )
    ]
    table(
        f"recipes for {a.base.model}",
        ("language", "A", "B"),
        [
            *((k, ours.get(k, "not edited"), theirs.get(k, "not edited")) for k in dict.fromkeys([*ours, *theirs])),
            *((name, _setting(one), _setting(other)) for name, one, other in settings if one != other),
        ],
    )


def _operations(manifest: "Manifest") -> dict[str, str]:
    """Return what was done to each language; its neurons and its tokens may both be edited."""
    from ...cards.words import wording

    done: dict[str, list[str]] = {}
    for edit in manifest.recipe.edits:
        done.setdefault(edit.language, []).append(wording.operation(edit))
    for script in manifest.recipe.scripts:
        done.setdefault(script.script, []).append(wording.script_operation(script))
    return {language: ", ".join(each) for language, each in done.items()}


def _setting(value: object) -> str:
    return "added" if value is True else str(value or "–")
