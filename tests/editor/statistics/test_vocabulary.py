"""Token counts and centres, against a second, plain implementation: Python's own dicts and sums."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.tiny import live, save_corpus, save_model

from monoglot.editor.errors import ModelError, StatisticsError
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.statistics.token_counts import control_tokens, count, written
from monoglot.editor.statistics.vocabulary import Vocabulary, load, save, serialise
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import Packed, pack

LANGUAGES = ("en", "fr", "zh")


def counted(target: Target, folder: Path, tokens: int = 600) -> tuple[Vocabulary, dict[str, Packed]]:
    tokenizer = load_tokenizer(target.source.folder)
    packed = {
        language: pack(text, tokenizer, tokens=tokens, context=50)
        for language, text in open_corpus([str(folder)]).items()
    }
    control = control_tokens(tokenizer)
    return count(model_info(target), open_embedding(target), packed, control, written(tokenizer)), packed


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return open_target(resolve(str(save_model(tmp_path_factory.mktemp("model"), "gemma3_text", dtype="bfloat16"))))


@pytest.fixture(scope="module")
def made(target: Target, tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, dict[str, Packed]]:
    return counted(target, save_corpus(tmp_path_factory.mktemp("corpus")))


def test_counts_shares_and_centres(target: Target, made: tuple[Vocabulary, dict[str, Packed]]) -> None:
    vocabulary, packed = made
    table = live(target.source.folder).get_input_embeddings().weight.detach().tolist()
    text = {k: [int(t) for context in packed[k].contexts for t in context[1:]] for k in LANGUAGES}  # without <s>
    often = {k: Counter(text[k]) for k in LANGUAGES}
    assert vocabulary.languages == LANGUAGES
    assert vocabulary.rows == len(table)
    for k in LANGUAGES:
        assert dict(zip(vocabulary.ids[k].tolist(), vocabulary.counts[k].tolist(), strict=True)) == often[k]
        assert vocabulary.tokens(k) == len(text[k])
        mean = [sum(Fraction(table[t][i]) for t in text[k]) / len(text[k]) for i in range(len(table[0]))]
        assert vocabulary.centres[k] == pytest.approx([float(x) for x in mean], rel=1e-12, abs=1e-15)
    seen = sorted(set().union(*often.values()))
    shares = vocabulary.shares(np.array(seen))
    for place, t in enumerate(seen):
        frequency = {k: Fraction(often[k][t], len(text[k])) for k in LANGUAGES}
        for k in LANGUAGES:
            assert shares[k][place] == pytest.approx(float(frequency[k] / sum(frequency.values())), rel=1e-12)
    in_both = sum(
        min(Fraction(often["en"][t], len(text["en"])), Fraction(often["fr"][t], len(text["fr"]))) for t in seen
    )
    for a, b in (("en", "fr"), ("fr", "en")):
        assert vocabulary.overlap(a, b) == pytest.approx(float(in_both))
    assert vocabulary.overlap("en", "en") == pytest.approx(1)


def test_control_tokens_are_not_counted(target: Target, tmp_path: Path) -> None:
    """Not even where the text names one."""
    corpus = save_corpus(tmp_path / "corpus")
    (corpus / "en.txt").write_text("</s> a </s> b <s>\n\n" * 50)
    vocabulary, packed = counted(target, corpus)
    assert 1 in np.concatenate(packed["en"].contexts)
    assert control_tokens(load_tokenizer(target.source.folder)) == {0, 1}
    assert not set(vocabulary.ids["en"].tolist()) & {0, 1}


def test_a_token_without_a_row(target: Target) -> None:
    packed = Packed("en", (np.array([0, 5, 300]),), 1, 2, "")
    with pytest.raises(ModelError, match=r"gives token 300 in en, and .* has 300 rows only"):
        count(model_info(target), open_embedding(target), {"en": packed}, (), [])


def test_unused_tokens_have_the_shares_of_their_script(target: Target, tmp_path: Path) -> None:
    """300 tokens: Latin, then 8 Chinese characters, 4 Cyrillic letters, one of them a control token, and digits."""
    words = ["a"] * 280 + list("火山水木金土日月") + list("дажы") + list("01234567")
    text = {"zh": [280] * 60 + [281] * 15 + [5] * 25, "ja": [280] * 25 + [282] * 25 + [288], "en": [6] * 80}
    packed = {k: Packed(k, (np.array([0, *own]),), 1, len(own), k) for k, own in text.items()}
    made = count(model_info(target), open_embedding(target), packed, {290}, words)
    assert made.scripts == ("CJK",)  # one Cyrillic token is too few to tell
    assert made.unused.tolist() == [283, 284, 285, 286, 287]
    shares = made.shares(np.array([6, 280, 282, 283, 287, 289, 299]))
    zh, ja = 75 / 100, 50 / 51  # of their tokens are Chinese characters
    both = zh / (zh + ja)
    first = 60 / 100 / (60 / 100 + 25 / 51)
    assert shares["zh"].tolist() == pytest.approx([0, first, 0, both, both, 0, 0])
    assert shares["ja"].tolist() == pytest.approx([0, 1 - first, 1, 1 - both, 1 - both, 0, 0])
    assert shares["en"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    save(made, tmp_path / "v")
    again = load(tmp_path / "v").shares(np.arange(300))
    assert {k: own.tolist() for k, own in again.items()} == {
        k: own.tolist() for k, own in made.shares(np.arange(300)).items()
    }
    assert made.tokens_of("zh").tolist() == [5, 280, 281, 283, 284, 285, 286, 287]
    assert made.tokens_of("en").tolist() == [6]


def test_the_file_holds_all_of_it(made: tuple[Vocabulary, dict[str, Packed]], tmp_path: Path) -> None:
    vocabulary, packed = made
    save(vocabulary, tmp_path / "vocabulary.monoglot")
    again = load(tmp_path / "vocabulary.monoglot")
    assert (again.model, again.rows, again.texts) == (vocabulary.model, vocabulary.rows, vocabulary.texts)
    assert again.texts == {k: packed[k].sha256 for k in LANGUAGES}
    assert serialise(again) == serialise(vocabulary)
    assert again.scripts == vocabulary.scripts
    assert np.array_equal(again.unused, vocabulary.unused)
    for k in LANGUAGES:
        assert np.array_equal(again.ids[k], vocabulary.ids[k])
        assert np.array_equal(again.centres[k], vocabulary.centres[k])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("en.ids", np.array([5, 4])),
        ("en.ids", np.array([4, 300])),
        ("en.ids", np.array([-1, 4])),
        ("en.ids", np.array([4])),
        ("en.ids", np.array([4.0, 5.0])),
        ("en.counts", np.array([1, 0])),
        ("en.centre", np.array([1.0, float("nan")])),
        ("en.centre", np.array([1.0, 2.0, 3.0])),
        ("en.centre", None),
        ("fr.counts", np.zeros(0, np.int64)),
        ("unused.ids", np.array([9, 8])),
        ("unused.ids", np.array([5, 9])),
        ("unused.script", np.array([0, 1])),
        ("unused.shares", np.array([[0.5, 1.5]])),
        ("unused.shares", np.array([[0.5]])),
    ],
)
def test_malformed_files(name: str, value: np.ndarray | None, tmp_path: Path) -> None:
    arrays = {
        f"{k}.{kind}": own
        for k in ("en", "fr")
        for kind, own in {"ids": np.array([4, 5]), "counts": np.array([1, 2]), "centre": np.array([1.0, 2.0])}.items()
    }
    arrays |= {
        "unused.ids": np.array([8, 9]),
        "unused.script": np.array([0, 0]),
        "unused.shares": np.array([[0.5, 0.5]]),
    }
    model = {"name": "m", "revision": None, "model_type": "llama", "layers": 1, "width": 1, "fingerprint": "f"}
    head = {"version": 1, "model": model, "rows": 300, "texts": {"en": "a", "fr": "b"}, "scripts": ["CJK"]}
    path = tmp_path / "vocabulary.monoglot"
    save_file(arrays, path, {"monoglot_vocabulary": json.dumps(head)})
    assert load(path).languages == ("en", "fr")
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    save_file(arrays, path, {"monoglot_vocabulary": json.dumps(head)})
    with pytest.raises(StatisticsError, match=r"is damaged|tokens of fr"):
        load(path)
    save_file(load_file(path), path, {"monoglot_vocabulary": json.dumps({**head, "version": 2})})
    with pytest.raises(StatisticsError, match="has format 2, this version reads 1"):
        load(path)
    for change in ({"rows": 0}, {"rows": "300"}, {"texts": {}}, {"texts": {"en": 1}}, {"scripts": "CJK"}, {"more": 1}):
        save_file(load_file(path), path, {"monoglot_vocabulary": json.dumps({**head, **change})})
        with pytest.raises(StatisticsError, match="is damaged"):
            load(path)
    save_file(load_file(path), path)
    with pytest.raises(StatisticsError, match="is not a vocabulary"):
        load(path)
    with pytest.raises(StatisticsError, match="there is no vocabulary"):
        load(tmp_path / "none")
