"""Unicode's scripts, and those of a text."""

import unicodedata

import pytest

from monoglot.editor.errors import RecipeError
from monoglot.editor.text.unicode_scripts import SCRIPTS, characters, common, known, script_of, scripts_in, written


def test_every_script_has_characters() -> None:
    assert sum(len(characters(script)) for script in SCRIPTS) <= len(written())
    for script in SCRIPTS:
        assert characters(script) <= written()
        assert not characters(script) & common()


def test_against_the_names_of_characters() -> None:
    """Letters whose names say a script are of it."""
    for script, word in (("Han", "CJK UNIFIED IDEOGRAPH"), ("Cyrillic", "CYRILLIC"), ("Thai", "THAI CHARACTER")):
        every = map(chr, range(0xA000))
        letters = {one for one in every if one.isalpha() and unicodedata.name(one, "").startswith(word)}
        assert letters <= characters(script), script
        assert letters


def test_known() -> None:
    assert known("han") == "Han"
    assert known("Meetei Mayek") == "Meetei_Mayek"
    with pytest.raises(RecipeError, match=r"no script 'Hani'\. Did you mean Han, "):
        known("Hani")
    with pytest.raises(RecipeError, match="Did you mean Cyrillic"):
        known("cyrilic")
    with pytest.raises(RecipeError, match="Known: Adlam"):
        known("xqzw")


def test_counts() -> None:
    assert scripts_in("Hello 汉字 かな мир 。1") == {"Latin": 5, "Han": 2, "Hiragana": 2, "Cyrillic": 3}
    assert script_of("。") == script_of("1") == "Common"
    assert script_of("𒀀") == "Unknown"
