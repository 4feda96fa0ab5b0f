"""Prompts: the embedded ones, and files that people write."""

from pathlib import Path

import pytest

from monoglot.editor import embedded
from monoglot.editor.errors import CorpusError
from monoglot.editor.text.prompts import beginning, embedded_prompts, load, passages


def test_embedded_prompts_begin_the_held_out_passages_in_every_language() -> None:
    prompts = embedded_prompts(count=3)
    assert list(prompts) == ["en", "es", "fr", "id", "ja", "vi", "zh"]
    texts = {k: (embedded.TEXTS / f"{k}.txt").read_text(encoding="utf-8").strip().split("\n\n") for k in prompts}
    for language, own in prompts.items():
        assert len(own) == 3
        assert all(texts[language][at].startswith(prompt) for at, prompt in zip((4, 9, 14), own, strict=True))
    assert all(len(prompt.split()) == 8 for prompt in prompts["fr"])
    assert all(len(prompt) >= 8 and prompt[-1] in "，。；：、！？" for prompt in prompts["zh"] + prompts["ja"])


def test_a_choice_of_languages_and_more_than_there_are() -> None:
    prompts = embedded_prompts(["vi", "en"], count=100)
    assert list(prompts) == ["vi", "en"]
    assert len(prompts["vi"]) == len(passages("vi")) == 60
    assert passages("de") == []


def test_an_unknown_language_names_the_known_ones() -> None:
    with pytest.raises(
        CorpusError, match=r"no prompts in 'de' in the embedded texts, only in en, es, fr, id, ja, vi, zh"
    ):
        embedded_prompts(["en", "de"])


def test_beginning() -> None:
    assert beginning("a b  c d e f g h i j", "en") == "a b c d e f g h"
    assert beginning("学习，最好的方法是坚持，每天学习。", "zh") == "学习，最好的方法是坚持，"
    assert beginning("学习最好的方法", "zh") == "学习最好的方法"
    assert beginning("学ぶには、毎日続けるのがよい、と言う。", "ja") == "学ぶには、毎日続けるのがよい、"


def test_a_jsonl_and_a_folder_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"language": "en", "prompt": "Once upon"}\n\n{"language": "pt-BR", "prompt": " Era uma "}\n'
        '{"language": "en", "prompt": "The end"}\n',
        encoding="utf-8",
    )
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "en.txt").write_text("\ufeffOnce upon\n\nThe end\n", encoding="utf-8")
    (folder / "pt-BR.txt").write_text(" Era uma \n", encoding="utf-8")
    (folder / "README.txt").write_text("not a language\n", encoding="utf-8")
    for path in (file, folder):
        assert load(path) == {"en": ["Once upon", "The end"], "pt-BR": ["Era uma"]}
        assert load(path, ["pt-BR"]) == {"pt-BR": ["Era uma"]}
        assert load(path, count=1) == {"en": ["Once upon"], "pt-BR": ["Era uma"]}
        with pytest.raises(CorpusError, match=r"no prompts in 'fr' in .*p.*, only in en, pt-BR"):
            load(path, ["fr"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no prompts"),
        ("\n\n", "has no prompts"),
        ("{", "line 1, is not JSON"),
        ('{"language": "en", "prompt": "a"}\n[1]', "line 2, is not of the form"),
        ('{"language": "en"}', "line 1, is not of the form"),
        ('{"language": "en", "prompt": 3}', "line 1, is not of the form"),
        ('{"language": "English", "prompt": "a"}', "line 1, has the language 'English'"),
        ('{"language": "en", "prompt": "  "}', "line 1, has an empty prompt"),
        ('{"language": "en", "prompt": "\\ud800"}', "line 1, has a broken character"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message) as error:
        load(file)
    assert str(file) in str(error.value)


def test_files_that_are_no_prompts(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b'{"language": "fr", "prompt": "\xe9t\xe9"}')
    (tmp_path / "p.csv").write_text("en,Once upon")
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "en.txt").write_text("\n")
    for name, message in (
        ("bytes.jsonl", "is not UTF-8"),
        ("p.csv", r"is no \.jsonl"),
        ("empty", "has no prompts: name the files"),
        ("blank", "has no prompts"),
        ("absent", "there is no file or folder"),
    ):
        with pytest.raises(CorpusError, match=message):
            load(tmp_path / name)
