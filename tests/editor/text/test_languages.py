"""Codes of languages are told from names that only look like one."""

from monoglot.editor.text import corpus


def test_codes_of_languages() -> None:
    """A language is two or three small letters, perhaps with subtags."""
    good = ["en", "yue", "pt-BR", "pt_br", "zh-Hans", "sr-Latn-RS"]
    bad = ["", "e", "EN", "notes", "readme", "en.", "en-", "e1", "zh-H", "en txt"]
    assert all(corpus.LANGUAGE.fullmatch(code) for code in good)
    assert not any(corpus.LANGUAGE.fullmatch(code) for code in bad)
