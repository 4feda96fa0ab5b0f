"""Malformed options and recipes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.bad_input import RECIPE, Place, change_json, monoglot, one_message
from support.folders import tree


@pytest.mark.parametrize(
    "arguments",
    [
        ("bake",),
        ("bake", "MODEL"),
        ("bake", "MODEL", "NEURONS", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--deactivate", "fr"),
        ("bake", "MODEL", "--deactivate", "fr", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--deactivate", "fr", "--recipe", "RECIPE", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--deactivate", "fr", "--shared", "burn", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "--no-such-option", "-o", "OUT"),
        ("bake", "MODEL", "NEURONS", "more", "--deactivate", "fr", "-o", "OUT"),
        ("no-such-command",),
    ],
)
def test_usage(place: Place, arguments: tuple[str, ...]) -> None:
    place.recipe("format: 1\n")
    names = {"MODEL": place.model, "NEURONS": place.neurons, "OUT": place.out, "RECIPE": place.root / "recipe.yaml"}
    before = tree(place.root)
    ended = monoglot(*(names.get(argument, argument) for argument in arguments))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: ") and ended.err.count("Error: ") == 1 and "Traceback" not in ended.err
    assert tree(place.root) == before


@pytest.mark.parametrize("scale", ["fr", "fr=", "fr=two", "=2", "fr=1=2", "fr=nan", "fr=inf", "fr=-inf", "fr=1e999"])
def test_scale_without_a_number(place: Place, scale: str) -> None:
    before = tree(place.root)
    ended = place.bake("--scale", scale)
    assert ended.code == 1
    one_message(ended)
    assert tree(place.root) == before


def test_language_twice(place: Place) -> None:
    place.refused("fr is edited twice", "Keep one", options=("--deactivate", "fr,fr"))
    place.refused("fr is edited twice", "Keep one", options=("--deactivate", "fr", "--scale", "fr=2"))


def test_the_unbroken_recipe_is_baked(place: Place) -> None:
    ended = monoglot("bake", place.model, "--recipe", place.recipe(RECIPE), "-o", place.out)
    assert ended.code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("shared:", "shred:", ("unknown key 'shred'", "known: ", "shared")),
        ("revision:", "branch:", ("base has the unknown key 'branch'",)),
        ("op: deactivate", "op: deactivate, force: 2", ("an edit has the unknown key 'force'",)),
        ("shared: keep", "7: keep", ("unknown key '7'",)),
        ("op: deactivate", "op: burn", ("unknown operation 'burn' for fr", "known: deactivate, scale")),
        ("op: deactivate", "op: [deactivate]", ("op",)),
        ("op: deactivate", "op: scale", ("scale needs a finite strength",)),
        ("op: deactivate", "op: scale, strength: .nan", ("scale needs a finite strength",)),
        ("op: deactivate", "op: scale, strength: .inf", ("scale needs a finite strength",)),
        ("op: deactivate", "op: scale, strength: much", ("recipe.yaml",)),
        ("op: deactivate", "op: scale, strength: [2]", ("recipe.yaml",)),
        ("op: deactivate", "op: deactivate, strength: 2", ("deactivate takes no strength",)),
        ("op: deactivate", "", ("is not a recipe", "op")),
        ("language: fr, ", "", ("is not a recipe", "language")),
        ("language: fr", "language: no", ("no neurons for 'no'", "en, fr, zh")),
        ("language: fr", "language: null", ()),
        ("format: 1", "format: 2", ("format is 2, this version reads 1", "Upgrade")),
        ("format: 1", "format: one", ("format is 'one'",)),
        ("format: 1\n", "", ("is not a recipe", "format")),
        ("shared: keep", "shared: burn", ("shared is 'burn'; it can be keep or edit",)),
        ("shared: keep", "shared: [keep]", ("shared is",)),
        ("{model: tiny, revision: null, fingerprint: null}", "tiny", ("base is not a mapping",)),
        ("{model: tiny, revision: null, fingerprint: null}", "{}", ("is not a recipe", "model")),
        ("fingerprint: null", "fingerprint: abc", ("recipe is for tiny with fingerprint abc", "Use that model")),
        ("fingerprint: null", "fingerprint: 7", ("fingerprint",)),
        ("  - {language: fr, op: deactivate}", "  []", ("edits nothing", "--deactivate zh")),
        ("  - {language: fr, op: deactivate}", "  fr", ("edits is not a list",)),
        ("  - {language: fr, op: deactivate}", "  7", ("is not a recipe",)),
        ("  - {language: fr, op: deactivate}", "  {fr: deactivate}", ("edits is not a list",)),
        ("  - {", "  - {language: fr, op: deactivate}\n  - {", ("fr is edited twice",)),
        ("tiny", "!!python/name:os.system ''", ("is not a recipe", "python/name")),
        ("tiny", "!!python/object/apply:os.system ['true']", ("is not a recipe", "python/object")),
        ("tiny", "!include x", ("is not a recipe",)),
        ("tiny", "*nowhere", ("is not a recipe",)),
        ("shared: keep", "? [keep]\n: 1", ("is not a recipe",)),
        ("shared: keep", "shared: 2001-99-99", ("is not a recipe",)),
        (RECIPE, "", ("the recipe is not a mapping",)),
        (RECIPE, "- 1\n", ("the recipe is not a mapping",)),
        (RECIPE, "{", ("is not a recipe",)),
        (RECIPE, RECIPE + "---\n" + RECIPE, ("is not a recipe",)),
        (RECIPE, "a: " + "[" * 20_000, ("is not a recipe",)),
    ],
)
def test_malformed_recipe(place: Place, old: str, new: str, words: tuple[str, ...]) -> None:
    assert old in RECIPE
    place.recipe_refused(RECIPE.replace(old, new), *words)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model: tiny", "model: 7"),
        ("model: tiny", "model: null"),
        ("model: tiny", "model: [tiny]"),
        ("neurons: neurons.json", "neurons: 5"),
        ("neurons: neurons.json", "neurons: null"),
        ("op: deactivate", "op: scale, strength: " + "9" * 400),
        ("op: deactivate", "op: scale, strength: yes"),
    ],
)
def test_recipe_with_values_of_another_type(place: Place, old: str, new: str) -> None:
    """Without MODEL and NEURONS, so that the recipe says which."""
    recipe = place.recipe(RECIPE.replace("model: tiny", f"model: {place.model}").replace(old, new))
    if old == "model: tiny":
        recipe = place.recipe(RECIPE.replace(old, new))
    before = tree(place.root)
    one_message(monoglot("bake", "--recipe", recipe, "-o", place.out), str(recipe))
    assert tree(place.root) == before


def set_means(value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for layers in data["languages"].values():
            for layer in layers:
                layer["mean"] = [value] * len(layer["neurons"])

    return change


def set_method(**method: Any) -> Callable[[Any], None]:
    return lambda data: data.update(method=method)


@pytest.mark.parametrize(
    "change",
    [
        set_means([1.0, 2.0]),
        set_means(float("nan")),
        set_means("1"),
        set_means(None),
        set_method(name="lape"),
        set_method(name="lape", rate="a", quantile=0.95),
        set_method(name="lape", rate=0.01, quantile=0.95, tokens=5),
        set_method(name="hand", tokens=5),
        lambda data: data.update(method=[]),
        lambda data: data["model"].update(layers="three"),
        lambda data: data["model"].update(name=7),
    ],
)
def test_neurons_with_values_of_another_type(place: Place, change: Callable[[Any], None]) -> None:
    change_json(place.neurons, change)
    place.refused()


def test_recipe_that_is_not_text(place: Place) -> None:
    place.recipe_refused(b"\xff\xfe\x00", "is not a recipe", str(place.root / "recipe.yaml"))


def test_recipe_missing(place: Place) -> None:
    ended = monoglot("bake", place.model, place.neurons, "--recipe", place.root / "gone.yaml", "-o", place.out)
    one_message(ended, f"there is no recipe {place.root / 'gone.yaml'}")


def test_recipe_reads_norwegian(place: Place) -> None:
    """YAML 1.1 takes an unquoted `no` for False."""
    change_json(place.neurons, lambda data: data["languages"].update(no=data["languages"].pop("fr")))
    recipe = place.recipe(RECIPE.replace("language: fr", "language: no"))
    assert monoglot("bake", place.model, "--recipe", recipe, "-o", place.out).code == 0
    assert json.loads((place.out / "monoglot.json").read_text())["recipe"]["edits"][0]["language"] == "no"
