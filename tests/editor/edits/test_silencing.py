"""What a recipe says of scripts, who needs them, and what a request makes of it."""

from collections import Counter

import pytest

from monoglot.cli.edit_request import request_of
from monoglot.editor.edits.recipe import Edit, Recipe, as_data, check, of_data, to_yaml
from monoglot.editor.edits.script_edit import ScriptEdit
from monoglot.editor.edits.silencing import check_needed, offered
from monoglot.editor.errors import RecipeError
from monoglot.editor.models.identity import Base

BASE = Base("tiny")
HAN = (ScriptEdit("Han", "silence"),)
COUNTS = {
    "en": Counter("the quick brown fox" * 9 + "道"),
    "zh": Counter("敏捷的棕色狐狸跳过了懒狗 HTML"),
    "ja": Counter("お米は水がほとんど透き通るまで冷たい水で洗い"),
}


def recipe(*edits: Edit, scripts: tuple[ScriptEdit, ...] = HAN, **more: object) -> Recipe:
    return Recipe(BASE, edits, scripts=scripts, **more)  # type: ignore[arg-type]


def test_a_recipe_of_scripts_alone() -> None:
    made = recipe(scripts=(*HAN, ScriptEdit("Cyrillic", "quieten", 4.0)), except_chars="々", untie=False)
    check(made)
    data = as_data(made)
    assert list(data) == ["format", "base", "untie", "silence", "except_chars", "scripts"]
    assert data["scripts"] == [{"script": "Han", "op": "silence"}, {"script": "Cyrillic", "op": "quieten", "nats": 4.0}]
    assert of_data(data) == made
    assert "scripts:" in to_yaml(made)


def test_beside_other_edits() -> None:
    made = recipe(Edit("zh", "deactivate"))
    assert of_data(as_data(made)) == made
    assert "scripts" not in as_data(Recipe(BASE, (Edit("zh", "deactivate"),)))


@pytest.mark.parametrize(
    ("scripts", "more", "word"),
    [
        ((ScriptEdit("Han", "mute"),), {}, "unknown operation 'mute'"),
        ((ScriptEdit("Han", "silence", 3.0),), {}, "silence takes no nats"),
        ((ScriptEdit("Han", "quieten"),), {}, "quieten needs nats above 0"),
        ((ScriptEdit("Han", "quieten", -1.0),), {}, "quieten needs nats above 0"),
        ((ScriptEdit("Hani", "silence"),), {}, "Did you mean Han"),
        ((ScriptEdit("han", "silence"),), {}, "is called Han"),
        ((*HAN, ScriptEdit("Han", "quieten", 2.0)), {}, "edited twice"),
    ],
)
def test_impossible(scripts: tuple[ScriptEdit, ...], more: dict[str, object], word: str) -> None:
    with pytest.raises(RecipeError, match=word):
        check(recipe(scripts=scripts, **more))


def test_settings_without_a_script() -> None:
    with pytest.raises(RecipeError, match="goes with `silence` or `quieten`"):
        check(recipe(Edit("zh", "deactivate"), scripts=(), except_chars="々"))
    with pytest.raises(RecipeError, match="the recipe edits nothing"):
        check(Recipe(BASE, ()))


def test_requests() -> None:
    made = request_of(silence=("han, Thai",), quieten=("Cyrillic=4",), except_chars="々々〆")
    assert made.scripts() == (
        ScriptEdit("Han", "silence"),
        ScriptEdit("Thai", "silence"),
        ScriptEdit("Cyrillic", "quieten", 4.0),
    )
    assert made.spared == "々〆"
    assert made.any
    assert not made.of_neurons
    for wrong, word in (
        ({"silence": ("Han=4",)}, "write the script alone"),
        ({"quieten": ("Han",)}, "the script and nats"),
        ({"silence": ("Klingon",)}, "there is no script 'Klingon'"),
    ):
        with pytest.raises(RecipeError, match=word):
            request_of(**wrong)  # type: ignore[arg-type]


def test_a_language_that_needs_the_script() -> None:
    """Chinese is meant where Han goes; Japanese is not, unless it is said."""
    for edits in ((), (Edit("zh", "deactivate"),)):
        with pytest.raises(
            RecipeError, match=r"Han is 3\d% of the letters of Japanese text.*it could not write 水.*`lose`"
        ):
            check_needed(recipe(*edits), COUNTS)
        assert check_needed(recipe(*edits), COUNTS, ("ja",)) == {"zh", "ja"}
    both = (Edit("zh", "deactivate"), Edit("ja", "redirect", 1.5, to="en"))
    assert check_needed(recipe(*both), COUNTS) == {"zh", "ja"}
    with pytest.raises(RecipeError, match="the letters of Chinese text"):
        check_needed(recipe(Edit("ja", "deactivate")), COUNTS)
    assert check_needed(recipe(scripts=(ScriptEdit("Han", "quieten", 1.0),)), COUNTS) == set()
    assert check_needed(recipe(scripts=(ScriptEdit("Thai", "silence"),)), COUNTS) == set()


def test_what_is_offered() -> None:
    off = Edit("zh", "deactivate")
    without = {language: own for language, own in COUNTS.items() if language != "ja"}
    assert offered(recipe(off, scripts=()), without) == ["Han"]
    assert offered(recipe(off, scripts=()), COUNTS) == []  # Japanese needs it
    assert offered(recipe(off), without) == []  # it is silenced already
    assert offered(recipe(Edit("en", "deactivate"), scripts=()), without) == []
