"""What a text writes with."""

from collections import Counter

from monoglot.editor.text.corpus import Text
from monoglot.editor.text.letters import MOST, count_characters, share_of


def text(*documents: str) -> Text:
    return Text("zh", "a list", lambda: iter(documents))


def test_counts_of_all_documents() -> None:
    assert count_characters(text("火火a", "山")) == Counter({"火": 2, "a": 1, "山": 1})


def test_long_texts_are_cut() -> None:
    assert count_characters(text("ab" * MOST, "c")).total() == MOST


def test_shares_of_letters() -> None:
    counts = Counter("火山abcdef。 1")
    assert share_of("Han", counts) == 0.25
    assert share_of("Han", counts, latin=False) == 1
    assert share_of("Latin", counts, latin=False) == 0.75
    assert share_of("Han", Counter()) == 0
