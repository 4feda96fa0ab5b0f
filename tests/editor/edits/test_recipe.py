"""What becomes of which neuron, against a second implementation with sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monoglot.cli.edit_request import request_of
from monoglot.editor.edits.plan import Plan, plan
from monoglot.editor.edits.recipe import NEURON_OPS, SHARED, Edit, Recipe, as_data, check, load, of_data, to_yaml
from monoglot.editor.errors import NeuronsError, RecipeError
from monoglot.editor.models.identity import Base
from monoglot.editor.neurons.neurons import Neurons, save
from monoglot.editor.neurons.neurons import load as load_neurons

LAYERS, WIDTH = 2, 6
BASE = Base("tiny")


def parse_edits(
    deactivate: Sequence[str] = (), scale: Sequence[str] = (), languages: Sequence[str] = (), strength: float = 1.0,
    layers: tuple[int, int] | None = None, **options: Any,
) -> tuple[Edit, ...]:  # fmt: skip
    """The edits that options as on a command line ask for."""
    request = request_of(deactivate, scale=scale, **{"op": "pin", **options})
    return request.edits(languages, strength, layers)


def value_of(name: str, language: str, layer: int, neuron: int) -> float:
    """A number that no other statistic, language or neuron has, and that is 0 for a few."""
    number = NAMES.index(name) * 1000 + ord(language[0]) * 100 + layer * 10 + neuron + 0.5
    return 0.0 if neuron == 4 and name == "median" else number * (-1) ** neuron


NAMES = ("mean", "median", "mean@fr")


def make(sets: dict[str, set[tuple[int, int]]]) -> Neurons:
    def by_layer(own: set[tuple[int, int]]) -> tuple[list[int], ...]:
        return tuple(sorted(j for i, j in own if i == layer) for layer in range(LAYERS))

    return Neurons(
        {language: tuple(np.array(layer, np.int64) for layer in by_layer(own)) for language, own in sets.items()},
        {
            name: {
                language: tuple(
                    np.array([value_of(name, language, i, j) for j in layer]) for i, layer in enumerate(by_layer(own))
                )
                for language, own in sets.items()
            }
            for name in NAMES
        },
    )


Does = tuple[float, float, float]  # factor, constant, shift


def plain_does(edit: Edit, neuron: tuple[int, int]) -> Does:
    held = 0.0
    if edit.value is not None and edit.strength is not None:
        held = edit.strength * value_of(edit.value, edit.language, *neuron)
    if edit.op == "scale":
        assert edit.strength is not None
        return (edit.strength, 0.0, 0.0)
    return {
        "deactivate": (0.0, 0.0, 0.0), "pin": (0.0, held, 0.0), "add": (1.0, held, 0.0), "shift": (1.0, 0.0, held),
    }[edit.op]  # fmt: skip


def plain_plan(
    edits: list[Edit], shared: str, sets: dict[str, set[tuple[int, int]]]
) -> tuple[dict[tuple[int, int], Does], dict[str, int], dict[str, int]]:
    """(neuron -> what becomes of it, edited, kept), a neuron at a time."""
    does: dict[tuple[int, int], Does] = {}
    edited, kept = {edit.language: 0 for edit in edits}, {edit.language: 0 for edit in edits}
    for neuron in sorted(set().union(*sets.values())):
        owners = {language for language in sets if neuron in sets[language]}
        asking = [
            edit for edit in edits
            if edit.language in owners and (edit.layers is None or edit.layers[0] <= neuron[0] <= edit.layers[1])
        ]  # fmt: skip
        unasked = owners - {edit.language for edit in asking}
        disputed = bool(unasked) or len({(edit.op, edit.strength, edit.value) for edit in asking}) > 1
        for edit in asking:
            if shared == "keep" and disputed:
                kept[edit.language] += 1
            else:
                edited[edit.language] += 1
        if asking and (shared == "edit" or not disputed):
            constants = [edit for edit in asking if edit.op in ("pin", "add", "shift")]
            off = [edit for edit in asking if edit.op == "deactivate"]
            does[neuron] = plain_does((constants or off or asking)[-1], neuron)
    return does, edited, kept


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Edit], dict[str, set[tuple[int, int]]]]:
    """Up to four languages with overlapping neurons, some of them edited, the same thing often asked for twice."""
    neuron = st.tuples(st.integers(0, LAYERS - 1), st.integers(0, WIDTH - 1))
    languages = ["en", "fr", "ja", "zh"][: draw(st.integers(1, 4))]
    sets = {language: draw(st.sets(neuron, max_size=7)) for language in languages}
    edits = []
    for language in draw(st.lists(st.sampled_from(languages), min_size=1, unique=True)):
        op = draw(st.sampled_from(["deactivate", *NEURON_OPS]))
        strength, value = None, None
        if op == "scale":
            strength = draw(st.sampled_from([2.0, 2.0, 0.5, 0.0, -1.0]))
        elif op != "deactivate":
            strength, value = draw(st.sampled_from([1.0, 1.0, -2.0])), draw(st.sampled_from(NAMES))
        edits.append(Edit(language, op, strength, value, draw(st.sampled_from([None, None, (0, 0), (1, 1), (0, 1)]))))
    return edits, sets


@pytest.mark.slow
@pytest.mark.parametrize("shared", SHARED)
@settings(max_examples=400, deadline=None)
@given(case=cases())
def test_plan_against_sets(shared: str, case: tuple[list[Edit], dict[str, set[tuple[int, int]]]]) -> None:
    edits, sets = case
    does, edited, kept = plain_plan(edits, shared, sets)
    recipe = Recipe(BASE, tuple(edits), shared)
    if not does:
        with pytest.raises(RecipeError, match=r"no neuron of .* would be edited"):
            plan(recipe, make(sets), layers=LAYERS, width=WIDTH)
        return
    made = plan(recipe, make(sets), layers=LAYERS, width=WIDTH)
    assert (does_of(made), made.edited, made.kept) == (does, edited, kept)
    assert made.size == len(does)
    assert made.constant == any(constant or shift for _, constant, shift in does.values())
    for i, layer in enumerate(made.layers):
        assert (np.diff(layer.neurons) > 0).all()  # sorted, each once
        assert layer.neurons.dtype == np.int64
        assert {layer.factors.dtype, layer.constants.dtype, layer.shifts.dtype} == {np.dtype(np.float64)}
        here = {j: what for (n, j), what in does.items() if n == i}
        assert layer.freed.tolist() == [j for j, what in here.items() if what == (0, 0, 0)]
        assert layer.neurons[layer.pinned].tolist() == [j for j, (k, c, _) in here.items() if k == 0 and c]
        assert layer.neurons[layer.added].tolist() == [j for j, (k, c, _) in here.items() if k and c]
        assert layer.constant == any(constant or shift for _, constant, shift in here.values())
        half = np.arange(len(layer.neurons)) % 2 == 0
        assert layer.take(half).neurons.tolist() == layer.neurons[::2].tolist()
        assert layer.take(half).shifts.tolist() == layer.shifts[::2].tolist()


def does_of(made: Plan) -> dict[tuple[int, int], Does]:
    return {
        (i, int(j)): (float(factor), float(constant), float(shift))
        for i, layer in enumerate(made.layers)
        for j, factor, constant, shift in zip(layer.neurons, layer.factors, layer.constants, layer.shifts, strict=True)
    }


SETS = {"zh": {(0, 1), (0, 2), (0, 3)}, "ja": {(0, 2), (1, 0)}, "en": {(0, 3)}}


def factors_of(edits: list[Edit], shared: str) -> dict[tuple[int, int], float]:
    made = plan(Recipe(BASE, tuple(edits), shared), make(SETS), layers=LAYERS, width=WIDTH)
    return {neuron: factor for neuron, (factor, _, _) in does_of(made).items()}


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


def test_constants_by_hand() -> None:
    """Of a neuron that two languages share: the constant wins, whatever comes first, and of two the later one."""
    off, pin = Edit("zh", "deactivate"), Edit("ja", "pin", 2.0, "mean")
    for edits in ((off, pin), (pin, off)):
        made = does_of(plan(Recipe(BASE, edits, "edit"), make(SETS), layers=LAYERS, width=WIDTH))
        assert made[0, 2] == (0.0, 2 * value_of("mean", "ja", 0, 2), 0.0)
        assert made[0, 1] == (0.0, 0.0, 0.0)
    shift = Edit("zh", "shift", 1.0, "median")
    for edits, expected in (
        ((pin, shift), (1.0, 0.0, value_of("median", "zh", 0, 2))),
        ((shift, pin), (0.0, 2 * value_of("mean", "ja", 0, 2), 0.0)),
    ):
        assert does_of(plan(Recipe(BASE, edits, "edit"), make(SETS), layers=LAYERS, width=WIDTH))[0, 2] == expected
    kept = plan(Recipe(BASE, (pin, shift)), make(SETS), layers=LAYERS, width=WIDTH)
    assert (0, 2) not in does_of(kept) and kept.kept == {"ja": 1, "zh": 2}
    held = Edit("zh", "pin", 1.0, "mean@fr")
    assert held.held == "fr" and pin.held is None
    assert does_of(plan(Recipe(BASE, (held,)), make(SETS), layers=LAYERS, width=WIDTH)) == {
        (0, 1): (0.0, value_of("mean@fr", "zh", 0, 1), 0.0)
    }


def test_values_are_those_that_the_file_of_neurons_would_have(tmp_path: Path) -> None:
    """Which has fewer digits; the plan of neurons in memory must be that of the file, which verify reads."""
    exact = Neurons(
        {"fr": (np.array([1]), np.array([0, 2]))},
        {"mean": {"fr": (np.array([1 / 3]), np.array([-2 / 3, 1.23456789e-5]))}},
    )
    save(exact, tmp_path / "neurons.json")
    recipe = Recipe(BASE, (Edit("fr", "pin", 3.0, "mean"),))
    one, two = (
        plan(recipe, own, layers=LAYERS, width=WIDTH) for own in (exact, load_neurons(tmp_path / "neurons.json"))
    )
    assert does_of(one) == does_of(two)


def test_a_value_that_the_neurons_do_not_have() -> None:
    """The message says which there are; only those of the language that is edited count."""
    neurons = make(SETS)
    for edit, message in (
        (
            Edit("zh", "pin", 1.0, "p90"),
            r"zh have no p90 to pin to, they have mean, median\. Use `value` mean, or .*--quantiles",
        ),
        (Edit("zh", "add", 1.0, "mean@ja"), r"zh have no mean@ja to add to, they have mean, .*`monoglot detect`"),
    ):
        with pytest.raises(NeuronsError, match=message):
            plan(Recipe(BASE, (edit,)), neurons, layers=LAYERS, width=WIDTH)
    del neurons.values["mean"]["zh"]
    plan(Recipe(BASE, (Edit("ja", "pin", 1.0, "mean"),), "edit"), neurons, layers=LAYERS, width=WIDTH)
    with pytest.raises(NeuronsError, match=r"zh have no mean to pin to, they have median\. Use `value` median"):
        plan(Recipe(BASE, (Edit("zh", "pin", 1.0, "mean"),)), neurons, layers=LAYERS, width=WIDTH)


def test_layers_by_hand() -> None:
    """Outside of an edit's layers its language asks for nothing, so a neuron that it shares is kept."""
    off, ja_off = Edit("zh", "deactivate"), Edit("ja", "deactivate", layers=(1, 1))
    assert factors_of([off, ja_off], "keep") == {(0, 1): 0, (1, 0): 0}
    assert factors_of([ja_off], "edit") == {(1, 0): 0}
    with pytest.raises(RecipeError, match="ja is to be edited up to layer 2; the last one is 1"):
        factors_of([Edit("ja", "deactivate", layers=(0, 2))], "edit")


