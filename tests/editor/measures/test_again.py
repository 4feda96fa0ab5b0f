"""A checkpoint is asked again after a search: with which prompts, what is kept, and when it is not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monoglot.cards.maker import CARD
from monoglot.editor import embedded
from monoglot.editor.edits import manifest
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.request import Request
from monoglot.editor.export_reuse import same_checkpoint
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.measures import again
from monoglot.editor.measures.again import ask_again, prompts_for
from monoglot.editor.measures.search import bake_recipe
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.progress import Listener
from monoglot.editor.statistics.detection import Detection
from monoglot.editor.statistics.token_counts import learn
from monoglot.editor.text.corpus import open_corpus

LANGUAGES = ("en", "fr", "zh")
HERE = Detection(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(resolve(embedded.NAME))


@pytest.fixture
def folder(target: Target, tmp_path: Path) -> Path:
    """A checkpoint whose English and Chinese tokens are moved to French."""
    vocabulary = learn(target, open_corpus([embedded.NAME], LANGUAGES), tokens=2048, minimum=1000)
    edits = tuple(Edit(code, "redirect", 1.5, to="fr") for code in ("en", "zh"))
    recipe = Recipe(target.base, edits, untie=True)
    bake_recipe(target, neurons.NONE, recipe, tmp_path / "out", vocabulary=vocabulary, card=CARD)
    return tmp_path / "out"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Sixteen documents in English, each longer than twice its beginning, and too short ones in Chinese."""
    (tmp_path / "texts").mkdir()
    for code, words in {
        "en": "one two three four five six seven eight nine ten " * 3,
        "zh": "太短。",
        "fr": "court",
    }.items():
        lines = [json.dumps({"text": f"{words} {number}"}) for number in range(16)]
        (tmp_path / "texts" / f"{code}.jsonl").write_text("\n".join(lines))
    return tmp_path / "texts"


def test_held_out_documents_else_questions(corpus: Path) -> None:
    assert prompts_for([str(corpus)], LANGUAGES, "fr") == ("corpus", ("en",))
    assert prompts_for([str(corpus)], ("fr", "zh"), "fr") == ("questions", ("zh",))
    assert prompts_for([embedded.NAME], LANGUAGES, "fr") == ("questions", ("en", "zh"))
    assert prompts_for([embedded.NAME], ("xx", "fr"), "fr") == ("questions", ())


def test_the_checkpoint_is_asked_once_and_its_card_says_it(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    real = again.Subject.baked

    def baked(self: Any) -> Any:
        loaded.append(self.folder)
        return real(self)

    monkeypatch.setattr(again.Subject, "baked", baked)
    found = ask_again(folder, target, "fr", [embedded.NAME], HERE, card=CARD)["activated"]
    assert loaded == [folder]
    assert found["kind"] == "questions" and list(found["by_language"]) == ["en", "zh"]
    assert found["all"]["this model"]["answers"] == 2 * again.Options.count
    assert manifest.read(folder).measures["activated"] == found
    assert "take it as a first look" in (folder / "README.md").read_text()
    assert ask_again(folder, target, "fr", [embedded.NAME], HERE)["activated"] == found and loaded == [folder]


def test_a_checkpoint_without_the_record_of_its_search_is_made_again(folder: Path, target: Target) -> None:
    """As it is when a run ends between the two."""
    recipe = manifest.read(folder).recipe
    inputs = (target, recipe, Request(), neurons.NONE, None, None, None)
    assert same_checkpoint(folder, *inputs) and not same_checkpoint(folder, *inputs, searched=True)


def test_a_fast_model_gives_answers_enough(folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is slow where only some of the candidates were tried."""
    counts: list[int] = []
    monkeypatch.setattr(again, "evaluate", lambda subject, measures, options, **_: counts.append(options.count) or {})
    known = manifest.read(folder)
    for subset in (True, False):
        found: Any = replace(known, candidates={"subset": subset})
        monkeypatch.setattr(again.manifest_file, "read", lambda _, found=found: found)
        ask_again(folder, target, "fr", [embedded.NAME], HERE)
    assert counts == [8, 100]  # of prompts in English and Chinese


def test_it_is_said_when_it_is_not_asked(folder: Path, target: Target, tmp_path: Path) -> None:
    lines: list[str] = []
    listener = Listener(told=lines.append)
    large = Detection(device="cpu", dtype="float32", streaming=Streaming("layers"))
    assert ask_again(folder, target, "fr", [embedded.NAME], large, listener=listener) == {}
    assert "do not fit in memory together" in lines.pop()


def test_no_prompts(folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "prompts_for", lambda *_: ("questions", ()))
    lines: list[str] = []
    assert ask_again(folder, target, "fr", [embedded.NAME], HERE, listener=Listener(told=lines.append)) == {}
    assert "there are no questions in one" in lines.pop()
