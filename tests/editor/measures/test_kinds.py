"""The table of what a search tries: every candidate is a request that makes a recipe."""

import pytest

from monoglot.editor import embedded
from monoglot.editor.edits.request import Request
from monoglot.editor.measures.kinds import KINDS, Candidate, candidates, read_at
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

REQUEST = Request(activate=("fr",), choose=True, carrier="flag")
POINTS = {
    "vector": "embedding", "redirect and vector": "embedding", "vector inside, ⅓": 2, "vector inside": 3,
    "vector inside, ⅔": 4, "readers, ⅙": 1, "readers, ⅓": 2, "readers, ½": 3,
}  # fmt: skip  # of six layers


def test_the_likeliest_of_each_kind_come_first() -> None:
    whole = list(candidates())
    assert [one.kind for one in whole[: len(KINDS)]] == list(KINDS) == [one.kind for one in candidates(few=True)]
    assert len({one.name for one in whole}) == len(whole) == sum(len(k.strengths) * len(k.rates or (0,)) for k in KINDS)


@pytest.mark.parametrize("candidate", list(candidates()), ids=lambda one: one.name)
def test_each_makes_a_recipe_that_speaks_the_language(candidate: Candidate) -> None:
    target = open_target(resolve(embedded.NAME))
    request = candidate.request(REQUEST, target.feed_forward.layers)
    assert not request.choose and not request.searches_on and request.carrier == "flag"
    recipe = request.recipe(target, ("en", "fr", "zh"), float(request.strength or 0), counted=("en", "fr", "zh"))
    moved = {(edit.language, edit.to, edit.strength) for edit in recipe.redirects}
    constants = {(edit.language, edit.strength) for edit in recipe.of_neurons if edit.constant and not edit.held}
    if candidate.kind.name == "redirect":
        assert moved == {("en", "fr", candidate.strength), ("zh", "fr", candidate.strength)} and not constants
    elif candidate.kind.name == "redirect, quieter":
        assert moved == {("en", "fr", 1.5), ("zh", "fr", 1.5)} and not constants
        less = [(one.script, one.op, one.nats) for one in recipe.scripts]
        assert less == [(name, "quieten", candidate.strength) for name in ("signs", "spaces")]
    elif candidate.kind.name.startswith("readers"):
        assert moved == {("en", "fr", candidate.strength), ("zh", "fr", candidate.strength)} and not constants
        assert {edit.point for edit in recipe.readers} == {POINTS[candidate.kind.name]} and not recipe.of_tokens
    elif candidate.kind.name in POINTS:
        (edit,) = recipe.vectors
        assert (edit.language, edit.strength) == ("fr", candidate.strength) and recipe.activated == ("fr",)
        assert edit.point == POINTS[candidate.kind.name]
        both = candidate.kind.name == "redirect and vector"
        assert moved == ({("en", "fr", 1.5), ("zh", "fr", 1.5)} if both else set())
    else:
        assert constants == {("fr", candidate.strength)} and bool(moved) == (candidate.kind.name == "both")
    assert {edit.language for edit in recipe.of_neurons if edit.held} == (
        {"en", "zh"} if candidate.kind.name == "neurons" else set()
    )


@pytest.mark.parametrize(("layers", "places"), [(6, [1, 2, 3]), (18, [3, 6, 9]), (30, [5, 10, 15]), (1, [0])])
def test_readers_are_fitted_where_they_are_tried(layers: int, places: list[int]) -> None:
    assert read_at(layers) == places
    asked = [one.request(REQUEST, layers).point for one in candidates() if one.kind.name.startswith("readers")]
    assert sorted(set(map(int, map(str, asked)))) == places
