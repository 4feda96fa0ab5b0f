"""Which neurons get which factor, against a second implementation with sets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monoglot.editor.errors import NeuronsError, RecipeError
from monoglot.editor.neurons import Neurons
from monoglot.editor.recipe import SHARED, Base, Edit, Recipe, check, load, parse_edits, plan, to_yaml

LAYERS, WIDTH = 2, 6
BASE = Base("tiny")


def make(sets: dict[str, set[tuple[int, int]]]) -> Neurons:
    return Neurons(
        {
            language: tuple(np.array(sorted(j for i, j in own if i == layer), np.int64) for layer in range(LAYERS))
            for language, own in sets.items()
        }
    )


def plain_plan(
    edits: list[Edit], shared: str, sets: dict[str, set[tuple[int, int]]]
) -> tuple[dict[tuple[int, int], float], dict[str, int], dict[str, int]]:
    """(neuron -> factor, edited, kept), a neuron at a time."""
    factor_of = {edit.language: 0.0 if edit.op == "deactivate" else edit.strength for edit in edits}
    factors: dict[tuple[int, int], float] = {}
    edited, kept = dict.fromkeys(factor_of, 0), dict.fromkeys(factor_of, 0)
    for neuron in sorted(set().union(*sets.values())):
        owners = [language for language in sets if neuron in sets[language]]
        asking = [edit for edit in edits if edit.language in owners]
        if not asking:
            continue
        wanted = {factor_of.get(owner) for owner in owners}
        for edit in asking:
            if shared == "keep" and len(wanted) > 1:
                kept[edit.language] += 1
            else:
                edited[edit.language] += 1
        if shared == "edit" or len(wanted) == 1:
            winner = next((edit for edit in asking if edit.op == "deactivate"), asking[-1])
            factor = factor_of[winner.language]
            assert factor is not None
            factors[neuron] = factor
    return factors, edited, kept


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Edit], dict[str, set[tuple[int, int]]]]:
    """Up to four languages with overlapping neurons, some of them edited, the same scaling often given twice."""
    neuron = st.tuples(st.integers(0, LAYERS - 1), st.integers(0, WIDTH - 1))
    languages = ["en", "fr", "ja", "zh"][: draw(st.integers(1, 4))]
    sets = {language: draw(st.sets(neuron, max_size=7)) for language in languages}
    edits = []
    for language in draw(st.lists(st.sampled_from(languages), min_size=1, unique=True)):
        strength = draw(st.sampled_from([None, 2.0, 2.0, 0.5, 0.0, -1.0]))
        edits.append(Edit(language, "deactivate" if strength is None else "scale", strength))
    return edits, sets


@pytest.mark.parametrize("shared", SHARED)
@settings(max_examples=400, deadline=None)
@given(case=cases())
def test_plan_against_sets(shared: str, case: tuple[list[Edit], dict[str, set[tuple[int, int]]]]) -> None:
    edits, sets = case
    factors, edited, kept = plain_plan(edits, shared, sets)
    recipe = Recipe(BASE, tuple(edits), shared)
    if not factors:
        with pytest.raises(RecipeError, match=r"no neuron of .* would be edited"):
            plan(recipe, make(sets), layers=LAYERS, width=WIDTH)
        return
    made = plan(recipe, make(sets), layers=LAYERS, width=WIDTH)
    found = {
        (i, int(j)): float(factor)
        for i, layer in enumerate(made.layers)
        for j, factor in zip(layer.neurons, layer.factors, strict=True)
    }
    assert (found, made.edited, made.kept) == (factors, edited, kept)
    assert made.size == len(factors)
    for layer in made.layers:
        assert (np.diff(layer.neurons) > 0).all()  # sorted, each once
        assert (layer.neurons.dtype, layer.factors.dtype) == (np.int64, np.float64)


SETS = {"zh": {(0, 1), (0, 2), (0, 3)}, "ja": {(0, 2), (1, 0)}, "en": {(0, 3)}}


def factors_of(edits: list[Edit], shared: str) -> dict[tuple[int, int], float]:
    made = plan(Recipe(BASE, tuple(edits), shared), make(SETS), layers=LAYERS, width=WIDTH)
    return {(i, int(j)): float(f) for i, x in enumerate(made.layers) for j, f in zip(x.neurons, x.factors, strict=True)}


def test_shared_neurons_by_hand() -> None:
    """(0, 2) belongs to zh and ja, (0, 3) to zh and en."""
    off, ja_off, ja_up = Edit("zh", "deactivate"), Edit("ja", "deactivate"), Edit("ja", "scale", 2.0)
    assert factors_of([off], "keep") == {(0, 1): 0}
    assert factors_of([off], "edit") == {(0, 1): 0, (0, 2): 0, (0, 3): 0}
    assert factors_of([off, ja_off], "keep") == {(0, 1): 0, (0, 2): 0, (1, 0): 0}
    assert factors_of([off, ja_up], "keep") == {(0, 1): 0, (1, 0): 2}
    # deactivation wins, whatever comes first; of two scalings the later one
    for edits in ([off, ja_up], [ja_up, off]):
        assert factors_of(edits, "edit") == {(0, 1): 0, (0, 2): 0, (0, 3): 0, (1, 0): 2}
    zh_up = Edit("zh", "scale", 3.0)
    assert factors_of([zh_up, ja_up], "edit")[0, 2] == 2
    assert factors_of([ja_up, zh_up], "edit")[0, 2] == 3


def test_counts_by_hand() -> None:
    recipe = Recipe(BASE, (Edit("zh", "deactivate"), Edit("ja", "deactivate")))
    made = plan(recipe, make(SETS), layers=LAYERS, width=WIDTH)
    assert (made.edited, made.kept, made.size) == ({"zh": 2, "ja": 2}, {"zh": 1, "ja": 0}, 3)


def test_when_nothing_is_left_the_reason_is_said() -> None:
    with pytest.raises(RecipeError, match=r"no neuron of en would be edited\. All 1 are shared .*--shared edit"):
        factors_of([Edit("en", "deactivate")], "keep")
    recipe = Recipe(BASE, (Edit("fr", "deactivate"),))
    with pytest.raises(RecipeError, match=r"no neuron of fr would be edited\.$"):
        plan(recipe, make({**SETS, "fr": set()}), layers=LAYERS, width=WIDTH)


def test_neurons_and_model_must_fit() -> None:
    with pytest.raises(NeuronsError, match="no neurons for 'de'; there are for zh, ja, en"):
        factors_of([Edit("de", "deactivate")], "keep")
    with pytest.raises(NeuronsError, match="of a model with 2 layers, tiny has 3"):
        plan(Recipe(BASE, (Edit("zh", "deactivate"),)), make(SETS), layers=3, width=WIDTH)


# The command line's way to write edits


def test_edits_from_the_command_line() -> None:
    assert parse_edits(["zh,ja", "fr"], []) == tuple(Edit(k, "deactivate") for k in ("zh", "ja", "fr"))
    assert parse_edits([], ["fr=2", "es=0.5,vi=-1e-1"]) == (
        Edit("fr", "scale", 2.0),
        Edit("es", "scale", 0.5),
        Edit("vi", "scale", -0.1),
    )
    assert parse_edits([" zh , ja,"], ["fr = 2"]) == (
        Edit("zh", "deactivate"), Edit("ja", "deactivate"), Edit("fr", "scale", 2.0),
    )  # fmt: skip
    assert parse_edits([], []) == ()


@pytest.mark.parametrize("item", ["fr", "fr=", "fr=two", "fr=2=3", "fr:2"])
def test_a_scale_needs_a_number(item: str) -> None:
    with pytest.raises(RecipeError, match=rf"--scale {item}: write the language and a number"):
        parse_edits([], [item])


def test_deactivation_takes_no_number() -> None:
    with pytest.raises(RecipeError, match="--deactivate zh=0: it takes no number"):
        parse_edits(["zh=0"], [])


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ((), "edits nothing"),
        (parse_edits([], ["fr=inf"]), "scale needs a finite strength, .*--scale fr=2"),
        (parse_edits([], ["fr=nan"]), "scale needs a finite strength"),
        (parse_edits(["fr"], ["fr=2"]), "fr is edited twice"),
        (parse_edits(["fr,fr"], []), "fr is edited twice"),
        ((Edit("fr", "double"),), "unknown operation 'double' for fr; known: deactivate, scale"),
        ((Edit("fr", "deactivate", 1.0),), "deactivate takes no strength, fr has 1.0"),
        ((Edit("fr", "scale"),), "scale needs a finite strength"),
    ],
)
def test_impossible_edits(edits: tuple[Edit, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(Recipe(BASE, edits))


# The file


def test_a_recipe_comes_back_from_its_file(tmp_path: Path) -> None:
    """Norwegian, whose code is YAML's false; a name outside ASCII; numbers that look like text."""
    recipe = Recipe(
        Base("org/模型", "9b0c", "4f1c"),
        (Edit("no", "deactivate"), Edit("fr", "scale", 1e30), Edit("zh-Hans", "scale", -0.25)),
        "edit",
        "other.json",
    )
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert load(tmp_path / "recipe.yaml") == recipe
    assert recipe.deactivated == ("no",)


def test_a_recipe_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("""
format: 1
base: {model: google/gemma-3-270m}
edits:
  - {language: no, op: deactivate}
  - {language: fr, op: scale, strength: 2}
""")
    assert load(tmp_path / "r.yaml") == Recipe(
        Base("google/gemma-3-270m"), (Edit("no", "deactivate"), Edit("fr", "scale", 2.0)), "keep", "neurons.json"
    )
