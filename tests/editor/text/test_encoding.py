"""Text that was decoded in the wrong way is seen, and real text in any language is not taken for it."""

import json
import warnings
from itertools import count, islice
from pathlib import Path

import pytest

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError, MonoglotWarning
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.documents import read_documents
from monoglot.editor.text.encoding import rightly_decoded, wrongly_decoded

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


FRENCH = [document for document in open_corpus([embedded.NAME])["fr"].documents() if not document.isascii()]
LONG = "\n".join(FRENCH)[:1_800]


def wrong(document: str) -> str:
    return document.encode().decode("latin-1")


def many(number: int) -> list[str]:
    return [f"{n}. {LONG}" for n in range(number)]


@pytest.mark.parametrize("place", [0, 1, 12, 24])
def test_one_wrong_document_is_left_out_with_a_word(tmp_path: Path, place: int) -> None:
    documents = many(25)
    documents[place] = wrong(documents[place])
    (tmp_path / "fr.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in documents), encoding="utf-8")
    with pytest.warns(
        MonoglotWarning, match=rf"fr\.jsonl: 1 of 25 .* left out\. .* document {place + 1} \(.*…\): it is"
    ):
        read = list(read_documents(tmp_path / "fr.jsonl"))
    assert read == [one for n, one in enumerate(documents) if n != place]


def test_a_wrong_part_of_a_long_document_counts() -> None:
    documents = many(25)
    documents[3] = LONG * 4 + wrong(LONG) + LONG * 4
    with pytest.warns(MonoglotWarning, match="1 of 25"):
        assert len(list(rightly_decoded(documents, "a", set()))) == 24


def test_one_warning_for_a_file_that_is_read_again(tmp_path: Path) -> None:
    documents = many(25)
    documents[2] = wrong(documents[2])
    (tmp_path / "fr.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in documents), encoding="utf-8")
    text = open_corpus([str(tmp_path)])["fr"]
    with pytest.warns(MonoglotWarning) as said:
        first, second = list(text.documents()), list(text.part(held_out=True))
    assert len(said) == 1
    assert (len(first), len(second)) == (24, 4)


def test_whoever_stops_in_between_is_warned() -> None:
    endless = (wrong(LONG) if n == 4 else f"{n} {LONG}" for n in count())
    with pytest.warns(MonoglotWarning, match="1 of "):
        assert len(list(islice(rightly_decoded(endless, "a", set()), 20))) == 20


def test_short_documents_are_looked_at_together() -> None:
    """None of them has enough signs by itself."""
    rows = [sentence for document in FRENCH for sentence in document.split(". ") if 20 < len(sentence) < 120]
    assert len(rows) > 100
    again = [row.encode("cp1252", "ignore").decode("cp1251", "replace") for row in rows]
    with pytest.raises(CorpusError, match="mix Latin and Cyrillic"):
        list(rightly_decoded(again, "a", set()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(rightly_decoded(rows, "a", set())) == rows


def test_a_short_wrong_document_does_not_take_its_neighbours() -> None:
    documents = [f"{n}. {document}" for n in range(30) for document in FRENCH[:8]]
    documents[40] = "\n".join(FRENCH[8:])[:1_900].encode("cp1252", "ignore").decode("cp1251", "replace")
    with pytest.warns(MonoglotWarning, match=r"1 of 240 .* document 41 \("):
        assert list(rightly_decoded(documents, "a", set())) == documents[:40] + documents[41:]


def test_a_fifth_is_too_much() -> None:
    documents = many(25)
    for n in range(0, 25, 4):
        documents[n] = wrong(documents[n])
    with warnings.catch_warnings():  # the error alone is enough
        warnings.simplefilter("error")
        with pytest.raises(CorpusError, match=r"a was not written as UTF-8: .* Save it again"):
            list(rightly_decoded(documents, "a", set()))


def test_what_is_said_of_the_first_has_no_control_characters() -> None:
    documents = ["\x1b[31m" + wrong(LONG), *many(25)]
    with pytest.warns(MonoglotWarning) as said:
        list(rightly_decoded(documents, "a", set()))
    assert "\x1b" not in str(said[0].message)


def test_a_text_of_ascii_alone_can_be_wrong() -> None:
    assert "UTF-7" in str(wrongly_decoded("".join(FRENCH)[:1_500].encode("utf-7").decode()))
    assert wrongly_decoded("Press Shift+PageUp or Ctrl+Alt+Home, a+b, C++17-mode.") is None
