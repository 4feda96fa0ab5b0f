"""Text in another language than its label says, counted by the tokens that are read."""

from itertools import chain, repeat
from typing import Any

import pytest
from support.tiny import Characters

from monoglot.editor import embedded
from monoglot.editor.text.corpus import Text, open_corpus
from monoglot.editor.text.mislabelled import mislabelled
from monoglot.editor.text.tokens import Packed, pack

TOKENIZER: Any = Characters(None)


def packed(documents: list[str], language: str, tokens: int = 10**6) -> Packed:
    return pack(Text(language, "a list", lambda: iter(documents)), TOKENIZER, tokens=tokens, context=512)


def documents(language: str) -> list[str]:
    return list(open_corpus([embedded.NAME])[language].documents())


@pytest.mark.parametrize("language", ["en", "es", "fr", "id", "ja", "vi", "zh"])
def test_embedded_texts_are_in_their_languages(language: str) -> None:
    share, guess = mislabelled(packed(documents(language), language), TOKENIZER)
    assert share < 0.02, guess


def test_the_share_is_that_of_tokens_wherever_they_stand() -> None:
    french, english = documents("fr"), documents("en")
    long = " ".join(english)[:6_000]  # one document
    some = list(chain.from_iterable(zip(french, french, strict=True)))
    alone = packed(some, "fr").tokens
    for mixed in ([long, *some], [*some, long], [*some[:40], long, *some[40:]]):
        share, guess = mislabelled(packed(mixed, "fr"), TOKENIZER)
        assert (share, guess) == (pytest.approx(len(long) / (alone + len(long)), abs=0.03), "en")
    # the held-out fifth is not read, and no more than the budget is
    assert mislabelled(packed([*some, *repeat(long, 9)], "fr", tokens=10_000), TOKENIZER)[0] < 0.02
    # whoever was asked about before makes no difference
    assert mislabelled(packed(english, "en"), TOKENIZER)[0] < 0.02


def test_what_an_identifier_cannot_tell_counts_for_the_label() -> None:
    assert mislabelled(packed(["12 + 34 = 46", "42"], "vi"), TOKENIZER) == (0.0, "")
    assert mislabelled(packed(documents("fr"), "xyz"), TOKENIZER) == (0.0, "")  # an unknown label
    assert mislabelled(packed([], "fr"), TOKENIZER) == (0.0, "")
    assert mislabelled(packed(documents("id"), "ms"), TOKENIZER)[0] < 0.02  # too close to tell
    assert mislabelled(packed(documents("zh"), "zh-Hans"), TOKENIZER)[0] < 0.02
