"""What stands at a place as documents by language, and what is said of a place that has none."""

import gzip
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.texts import DOCUMENTS, text_of, write_jsonl, write_parquet

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError, MonoglotWarning
from monoglot.editor.text.corpus import open_corpus


def write_txt(path: Path, documents: list[str] = DOCUMENTS) -> None:
    path.write_text("\n\n".join(documents), encoding="utf-8")


# Files


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write"),
    [("a.txt", write_txt), ("a.jsonl", write_jsonl), ("a.jsonl.gz", write_jsonl), ("a.parquet", write_parquet)],
)
def test_every_kind_of_file_gives_its_documents(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    text = open_corpus([f"vi={tmp_path / name}"])["vi"]
    assert list(text.documents()) == DOCUMENTS
    assert list(text.documents()) == DOCUMENTS  # a new pass each time
    assert text.origin == name


def test_a_folder_has_a_file_or_a_folder_a_language(tmp_path: Path) -> None:
    write_txt(tmp_path / "fr.txt", ["a", "b"])
    write_jsonl(tmp_path / "zh-Hans.jsonl.gz", ["c"])
    (tmp_path / "yue" / "deep").mkdir(parents=True)
    write_jsonl(tmp_path / "yue" / "1.jsonl", ["d"])
    write_parquet(tmp_path / "yue" / "deep" / "2.parquet", ["e"])
    texts = open_corpus([str(tmp_path)])
    assert {language: list(text.documents()) for language, text in texts.items()} == {
        "fr": ["a", "b"],
        "yue": ["d", "e"],
        "zh-Hans": ["c"],
    }


def test_what_is_not_named_by_a_language_is_passed_over(tmp_path: Path) -> None:
    write_txt(tmp_path / "fr.txt")
    for stray in ("readme.txt", "notes.txt", "README.md", "LICENSE", "fr.bak", "FR.txt", ".fr.txt", "french.jsonl"):
        (tmp_path / stray).write_bytes(b"\xff\xfe not text")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "en.txt").write_text("not a language's folder")
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "._1.txt").write_bytes(b"\xff what macOS leaves")
    (tmp_path / "de" / "1.txt").mkdir()
    with pytest.warns(MonoglotWarning) as warned:
        assert list(open_corpus([str(tmp_path)])) == ["fr"]
    said = str(warned[0].message)
    for name in (
        "notes.txt (it is not named by a language",
        "FR.txt (languages are written in small letters: fr.txt)",
        "french.jsonl",
    ):
        assert name in said
    assert not any(name in said for name in ("README", "readme", "LICENSE", "fr.bak", ".fr.txt", "de ("))


def test_a_name_that_only_looks_like_a_language_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("fr", "all", "zh-en", "pt-BR"):
        write_txt(tmp_path / f"{name}.txt", [name])
    (tmp_path / "old").mkdir()
    write_txt(tmp_path / "old" / "zh-2019.txt", ["old"])
    with pytest.warns(MonoglotWarning, match=r"all\.txt \(all is not known as a language.*old \(.*zh-en\.txt \("):
        assert list(open_corpus([str(tmp_path)])) == ["fr", "pt-BR"]
    with pytest.warns(MonoglotWarning, match=r"zh-en\.txt"):
        asked = open_corpus([str(tmp_path)], ["all", "old"])
    assert {language: list(text.documents()) for language, text in asked.items()} == {"all": ["all"], "old": ["old"]}


def test_tables_with_a_column_of_text_are_read_and_others_named(tmp_path: Path) -> None:
    (tmp_path / "en.csv").write_text('id,text\n1,"One, and\n\ntwo."\n2,\n3,three\n', encoding="utf-8-sig")
    (tmp_path / "fr.tsv").write_text("text\tid\nUn, deux.\t1\n", encoding="utf-8")
    (tmp_path / "es.csv").write_text("Una línea\nsin cabecera, ni columna\n", encoding="utf-8")
    (tmp_path / "vi.json").write_text("[]")
    with pytest.warns(MonoglotWarning, match=r"es\.csv \(it has no column 'text'\); vi\.json \(it is none of"):
        texts = open_corpus([str(tmp_path)])
    assert {language: list(text.documents()) for language, text in texts.items()} == {
        "en": ["One, and\n\ntwo.", "three"],
        "fr": ["Un, deux."],
    }
    with pytest.raises(CorpusError, match=r"es\.csv has no column 'text'; it has Una línea"):
        list(open_corpus([f"es={tmp_path / 'es.csv'}"])["es"].documents())


def test_specs_add_up_and_come_in_the_order_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for language in ("en", "fr", "de"):
        write_txt(tmp_path / "folder" / f"{language}.txt", [language])
    write_txt(tmp_path / "more.txt", ["encore"])
    texts = open_corpus([str(tmp_path / "folder"), f"fr={tmp_path / 'more.txt'}"], ["fr", "en"])
    assert {language: list(text.documents()) for language, text in texts.items()} == {
        "fr": ["fr", "encore"],
        "en": ["en"],
    }
    assert list(texts) == ["fr", "en"]
    assert list(open_corpus([str(tmp_path / "folder")])) == ["de", "en", "fr"]


