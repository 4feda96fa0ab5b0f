"""Text as documents, documents as contexts, and what is said when either can't be had."""

import gzip
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import Characters

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError, MonoglotWarning
from monoglot.editor.text import corpus, documents
from monoglot.editor.text.corpus import Text, open_corpus
from monoglot.editor.text.documents import read_documents
from monoglot.editor.text.tokens import pack, require

DOCUMENTS = ["Un renard.\nDeux lignes.", "敏捷的棕色狐狸。", "Tiếng Việt có dấu."]


def write_jsonl(path: Path, documents: list[str] = DOCUMENTS) -> None:
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(documents))
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


def write_txt(path: Path, documents: list[str] = DOCUMENTS) -> None:
    path.write_text("\n\n".join(documents), encoding="utf-8")


def write_parquet(path: Path, documents: list[Any] = DOCUMENTS, column: str = "text") -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": list(range(len(documents))), column: documents}), path)


def text_of(documents: list[str], language: str = "en") -> Text:
    return Text(language, "a list", lambda: iter(documents))


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


def test_null_is_passed_over_and_nesting_refused_in_every_format(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a", None, " ", "b"])
    records = [{"text": "a"}, {"text": None}, {"text": " "}, {"text": "b"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "a.csv").write_text("text,id\na,1\n,2\n ,3\nb,4\n")
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        assert list(read_documents(tmp_path / name)) == ["a", "b"], name
    for nested in (["a"], {"a": "b"}, 1, True):
        (tmp_path / "n.jsonl").write_text(json.dumps({"text": nested}))
        with pytest.raises(CorpusError, match=r"line 1, has no field 'text' with a string in it"):
            list(read_documents(tmp_path / "n.jsonl"))
    write_parquet(tmp_path / "n.parquet", [["a"]])
    with pytest.raises(CorpusError, match=r"column 'text' holds list"):
        list(read_documents(tmp_path / "n.parquet"))


def test_a_line_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_RECORD", 10_000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b"a" * 10**6))
    with pytest.raises(CorpusError, match=r"line 1, is longer than 10,000 characters"):
        list(read_documents(tmp_path / "a.jsonl.gz"))


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


def test_blocks_of_a_text_file(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, spaces on an empty line, no line end at the end."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\nstill one\r\n\r\n  \t\r\n\r\ntwo\r\n\r\n three")
    assert list(read_documents(path)) == ["one\nstill one", "two", "three"]
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "  "}\r\n{"text": "two"}')
    path = path.rename(tmp_path / "a.jsonl")
    assert list(read_documents(path)) == ["one", "two"]


def test_long_blocks_are_cut_at_a_lines_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    lines = [f"{number:03} " + "x" * 995 for number in range(9)]  # 1000 characters each with the line's end
    path.write_text("\n".join(lines))
    assert list(read_documents(path)) == ["\n".join(lines[:4]), "\n".join(lines[4:8]), lines[8]]


def test_a_line_longer_than_a_document_is_cut_within(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("汉" * 9_000 + "\n\nend\n", encoding="utf-8")
    assert list(read_documents(path)) == ["汉" * 4_000, "汉" * 4_000, "汉" * 1_000, "end"]


def test_records_are_not_cut(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x" * 20_000])
    assert [len(document) for document in read_documents(tmp_path / "a.jsonl")] == [20_000]


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


def test_parquet_needs_a_column_of_strings(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["a"], column="content")
    with pytest.raises(CorpusError, match=r"no column 'text'; it has id, content"):
        list(read_documents(tmp_path / "a.parquet"))
    write_parquet(tmp_path / "a.parquet", [1, 2])
    with pytest.raises(CorpusError, match=r"column 'text' holds int64, not strings"):
        list(read_documents(tmp_path / "a.parquet"))
    write_parquet(tmp_path / "a.parquet", ["a", None, " ", "b"])
    assert list(read_documents(tmp_path / "a.parquet")) == ["a", "b"]


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


# Packing


@pytest.mark.parametrize("bos", [None, 0, 7])
@pytest.mark.parametrize("tokens", [1, 15, 16, 31, 32, 100, 161])
def test_contexts_hold_the_text_and_nothing_else(bos: int | None, tokens: int) -> None:
    documents = [f"document {number}" * (number % 3 + 1) for number in range(40)]
    kept = [document for number, document in enumerate(documents, start=1) if number % 5]
    wanted = [ord(character) for character in "".join(document + "\n\n" for document in kept)][:tokens]
    packed = pack(text_of(documents), Characters(bos), tokens=tokens, context=16)
    assert packed.tokens == tokens == len(wanted)
    assert packed.skip == (bos is not None)
    assert all(context.dtype == np.int64 for context in packed.contexts)
    assert [len(context) for context in packed.contexts[:-1]] == [16] * (len(packed.contexts) - 1)
    assert packed.skip < len(packed.contexts[-1]) <= 16
    if bos is not None:
        assert all(context[0] == bos for context in packed.contexts)
    assert [int(token) for context in packed.contexts for token in context[packed.skip :]] == wanted


def test_less_text_than_asked_for_gives_what_there_is() -> None:
    packed = pack(text_of(["abc", "de"]), Characters(0), tokens=1_000, context=16)
    assert packed.tokens == len("abc\n\nde\n\n")
    assert pack(text_of([]), Characters(0), tokens=10, context=16).contexts == ()


def test_parts_have_their_own_tokens_and_fingerprints() -> None:
    documents = [str(number) for number in range(10)]
    found = pack(text_of(documents), Characters(0), tokens=99, context=16)
    held = pack(text_of(documents), Characters(0), tokens=99, context=16, held_out=True)
    assert bytes(int(t) for c in held.contexts for t in c[1:]).decode() == "4\n\n9\n\n"
    assert found.sha256 != held.sha256
    # the fingerprint is the text's, however it is cut into contexts
    assert found.sha256 == pack(text_of(documents), Characters(None), tokens=99, context=5).sha256


def test_a_real_tokenizer_adds_nothing_of_its_own(model: Path) -> None:
    from monoglot.editor.models.hf import load_tokenizer

    tokenizer = load_tokenizer(model)
    packed = pack(text_of(["The quick brown fox"] * 50), tokenizer, tokens=99, context=32)
    ids = [int(token) for context in packed.contexts for token in context[1:]]
    assert "".join(tokenizer.decode(ids)).startswith("The quick brown fox\n\nThe quick")
    assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & set(ids)
    assert {int(context[0]) for context in packed.contexts} == {tokenizer.bos_token_id}


def test_a_context_must_have_room() -> None:
    with pytest.raises(CorpusError, match=r"1 positions has no room"):
        pack(text_of(["abc"]), Characters(0), tokens=10, context=1)


def test_too_little_text_says_how_much_is_missing() -> None:
    packed = pack(text_of(["abcdefgh"] * 5, "vi"), Characters(0), tokens=1_000, context=16)
    require(packed, 40)
    with pytest.raises(CorpusError, match=r"vi has 40 tokens of text, 1,960 fewer than the 2,000 .* Add text in vi"):
        require(packed, 2_000)


def test_codes_of_languages() -> None:
    """A language is two or three small letters, perhaps with subtags."""
    good = ["en", "yue", "pt-BR", "pt_br", "zh-Hans", "sr-Latn-RS"]
    bad = ["", "e", "EN", "notes", "readme", "en.", "en-", "e1", "zh-H", "en txt"]
    assert all(corpus.LANGUAGE.fullmatch(code) for code in good)
    assert not any(corpus.LANGUAGE.fullmatch(code) for code in bad)
