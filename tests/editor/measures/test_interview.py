"""Which prompts are chosen: of which kind, from where, and never of the kind that a search has seen unless asked for."""

import pytest

from monoglot.editor.errors import CorpusError
from monoglot.editor.measures.interview import choose_prompts, kind_of, settings
from monoglot.editor.measures.options import Options
from monoglot.editor.progress import Listener
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.prompts import embedded_prompts
from monoglot.editor.text.questions import questions

KNOWN = ("en", "fr", "zh")


def test_by_default_beginnings_and_questions_after_a_search() -> None:
    told: list[str] = []
    listener = Listener(told=told.append)
    first = choose_prompts(Options(count=2), KNOWN, ("fr",), listener)
    then = choose_prompts(Options(count=2), KNOWN, ("fr",), listener, searched=True)
    assert first == {code: embedded_prompts([code], 2)[code] for code in ("en", "zh")}
    assert then == {code: questions([code], 2)[code] for code in ("en", "zh")}
    assert "beginnings of the embedded texts" in told[0] and "everyday questions, as the search has seen" in told[1]
    assert [kind_of(Options(), searched) for searched in (False, True)] == ["beginnings", "questions"]
    assert kind_of(Options(prompts="mine.jsonl"), True) == "file"
    assert settings(Options(prompts="corpus", system="Be brief."), {"en": ["a"]})["kind"] == "corpus"


def test_beginnings_of_held_out_documents() -> None:
    options = Options(prompts="corpus", corpus=("embedded",), count=3)
    found = choose_prompts(options, KNOWN, ("fr",))
    assert set(found) == {"en", "zh"} and all(len(own) == 3 for own in found.values())
    held_out = list(open_corpus(["embedded"])["en"].part(held_out=True))
    read = list(open_corpus(["embedded"])["en"].part(held_out=False))
    assert all(any(" ".join(text.split()).startswith(prompt) for text in held_out) for prompt in found["en"])
    assert not any(" ".join(text.split()).startswith(prompt) for text in read for prompt in found["en"])


def test_documents_of_no_corpus() -> None:
    with pytest.raises(CorpusError, match="Name it with `corpus`"):
        choose_prompts(Options(prompts="corpus"), KNOWN, ())