def test_counts_by_hand() -> None:
    recipe = Recipe(BASE, (Edit("zh", "deactivate"), Edit("ja", "deactivate")))
    made = plan(recipe, make(SETS), layers=LAYERS, width=WIDTH)
    assert (made.edited, made.kept, made.size) == ({"zh": 2, "ja": 2}, {"zh": 1, "ja": 0}, 3)


def test_when_nothing_is_left_the_reason_is_said() -> None:
    with pytest.raises(RecipeError, match=r"no neuron of en would be edited\. All 1 are shared .*`shared` edit"):
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


def test_activation_from_the_command_line() -> None:
    """`others` are all but the activated ones; what is held is pinned to its mean on text in the activated language."""
    known = ("en", "fr", "zh")
    assert parse_edits(activate=["fr"]) == (Edit("fr", "pin", 1.0, "mean"),)
    assert parse_edits(activate=["fr, zh"], op="add", strength=2.5, value="p90") == (
        Edit("fr", "add", 2.5, "p90"), Edit("zh", "add", 2.5, "p90"),
    )  # fmt: skip
    assert parse_edits(["zh"], activate=["fr"], layers=(2, 5)) == (
        Edit("zh", "deactivate"), Edit("fr", "pin", 1.0, "mean", (2, 5)),
    )  # fmt: skip
    assert parse_edits(activate=["fr"], op="scale", strength=3.0) == (Edit("fr", "scale", 3.0),)
    assert parse_edits(["others"], activate=["fr"], languages=known) == (
        Edit("en", "deactivate"), Edit("zh", "deactivate"), Edit("fr", "pin", 1.0, "mean"),
    )  # fmt: skip
    assert parse_edits(["zh"], activate=["fr"], hold=["en"], strength=2.0) == (
        Edit("zh", "deactivate"), Edit("en", "pin", 1.0, "mean@fr"), Edit("fr", "pin", 2.0, "mean"),
    )  # fmt: skip
    assert parse_edits(activate=["fr"], hold=["others"], languages=known)[:2] == (
        Edit("en", "pin", 1.0, "mean@fr"), Edit("zh", "pin", 1.0, "mean@fr"),
    )  # fmt: skip
    for active in ([], ["fr,zh"]):
        with pytest.raises(RecipeError, match="the one language of `activate`"):
            parse_edits(hold=["en"], activate=active)