def test_a_language_may_be_given_a_folder(tmp_path: Path) -> None:
    write_txt(tmp_path / "1.txt", ["eins"])
    write_jsonl(tmp_path / "2.jsonl", ["zwei"])
    assert list(open_corpus([f"de={tmp_path}"])["de"].documents()) == ["eins", "zwei"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"the folder for de holds none of \.txt"):
        open_corpus([f"de={tmp_path / 'empty'}"])


def test_embedded_texts_are_sixty_passages_in_seven_languages() -> None:
    texts = open_corpus([embedded.NAME])
    assert list(texts) == ["en", "es", "fr", "id", "ja", "vi", "zh"]
    assert {language: len(list(text.documents())) for language, text in texts.items()} == dict.fromkeys(texts, 60)


# What is wrong with a file


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"fine\nfine\nna\xefve\n", r"a\.txt, line 3, is not UTF-8 .*iconv"),
        ("a.txt", "naïf".encode("utf-16"), r"line 1, is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"line 2, is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{"text": "\xff"}\n'), r"line 2, is not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', r"line 3, is not JSON"),
        ("a.jsonl", b"[" * 100_000, r"line 1, is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', r"line 2, has no field 'text'"),
        ("a.jsonl", b'{"text": ["a"]}\n', r"line 1, has no field 'text' with a string"),
        ("a.jsonl", b'"text"\n', r"line 1, has no field 'text'"),
        ("a.jsonl", b'{"text": "a \\ud83d"}\n', r"line 1, has a broken character: surrogates"),
        ("a.jsonl.gz", b"not gzip", r"cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "abc"}\n' * 99)[:-12], r"cannot be read: Compressed file ended"),
        ("a.jsonl.gz", gzip.compress(b"")[:10] + b"\xff" * 40, r"cannot be read: .*invalid block type"),
        ("a.parquet", b"PAR1 but no more", r"not a readable parquet file"),
        ("a.parquet", b"", r"not a readable parquet file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        list(open_corpus([f"en={tmp_path / name}"])["en"].documents())
    assert str(tmp_path / name) in str(caught.value)


def test_missing_things_are_named(tmp_path: Path) -> None:
    write_txt(tmp_path / "fr.txt")
    with pytest.raises(CorpusError, match=r"no text in de, ja; it has fr\. .*`corpus` de=FILE"):
        open_corpus([str(tmp_path)], ["de", "fr", "ja"])
    with pytest.raises(CorpusError, match=r"there is no file .*nowhere\.txt for en"):
        open_corpus([f"en={tmp_path / 'nowhere.txt'}"])
    (tmp_path / "fr.xml").touch()
    with pytest.raises(CorpusError, match=r"fr\.xml is none of \.txt, \.jsonl"):
        open_corpus([f"fr={tmp_path / 'fr.xml'}"])
    with pytest.raises(CorpusError, match=r"is a file: say its language, .*`corpus` en="):
        open_corpus([str(tmp_path / "fr.txt")])
    with pytest.raises(CorpusError, match=r"there is no folder \./nowhere"):
        open_corpus(["./nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"has no text: name the files by language"):
        open_corpus([str(tmp_path / "empty")])


# The Hub


class Hub:
    """In place of `datasets`: configurations as Wikipedia's are named; what is asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.rows: list[dict[str, Any]] = [{"id": 1, "text": "un"}, {"id": 2, "text": " "}, {"id": 3, "text": "deux"}]

    def get_dataset_config_names(self, dataset: str) -> list[str]:
        if dataset == "org/private":
            raise PermissionError("a token is needed\nand a long explanation")
        return [
            "20220301.zh",
            "20231101.zh",
            "20231101.zh-min-nan",
            "20231101.pt-BR",
            "20231101.zh-yue",
            "fr",
            "20231101.en",
        ]

    def load_dataset(self, dataset: str, name: str, *, split: str, streaming: bool) -> Iterator[dict[str, Any]]:
        self.asked.append((dataset, name, split, streaming))
        return iter(self.rows)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    made = Hub()
    module = types.ModuleType("datasets")
    module.__dict__.update(get_dataset_config_names=made.get_dataset_config_names, load_dataset=made.load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize(
    ("language", "configuration"),
    [("zh", "20231101.zh"), ("fr", "fr"), ("nan", "20231101.zh-min-nan"), ("pt-BR", "20231101.pt-BR"),
     ("yue", "20231101.zh-yue")],
)  # fmt: skip
def test_a_hub_dataset_is_streamed_by_language(hub: Hub, language: str, configuration: str) -> None:
    text = open_corpus(["wikimedia/wikipedia"], [language])[language]
    assert hub.asked == []  # nothing is read before it is needed
    assert list(text.documents()) == ["un", "deux"]
    assert hub.asked == [("wikimedia/wikipedia", configuration, "train", True)]
    assert text.origin == f"wikimedia/wikipedia ({configuration})"


def test_what_a_hub_dataset_lacks_is_named(hub: Hub) -> None:
    with pytest.raises(CorpusError, match=r"say which languages of org/wiki to read, .*`languages`"):
        open_corpus(["org/wiki"])
    with pytest.raises(CorpusError, match=r"org/wiki has no configuration for ja; it has 20220301\.zh"):
        open_corpus(["org/wiki"], ["fr", "ja"])
    with pytest.raises(
        CorpusError, match=r"no folder org/private, and the Hub dataset cannot be read: a token is needed$"
    ):
        open_corpus(["org/private"], ["fr"])
    hub.rows = [{"content": "un", "id": 1}]
    with pytest.raises(CorpusError, match=r"org/wiki has no field 'text'; it has content, id"):
        list(open_corpus(["org/wiki"], ["fr"])["fr"].documents())


def test_a_network_that_breaks_midway_is_an_error_of_the_corpus(hub: Hub) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"text": "un"}
        raise ConnectionError("reset by peer")

    hub.rows = rows()  # type: ignore[assignment]
    documents = open_corpus(["org/wiki"], ["fr"])["fr"].documents()
    assert next(documents) == "un"
    with pytest.raises(CorpusError, match=r"org/wiki \(fr\) cannot be read: reset by peer"):
        next(documents)


def test_a_hub_dataset_in_a_wrong_encoding_is_refused_and_one_such_row_left_out(hub: Hub) -> None:
    russian = "Сегодня утром Иван пошёл в магазин за хлебом и молоком, а потом вернулся домой. " * 30
    wrong = russian.encode("cp1251").decode("latin-1")
    hub.rows = [{"text": wrong}] * 3
    with pytest.raises(CorpusError, match=r"org/wiki \(fr\) was not written as UTF-8: "):
        list(open_corpus(["org/wiki"], ["fr"])["fr"].documents())
    good = [{"text": f"{n}. {russian}"} for n in range(20)]
    hub.rows = [*good, {"text": wrong}]
    with pytest.warns(MonoglotWarning, match=r"org/wiki \(fr\): 1 of 21 documents .* document 21 "):
        assert len(list(open_corpus(["org/wiki"], ["fr"])["fr"].documents())) == 20


@pytest.mark.parametrize("package", ["datasets", "pyarrow"])
def test_a_missing_package_is_named_with_its_remedy(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "a.parquet").touch()
    spec = "org/wiki" if package == "datasets" else "fr=a.parquet"
    with pytest.raises(CorpusError, match=r"pip install 'monoglot\[datasets\]'"):
        list(open_corpus([spec], ["fr"])["fr"].documents())


# The split


@pytest.mark.parametrize("count", [0, 4, 5, 23])
def test_held_out_is_every_fifth_document_and_no_other(count: int) -> None:
    documents = [str(number) for number in range(count)]
    text = text_of(documents)
    kept, held_out = list(text.part(held_out=False)), list(text.part(held_out=True))
    assert held_out == documents[4::5]
    assert not set(kept) & set(held_out)
    assert sorted(kept + held_out) == sorted(documents)


def test_a_file_without_a_suffix_and_parts_of_a_language_are_named(tmp_path: Path) -> None:
    for name in ("en.txt", "zh", "fr-000.txt", "fr-001.txt", "README", "Makefile"):
        (tmp_path / name).write_text("Text.\n")
    with pytest.warns(MonoglotWarning, match="is not read") as said:
        assert list(open_corpus([str(tmp_path)])) == ["en"]
    for name in ("zh (it is none of", "fr-000.txt (fr-000 is not known", "fr-001.txt"):
        assert name in str(said[0].message)
    assert "README" not in str(said[0].message) and "Makefile" not in str(said[0].message)
    assert list(open_corpus([f"zh={tmp_path / 'en.txt'}"])) == ["zh"]


def test_what_is_no_ordinary_file_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").symlink_to("fr.txt")
    with pytest.raises(CorpusError, match=r"fr\.txt for fr is a link to a file that is not there"):
        open_corpus([f"fr={tmp_path / 'fr.txt'}"])
    os.mkfifo(tmp_path / "es.txt")
    with pytest.raises(CorpusError, match=r"es\.txt for es is no ordinary file"):
        open_corpus([f"es={tmp_path / 'es.txt'}"])
    with pytest.raises(CorpusError, match=r"there is no file .*ja\.txt for ja"):
        open_corpus([f"ja={tmp_path / 'ja.txt'}"])


def test_a_name_with_a_line_end_makes_no_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("a")
    (tmp_path / "fr\nError: all is lost.txt").write_text("a")
    with pytest.warns(MonoglotWarning) as said:
        open_corpus([str(tmp_path)])
    assert "\n" not in str(said[0].message)
