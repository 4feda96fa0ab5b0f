"""What a recipe says of scripts, who needs them, and what a request makes of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support import tiny

from monoglot.cli.edit_request import request_of
from monoglot.editor.edits.floor import fit_floor
from monoglot.editor.edits.recipe import Edit, Recipe, as_data, check, of_data, to_yaml
from monoglot.editor.edits.script_edit import ScriptEdit
from monoglot.editor.edits.silence import Silence, Tokens
from monoglot.editor.edits.silencing import check_needed, in_one_table, offered, told
from monoglot.editor.errors import RecipeError, StatisticsError
from monoglot.editor.models.head import Head, open_head
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import model_info, open_target
from monoglot.editor.statistics.final_states import FinalStates
from monoglot.editor.text.silenced import Staying

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
        ({"silence": (" , ",)}, "names no script"),
        ({"silence": ("Han",), "except_chars": "々Han"}, "has 'H', 'a', 'n', not of Han"),
        ({"silence": ("Han",), "except_chars": "\udcff"}, r"has '\\udcff', not of Han"),
        ({"quieten": ("Han=nan",)}, "quieten needs nats above 0"),
        ({"quieten": ("Han=-3",)}, "quieten needs nats above 0"),
        ({"quieten": ("han=4",), "silence": ("Han",)}, "Han is edited twice"),
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
    with pytest.raises(RecipeError, match=r"no text in xx.*The text is in en, ja, zh"):
        check_needed(recipe(), COUNTS, ("ja", "xx"))
    assert check_needed(recipe(), {}, ("ja",)) == set()  # without text, as where the output layer has a bias


def test_latin_is_nobodys_own() -> None:
    """It is silenced where each language that is written in it was named."""
    latin = (ScriptEdit("Latin", "silence"),)
    with pytest.raises(RecipeError, match="en is to be kept"):
        check_needed(recipe(scripts=latin), {"en": COUNTS["en"]})
    counts = {"en": COUNTS["en"], "fr": COUNTS["en"]}
    with pytest.raises(RecipeError, match="fr is to be kept"):
        check_needed(recipe(Edit("en", "deactivate"), scripts=latin), counts)
    assert check_needed(recipe(scripts=latin), counts, ("en", "fr")) == {"en", "fr"}


def test_a_beginning_of_a_character_is_named_once(tmp_path: Path) -> None:
    """A tokenizer may have it with a space before it, and without."""
    target = open_target(resolve(str(tiny.save_model(tmp_path / "base"))))
    stays = tuple(
        Staying(number, piece, many, "⌚") for number, piece, many in ((4, "e2", 115), (9, "e2", 115), (7, "e380", 7))
    )
    silence = Silence(
        model_info(target), tiny.VOCABULARY, {"Han": np.array([8])}, {"Han": Tokens(1, 0, 0, stays)}, "", (), None, None
    )
    said = "\n".join(told(target, recipe(scripts=(ScriptEdit("Han", "quieten", 1.0),)), silence))
    assert "needs them: E2 (⌚), E380 (⌚). 115 characters of Han" in said


def test_what_is_offered() -> None:
    off = Edit("zh", "deactivate")
    without = {language: own for language, own in COUNTS.items() if language != "ja"}
    assert offered(recipe(off, scripts=()), without) == ["Han"]
    assert offered(recipe(off, scripts=()), COUNTS) == []  # Japanese needs it
    assert offered(recipe(off), without) == []  # it is silenced already
    assert offered(recipe(Edit("en", "deactivate"), scripts=()), without) == []


def final_states(x: np.ndarray, below: float = -200.0) -> FinalStates:
    half = np.arange(len(x)) % 2 == 0
    same = np.full(len(x), 10.0)
    return FinalStates(x.astype(np.float32), np.full(len(x), "zh"), half, same, np.full(len(x), below), 1.0)


def cone(toward: int, n: int = 400) -> np.ndarray:
    """States around a unit vector."""
    return np.random.default_rng(toward).normal(size=(n, 16)) * 0.1 + np.eye(16)[toward]


@pytest.fixture
def first(tmp_path: Path) -> tuple[Silence, FinalStates, Head]:
    """A silence that was fitted to a model that reads the tokens as ever."""
    target = open_target(resolve(str(tiny.save_model(tmp_path / "model", "gemma3_text", tokenizer=False))))
    head, states = open_head(target), final_states(cone(3))
    direction, floor = fit_floor(states, head, 2)
    ids = {"Han": np.array([7, 9])}
    return Silence(model_info(target), head.rows, ids, {}, "", ("zh",), direction, floor), states, head


def test_one_table_where_the_direction_holds(first: tuple[Silence, FinalStates, Head]) -> None:
    silence, states, head = first
    made = in_one_table(silence, states, head, lambda given: final_states(0.5 * cone(3)))
    assert silence.floor and made.floor and silence.direction is not None
    x = (0.5 * cone(3)).astype(np.float32)[1::2]
    assert made.floor.tied and not silence.floor.tied
    assert made.floor.lowest == pytest.approx((x @ silence.direction).min(), rel=1e-3)
    assert made.floor.highest == pytest.approx(-210, rel=1e-3)
    assert (made.direction == silence.direction).all() and made.floor.strength == silence.floor.strength


def test_one_table_where_another_direction_holds(first: tuple[Silence, FinalStates, Head]) -> None:
    """The shift turns states to where w·h is about 0: w is fitted again, to both."""
    silence, states, head = first
    asked: list[Silence] = []

    def read(given: Silence) -> FinalStates:
        asked.append(given)
        return final_states(cone(5))

    made = in_one_table(silence, states, head, read)
    assert len(asked) == 2 and asked[0] is silence
    assert made.floor and made.floor.tied and made.direction is not None
    assert (cone(5) @ made.direction).min() > 0 < (cone(3) @ made.direction).min()


@pytest.mark.parametrize(
    ("turned", "below"),
    [(-cone(3), -200.0), (cone(3), 0.0)],
    ids=["no direction is positive", "tokens are likely all the same"],
)
def test_one_table_where_none_holds(turned: np.ndarray, below: float, first: tuple[Silence, FinalStates, Head]) -> None:
    silence, states, head = first
    with pytest.raises(StatisticsError, match=r"Han can't be silenced in this model.*on zh.*second table \(`untie`\)"):
        in_one_table(silence, states, head, lambda given: final_states(turned, below))
