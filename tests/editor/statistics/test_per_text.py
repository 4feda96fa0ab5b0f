"""Means over single texts: which pieces they are of, that they are those, and that they come back from a file and add up."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from support.tables import LAYERS, WIDTH, Tables, packed, run, same

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import per_text, resume
from monoglot.editor.statistics import recorder as record
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.per_text import MOST, PIECE, SHORTEST, pieces
from monoglot.editor.statistics.statistics import Statistics, load, merge, save
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import Packed

# Contexts of 301 positions, the first of them not counted: pieces of 128, 128 and 44 tokens; the last contexts have 1, 31,
# 32 and 170 tokens.
TEXTS = {
    language: packed(language, tokens, context=301)
    for language, tokens in (("fr", 1201), ("zh", 631), ("en", 332), ("vi", 170))
}


def by_hand(model: Tables, text: Packed) -> list[list[list[float]]]:
    """(texts, layers, width), token by token."""
    tables, found = model.tables.tolist(), []
    for context in text.contexts:
        tokens = context.tolist()[text.skip :]
        for begin in range(0, len(tokens), PIECE):
            piece = tokens[begin : begin + PIECE]
            if len(piece) >= SHORTEST:
                found.append([
                    [math.fsum(table[token][j] for token in piece) / len(piece) for j in range(WIDTH)]
                    for table in tables
                ])  # fmt: skip
    return found


@pytest.mark.parametrize("batch_size", [0, 1, 2, 99])
@pytest.mark.parametrize("flat", [False, True], ids=["batched", "flat as OPT's"])
def test_means_are_those_of_the_pieces(batch_size: int, flat: bool) -> None:
    model = Tables(flat=flat)
    found = run(model, TEXTS, batch_size=batch_size, per_text=True)
    assert found.per_text is not None
    assert [len(found.per_text[language]) for language in TEXTS] == [12, 6, 4, 2]
    for language, text in TEXTS.items():
        assert found.per_text[language].dtype == np.float32
        assert found.per_text[language] == pytest.approx(np.array(by_hand(model, text)), abs=1e-6)
        assert found.per_text[language].any(axis=(1, 2)).all()
        for layer in range(LAYERS):
            assert (found.text_means(language, layer) == found.per_text[language][:, layer]).all()
    assert same(replace(found, per_text=None), run(Tables(), TEXTS))


def test_no_beginning_of_text_token_is_in_them() -> None:
    model = Tables()
    model.tables.data[:, 0] = 1e6  # token 0 is what the contexts begin with
    assert same_texts(run(model, TEXTS, per_text=True), run(Tables(), TEXTS, per_text=True))


def test_without_a_beginning_of_text_token_all_counts() -> None:
    text = packed("fr", 600, context=300, skip=0)
    model = Tables()
    found = run(model, {"fr": text}, per_text=True).per_text
    assert found is not None
    assert found["fr"] == pytest.approx(np.array(by_hand(model, text)), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_averaged_in_single(dtype: torch.dtype) -> None:
    values = torch.randn(1, 129, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    act, rows = torch.nn.Identity(), np.zeros((1, 1, WIDTH), np.float32)
    recorder = record.Recorder([act], WIDTH, torch.device("cpu"), per_text=rows)
    recorder.texts = pieces(packed("fr", 128, context=129))
    with recorder.attached():
        recorder.start(1, 129, 1)
        act(values)
    assert rows[0, 0] == pytest.approx(values[0, 1:].double().mean(0).numpy(), abs=1e-6)


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=5),
    st.integers(0, 1),
    st.sampled_from([1, 2, 5, 128]),
)
def test_pieces_are_evenly_spread(lengths: list[int], skip: int, most: int) -> None:
    contexts = tuple(np.zeros(length + skip, np.int64) for length in lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_text, "MOST", most)
        chosen = pieces(Packed("fr", contexts, skip, sum(lengths), ""))
    every = [
        (context, begin, min(begin + PIECE, length))
        for context, length in enumerate(lengths)
        for begin in range(0, length, PIECE)
        if min(begin + PIECE, length) - begin >= SHORTEST
    ]
    places = [every.index((piece.context, piece.begin, piece.end)) for piece in chosen]
    assert [piece.number for piece in chosen] == list(range(min(most, len(every))))
    assert places == sorted(set(places))
    gaps = np.diff([*places, len(every)]) if places else np.zeros(1)
    assert gaps.max() - gaps.min() <= 1


def test_memory_does_not_grow_with_the_corpus() -> None:
    found = run(Tables(), {"fr": packed("fr", 60_000, context=513)}, per_text=True).per_text
    assert found is not None
    assert found["fr"].shape == (MOST, LAYERS, WIDTH)
    assert found["fr"].any(axis=(1, 2)).all()


# Interrupted, out of memory, divided


def same_texts(one: Statistics, two: Statistics) -> bool:
    return (
        one.per_text is not None
        and two.per_text is not None
        and {k: own.tobytes() for k, own in one.per_text.items()}
        == {k: own.tobytes() for k, own in two.per_text.items()}
    )


@pytest.mark.parametrize("after", [1, 2, 5, 7])
def test_an_interrupted_run_goes_on(tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume.Resume, "cost", property(lambda self: 0.0, lambda self, value: None), raising=False)
    batches = itertools.count(1)

    def stop(*_: Any) -> None:
        if next(batches) == after:
            raise KeyboardInterrupt

    options = {"batch_size": 1, "per_text": True, "resume_file": tmp_path / "progress"}
    with pytest.raises(KeyboardInterrupt):
        run(Tables(), TEXTS, progress=stop, **options)
    model = Tables()
    found, whole = run(model, TEXTS, **options), run(Tables(), TEXTS, per_text=True)
    assert same_texts(found, whole)
    assert same(found, whole)
    assert len(model.batches) == 11 - after + 1


def test_progress_without_them_is_no_progress_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume.Resume, "cost", property(lambda self: 0.0, lambda self, value: None), raising=False)
    seen = itertools.count()

    def stop(*_: Any) -> None:
        if next(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Tables(), TEXTS, batch_size=1, progress=stop, resume_file=tmp_path / "p")
    model = Tables()
    assert same_texts(
        run(model, TEXTS, batch_size=1, per_text=True, resume_file=tmp_path / "p"), run(Tables(), TEXTS, per_text=True)
    )
    assert len(model.batches) == 11


def test_a_batch_that_is_halved_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(record.BATCH_TOKENS, "cpu", 4 * 301)
    model = Tables()
    model.most = 2 * 301
    assert same_texts(run(model, TEXTS, per_text=True), run(Tables(), TEXTS, per_text=True))


def test_workers_fill_their_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three runs alone here, and what it would add up is caught."""
    caught: list[dict[str, Any]] = []
    monkeypatch.setattr(record, "add_up", lambda sums: caught.append({k: own.copy() for k, own in sums.items()}))
    for rank in range(3):
        monkeypatch.setattr(record, "workers", lambda rank=rank: (rank, 3))
        run(Tables(), TEXTS, batch_size=1, per_text=True)
    monkeypatch.setattr(record, "workers", lambda: (0, 1))
    whole = run(Tables(), TEXTS, batch_size=1, per_text=True).per_text
    assert whole is not None
    for language in TEXTS:
        parts = [sums[f"{language}.per_text"] for sums in caught]
        assert sum(parts).tobytes() == whole[language].tobytes()
        assert (sum(part.any(axis=(1, 2)).astype(int) for part in parts) == 1).all()


