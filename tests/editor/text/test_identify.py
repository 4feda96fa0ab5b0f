"""Which language a text is in: real text, other languages, mark-up, and what cannot be told."""

import pytest

from monoglot.editor.errors import CorpusError
from monoglot.editor.text.identify import knows, language_of, share
from monoglot.editor.text.prompts import passages

LANGUAGES = ("en", "es", "fr", "id", "ja", "vi", "zh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_of_real_text(language: str) -> None:
    """The embedded passages, the first 80 characters (20 in Chinese and Japanese) of each."""
    length = 20 if language in ("zh", "ja") else 80
    assert all(language_of(text[:length], (language,)) == language for text in passages(language))


@pytest.mark.parametrize(
    ("text", "wanted", "language"),
    [
        ("Die Regierung hat ein neues Gesetz beschlossen, das ab morgen gilt", "fr", "de"),
        ("O governo aprovou uma nova lei que entra em vigor amanhã", "es", "pt"),
        ("Il governo ha approvato una nuova legge che entra in vigore domani", "fr", "it"),
    ],
)
def test_a_language_that_nobody_asked_for_is_not_taken_for_one_that_was(text: str, wanted: str, language: str) -> None:
    assert language_of(text, (wanted,)) == language
    assert language_of(text, LANGUAGES) == language
    assert share([text], wanted) == 0


def test_close_relatives_of_a_wanted_language_do_not_take_its_texts() -> None:
    text = "10 menit untuk instalasi dan pemantauan sistem operasi"
    assert language_of(text, ("id",)) == "id"
    assert language_of(text, ("ms",)) == "ms"
    assert language_of(text, ("id-ID",)) == "id"


@pytest.mark.parametrize("text", ["", "  \n", "123 456\n1. 2. 3.", "…?!", "<b></b><strong><em>", "0000000量"])
def test_what_cannot_be_told_is_undetermined(text: str) -> None:
    assert language_of(text, LANGUAGES) is None


def test_tags_do_not_hide_a_language() -> None:
    text = " le poisson a été cuit.\n\n<h2> <strong> </strong> <strong> </strong> <strong> </strong> <strong> </stro"
    assert language_of(text, ("fr",)) == "fr"


def test_a_share_counts_the_undetermined_as_wrong() -> None:
    french, german = "Le gouvernement a adopté une nouvelle loi", "Die Regierung hat ein neues Gesetz beschlossen"
    assert share([french, german, "123", french], "fr") == 0.5
    assert share([french], "fr-CA") == 1
    assert share([], "fr") == 0


def test_what_cannot_be_asked() -> None:
    assert knows("pt-BR") and not knows("tlh")
    with pytest.raises(CorpusError, match="doesn't know 'tlh'"):
        language_of("nuqneH", ("tlh",))
    with pytest.raises(CorpusError, match="id and ms cannot be told apart"):
        language_of("apa kabar", ("ms", "id"))
