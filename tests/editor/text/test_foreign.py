"""What acts on a terminal, or reorders a line, is in no text that is shown."""

import unicodedata

import pytest

from monoglot.editor.text.foreign import printable


@pytest.mark.parametrize("number", [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_what_acts_goes(number: int) -> None:
    kept = chr(number) if chr(number) in "\n\t" else ""
    assert printable(f"a{chr(number)}b") == f"a{kept}b"


@pytest.mark.parametrize("text", ["", "é中ش", "a\u0301", "\U0001f600", "\u00a0", "नमस्ते", "שלום"])
def test_what_is_read_stays(text: str) -> None:
    assert printable(text) == text and all(unicodedata.category(one) != "Cc" for one in text)