# Files


def test_they_come_back_from_a_file(tmp_path: Path) -> None:
    made = run(Tables(), {**TEXTS, "ja": packed("ja", 5)}, per_text=True)
    save(made, tmp_path / "s")
    found = load(tmp_path / "s")
    assert found.per_text is not None
    assert list(found.per_text) == [*TEXTS, "ja"]
    assert found.per_text["ja"].shape == (0, LAYERS, WIDTH)  # five tokens are no text
    assert same_texts(found, made)
    for language in found.languages:
        for layer in range(LAYERS):
            one, two = found.text_means(language, layer), made.text_means(language, layer)
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())
    save(found, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "s").read_bytes()


def test_statistics_without_them_say_how_to_make_them(tmp_path: Path) -> None:
    made = run(Tables(), TEXTS)
    save(made, tmp_path / "s")
    for statistics in (made, load(tmp_path / "s")):
        assert statistics.per_text is None
        with pytest.raises(StatisticsError, match=r"no per-text means\. Make them with `monoglot detect --per-text`"):
            statistics.text_means("fr", 0)


@pytest.mark.parametrize("how", ["missing", "float64", "too few", "other width"])
def test_a_damaged_file_is_refused(how: str, tmp_path: Path) -> None:
    from safetensors import safe_open

    save(run(Tables(), TEXTS, per_text=True), tmp_path / "s")
    with safe_open(tmp_path / "s", framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(tmp_path / "s")
    old = arrays.pop("zh.per_text")
    new = {"float64": old.astype(np.float64), "too few": old[1:], "other width": old[..., 1:].copy()}
    save_file({**arrays, **({"zh.per_text": new[how]} if how in new else {})}, tmp_path / "s", metadata)
    with pytest.raises(StatisticsError, match="is damaged"):
        load(tmp_path / "s")


def test_merging_joins_them_in_any_order() -> None:
    made = [
        run(Tables(), {k: packed(k, 300 + 40 * seed, context=301, seed=seed) for k in languages}, per_text=True)
        for seed, languages in enumerate((["fr", "en"], ["fr"], ["zh", "fr"]))
    ]
    expected = merge(made)
    assert expected.per_text is not None
    assert [len(expected.per_text[k]) for k in ("en", "fr", "zh")] == [3, 11, 4]
    rows = [row.tobytes() for part in made if part.per_text for row in part.per_text["fr"]]
    assert sorted(row.tobytes() for row in expected.per_text["fr"]) == sorted(rows)
    for order in itertools.permutations(made):
        assert same_texts(merge(order), expected)
        assert same_texts(merge([merge(order[:2]), order[2]]), expected)
    with pytest.warns(MonoglotWarning, match=r"only 2 of 3 statistics have per-text means.*detect --per-text"):
        assert merge([*made[:2], replace(made[2], per_text=None)]).per_text is None


# A model


def test_detect_records_and_reuses_them(model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, texts = open_target(resolve(str(model))), open_corpus([str(corpus)])
    options: dict[str, Any] = {"tokens": 600, "context": 128, "minimum": 100, "device": "cpu"}
    plain, full = (detect(target, texts, **options, per_text=more) for more in (False, True))
    assert (plain.per_text, full.settings) == (None, plain.settings)
    assert full.per_text is not None
    assert full.per_text["fr"].shape == (5, 3, 24)  # 127 tokens four times, and 92
    lengths = np.array([127] * 4 + [92])
    for language in texts:
        summed = (full.per_text[language] * lengths[:, None, None]).sum(axis=0)
        assert summed == pytest.approx(full.total[language], abs=1e-3)
    monkeypatch.setattr("monoglot.editor.statistics.detect.load_model", lambda *_, **__: pytest.fail("built"))
    for more in (False, True):
        assert detect(target, texts, reuse=full, per_text=more, **options) is full
    with pytest.raises(pytest.fail.Exception, match="built"):
        detect(target, texts, reuse=plain, per_text=True, **options)
