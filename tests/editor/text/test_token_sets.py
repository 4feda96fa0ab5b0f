"""Sets of tokens: their names, and which tokens are in them."""

import pytest

from monoglot.editor.errors import RecipeError
from monoglot.editor.text.token_sets import find_set, known


def test_names() -> None:
    assert (known(" Signs "), known("han")) == ("signs", "Han")
    with pytest.raises(RecipeError, match=r"there is no script 'sign'\. .* Besides scripts there are signs and spaces"):
        known("sign")


def test_spaces_are_nothing_else_and_signs_what_has_no_letter_but_for_what_sentences_are_made_with() -> None:
    signs = ["1", " 2024", "###", "**", "|", "<strong>", "</em", "=", "-->", "•", "$"]
    others = [" ", "\n\n", "\u2003", "\x1c\n", ".", "。", "、", " —", "?", "é", " word", "一", "T恤", "3rd", "", None]
    written = [None if one is None else one.encode() for one in (*signs, *others)] + [b"\xe5"]
    assert find_set("signs", written).tolist() == list(range(len(signs)))
    assert [others[number - len(signs)] for number in find_set("spaces", written)] == [" ", "\n\n", "\u2003", "\x1c\n"]
