"""Scripts of letters, and letters that are foreign to a language."""

import pytest

from monoglot.editor.text.scripts import foreign, script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("▁the", "LATIN"),
        ("é", "LATIN"),
        ("火", "CJK"),
        (" の", "HIRAGANA"),
        ("한", "HANGUL"),
        ("12 + 3", ""),
        ("\ufffd", ""),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


@pytest.mark.parametrize(
    ("text", "language", "letters"),
    [
        ("The rice 米饭 is done.", "en", "米饭"),
        ("Крепкий rice", "fr", "Крепкий"),
        ("米をとぐ、WiFi、カタカナー", "ja", ""),
        ("米をとぐ", "zh", "をとぐ"),
        ("先淘米，再煮饭。 10 µs", "zh-Hans", ""),
        ("a ª º 𝑥 １２ ＡＢ", "es", ""),
        ("Добро došli", "sr", ""),
    ],
)
def test_letters_of_another_script(text: str, language: str, letters: str) -> None:
    assert "".join(foreign(text, language)) == letters