@pytest.mark.parametrize("item", ["fr", "fr=", "fr=two", "fr=2=3", "fr:2"])
def test_a_scale_needs_a_number(item: str) -> None:
    with pytest.raises(RecipeError, match=rf"--scale {item}: write the language and a number"):
        parse_edits([], [item])


def test_deactivation_takes_no_number() -> None:
    with pytest.raises(RecipeError, match="zh=0: write the language alone; only --scale takes a number"):
        parse_edits(["zh=0"], [])
    with pytest.raises(RecipeError, match="fr=2: write the language alone"):
        parse_edits(activate=["fr=2"])


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ((), "edits nothing"),
        (parse_edits([], ["fr=inf"]), "scale needs a finite strength, .*`scale` fr=2"),
        (parse_edits([], ["fr=nan"]), "scale needs a finite strength"),
        (parse_edits(["fr"], ["fr=2"]), "fr is edited twice"),
        (parse_edits(["fr,fr"], []), "fr is edited twice"),
        ((Edit("fr", "double"),), "unknown operation 'double' for fr; known: deactivate, scale, pin, add, shift"),
        ((Edit("fr", "deactivate", None, "mean"),), "deactivate takes no value, fr has mean"),
        ((Edit("fr", "scale", 2.0, "mean"),), "scale takes no value, fr has mean"),
        ((Edit("fr", "pin", 1.0),), "pin needs a value for fr: mean, median, p90, or mean@LANGUAGE"),
        ((Edit("fr", "add", 1.0, "most"),), "add needs a value for fr"),
        (
            (Edit("fr", "shift", None, "mean"),),
            "shift needs a finite strength other than 0 for fr; 1 is the value itself",
        ),
        ((Edit("fr", "pin", 0.0, "mean"),), "pin needs a finite strength other than 0"),
        ((Edit("fr", "pin", float("nan"), "mean"),), "pin needs a finite strength"),
        (parse_edits(["fr"], activate=["fr"]), "fr is edited twice"),
        ((Edit("fr", "deactivate", layers=(2, 1)),), r"the layers of fr are \[2, 1\]: write the first and the last"),
        ((Edit("fr", "deactivate", layers=(-1, 1)),), "the layers of fr are"),
        ((Edit("fr", "deactivate", 1.0),), "deactivate takes no strength, fr has 1.0"),
        ((Edit("fr", "scale"),), "scale needs a finite strength"),
    ],
)
def test_impossible_edits(edits: tuple[Edit, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(Recipe(BASE, edits))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"shared": "both"}, "shared is 'both'; it can be keep or edit"),
        ({"slots": "all"}, "slots is 'all'; it can be spare or deactivated"),
        ({"carrier": "pigeon"}, "unknown carrier 'pigeon'; known: auto, native, flag, llama, calibrated"),
        ({"above_tolerance": "hope"}, "above_tolerance is 'hope'; it can be refuse or leave-out"),
        ({"tolerance": 0.0}, "the tolerance is 0.0; it must be above 0"),
        ({"tolerance": float("nan")}, "the tolerance is nan"),
    ],
)
def test_impossible_recipes(more: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(Recipe(BASE, (Edit("fr", "deactivate"),), **more))


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
    assert recipe.activated == ()


def test_a_recipe_with_constants_comes_back_too(tmp_path: Path) -> None:
    edits = (
        Edit("fr", "pin", 2.0, "median", (0, 14)),
        Edit("en", "pin", 1.0, "mean@fr"),
        Edit("zh", "shift", -0.5, "p90"),
        Edit("no", "add", 1.0, "mean"),
    )
    recipe = Recipe(BASE, edits, carrier="calibrated", slots="deactivated", tolerance=0.05, above_tolerance="leave-out")
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert load(tmp_path / "recipe.yaml") == recipe == of_data(as_data(recipe))
    assert recipe.activated == ("fr", "zh", "no")


def test_carriers_are_spoken_of_only_where_one_is_needed() -> None:
    assert "carrier" not in to_yaml(Recipe(BASE, (Edit("fr", "deactivate"),), carrier="flag"))
    assert "carrier: flag" in to_yaml(Recipe(BASE, (Edit("fr", "pin", 1.0, "mean"),), carrier="flag"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("- {language: fr, op: pin, strength: yes}", "strength for fr is not a number"),
        ("- {language: fr, op: pin, strength: '2'}", "strength for fr is not a number"),
        ("- {language: fr, op: pin, value: 3}", "value for fr is not a text"),
        ("- {language: fr, op: pin, amount: 3}", "an edit has the unknown key 'amount'"),
        ("- {language: fr, op: pin, layers: 3}", "layers of fr are not a list of two whole numbers"),
        ("- {language: fr, op: pin, layers: [1, 2, 3]}", "layers of fr are not a list of two whole numbers"),
        ("- {language: fr, op: pin, layers: [no, yes]}", "layers of fr are not a list of two whole numbers"),
        ("- {language: fr, op: deactivate, value: mean}", "deactivate takes no value"),
        ("- {language: fr, op: pin}\ntolerance: much", "the tolerance is not a number"),
        ("- {language: fr, op: pin}\ncarrier: 3", "carrier is not a text"),
        ("- {language: fr, op: pin}\ncarriers: flag", "the unknown key 'carriers'"),
    ],
)
def test_malformed_constants_are_refused(change: str, message: str, tmp_path: Path) -> None:
    text = "format: 1\nbase: {model: x}\nneurons: n.json\nshared: keep\nedits:\n" + change
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load(tmp_path / "r.yaml")


def test_a_recipe_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("""
format: 1
base: {model: google/gemma-3-270m}
edits:
  - {language: no, op: deactivate}
  - {language: fr, op: scale, strength: 2}
  - {language: en, op: pin}
""")
    assert load(tmp_path / "r.yaml") == Recipe(
        Base("google/gemma-3-270m"),
        (Edit("no", "deactivate"), Edit("fr", "scale", 2.0), Edit("en", "pin", 1.0, "mean")),
        "keep",
        "neurons.json",
    )
