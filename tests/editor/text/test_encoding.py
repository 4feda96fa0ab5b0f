"""Text that was decoded in the wrong way is seen, and real text in any language is not taken for it."""

from pathlib import Path

import pytest

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.documents import read_documents
from monoglot.editor.text.encoding import wrongly_decoded

LANGUAGES = ("en", "es", "fr", "id", "ja", "vi", "zh")
OTHERS = {
    "ru": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "el": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "th": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "ar": "نص حكيم له سر قاطع وذو شأن عظيم",
    "ko": "키스의 고유조건은 입술끼리 만나야 하고",
    "hi": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा",
    "pl": "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "he": "דג סקרן שט בים מאוכזב ולפתע מצא",
}
DOUBLE = ("latin-1", "cp1251", "cp437", "koi8-r", "mac-roman")


def text(language: str) -> str:
    return "\n".join(open_corpus([embedded.NAME])[language].documents())[:3_000]


@pytest.mark.parametrize("language", LANGUAGES)
def test_real_text_is_no_mistake(language: str) -> None:
    assert all(wrongly_decoded(document) is None for document in open_corpus([embedded.NAME])[language].documents())


@pytest.mark.parametrize("sample", OTHERS.values(), ids=OTHERS)
def test_nor_is_text_in_other_scripts(sample: str) -> None:
    assert wrongly_decoded(sample) is None


@pytest.mark.parametrize("encoding", DOUBLE)
@pytest.mark.parametrize("language", ["fr", "ja", "vi", "zh"])
def test_double_encoded(tmp_path: Path, language: str, encoding: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text(language).encode().decode(encoding, "replace").encode())
    with pytest.raises(CorpusError, match=r"a\.txt was not written as UTF-8: it is UTF-8 that was read as"):
        list(read_documents(file))


@pytest.mark.parametrize(
    ("language", "encoding", "message"),
    [
        ("en", "utf-16-le", "control characters"), ("en", "utf-16-be", "control characters"), ("en", "utf-32-le", "control"),
        ("ja", "iso2022_jp", "escape sequences"), ("ko", "iso2022_kr", "escape sequences"), ("zh", "hz", "escape sequences"),
        ("ru", "utf-16-le", "control characters"), ("th", "utf-16-be", "control characters"),
    ],
)  # fmt: skip
def test_other_encodings_that_are_valid_utf8(tmp_path: Path, language: str, encoding: str, message: str) -> None:
    sample = OTHERS.get(language) or text(language)
    sample = sample.encode("ascii", "ignore").decode() if language == "en" else sample
    (tmp_path / "a.txt").write_bytes(sample.encode(encoding, "ignore"))
    try:
        (tmp_path / "a.txt").read_text(encoding="utf-8")
    except UnicodeDecodeError:
        message = "is not UTF-8"
    with pytest.raises(CorpusError, match=message):
        list(read_documents(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("language", "encoding"), [("zh", "gb18030"), ("ja", "shift_jis"), ("ru", "cp1251"), ("fr", "utf-16")]
)
def test_what_is_no_utf8_is_guessed_for_the_message(tmp_path: Path, language: str, encoding: str) -> None:
    sample = OTHERS.get(language, "") * 20 or text(language)
    (tmp_path / "a.txt").write_bytes(sample.encode(encoding, "ignore"))
    with pytest.raises(CorpusError, match=r"is not UTF-8 \(.*\); it looks like .* iconv -f "):
        list(read_documents(tmp_path / "a.txt"))


def test_a_quotation_is_no_mistake(tmp_path: Path) -> None:
    documents = [f"Voilà une phrase numéro {n}, écrite à la façon française." for n in range(20)]
    documents[7] = "Un navigateur affiche Ã©tÃ© dÃ©jÃ  vu Ã  la place."
    (tmp_path / "a.txt").write_text("\n\n".join(documents), encoding="utf-8")
    assert len(list(read_documents(tmp_path / "a.txt"))) == 20


def test_characters_that_were_lost() -> None:
    """Text that a program decoded with `errors="replace"` and saved."""
    lost = "Les élèves hésitent à l'été, déjà naïfs.".encode("latin-1").decode(errors="replace")
    assert "were lost" in str(wrongly_decoded(lost))
    assert wrongly_decoded("Un caractère est perdu ici : \ufffd, et rien de plus, à la fin de l'été.") is None
