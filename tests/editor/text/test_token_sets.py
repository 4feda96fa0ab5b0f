"""Sets of tokens: their names, and which tokens are signs."""

import pytest

from monoglot.editor.errors import RecipeError
from monoglot.editor.text.token_sets import find_signs, known


def test_names() -> None:
    assert (known(" Signs "), known("han")) == ("signs", "Han")
    with pytest.raises(RecipeError, match=r"there is no script 'sign'\. .* Besides scripts there is signs"):
        known("sign")


def test_signs_are_what_has_no_letter_but_for_what_sentences_are_made_with() -> None:
    signs = ["1", " 2024", "###", "**", "|", "<strong>", "</em", "=", "-->", "•", "$"]
    others = [" ", "\n\n", ".", "。", "、", " —", "?", "é", " word", "一", "T恤", "3rd", "", None]
    written = [None if one is None else one.encode() for one in (*signs, *others)] + [b"\xe5"]
    assert find_signs(written).tolist() == list(range(len(signs)))
