"""Which language a text is in: real text, other languages, mark-up, and what cannot be told."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from monoglot.editor.errors import CorpusError
from monoglot.editor.text import identify
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


class FakeFastText:
    """A model that knows what stands before the bar: `fra_Latn 0.9, deu_Latn 0.1 | text`."""

    @property
    def f(self) -> "FakeFastText":
        return self

    def get_labels(self) -> list[str]:
        return [f"__label__{label}" for label in ("fra_Latn", "deu_Latn", "yue_Hant", "zho_Hans", "eng_Latn")]

    def predict(self, text: str, k: int, threshold: float, on_error: str) -> list[tuple[float, str]]:
        assert text.endswith("\n") and "\n" not in text[:-1]
        pairs = [one.split() for one in text.partition("|")[0].split(",")]
        return [(float(share), f"__label__{label}") for label, share in pairs]


def test_a_fasttext_model_identifies_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lid.bin"
    file.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=lambda _: FakeFastText()))
    with identify.identified_by(file):
        assert identify.language_of("fra_Latn 0.9, deu_Latn 0.1 | a\nb", ("fr",)) == "fr"
        assert identify.language_of("fra_Latn 0.6, deu_Latn 0.4 | a", ("fr",)) is None
        assert identify.is_in("yue_Hant 0.5, zho_Hans 0.4, eng_Latn 0.1 | a", "zh")  # both count as Chinese
        assert identify.language_of("deu_Latn 0.8, fra_Latn 0.2 | a", ("fr",)) == "de"
        assert not identify.knows("ja")
    assert identify.knows("ja")


def test_a_fasttext_model_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(_: str) -> None:
        raise ValueError("wrong magic number")

    with pytest.raises(CorpusError, match=r"there is no fastText model"), identify.identified_by(tmp_path / "absent"):
        pass
    file = tmp_path / "lid.bin"
    file.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(CorpusError, match=r"pip install fasttext-wheel"), identify.identified_by(file):
        pass
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=loads))
    with pytest.raises(CorpusError, match="wrong magic number"), identify.identified_by(file):
        pass


@pytest.mark.parametrize("close", ["yue", "wuu"])
def test_other_chinese_languages_count_as_chinese(close: str) -> None:
    assert close not in identify._identifier(frozenset(["zh"])).nb_classes
