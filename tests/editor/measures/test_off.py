"""The search for the mildest way to switch a language off: the rule on made-up rows, and the embedded model's neurons."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tiny

from monoglot.editor import embedded
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.request import Request
from monoglot.editor.errors import MonoglotWarning, NeuronsError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.log_loss import measure
from monoglot.editor.live.logits import Variant
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.measures import off
from monoglot.editor.measures.off import Row, Way, choose, search_off, unseen, way_of
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.statistics import Statistics
from monoglot.editor.text.corpus import open_corpus

NONE = np.zeros(0, np.int64)
REQUEST = Request(deactivate=("zh",), choose=True)


def row(zh: float, vi: float, en: float = 0.0, rate: float = 0.01) -> Row:
    return Row(Way(rate, "keep", 0.0), 10, {"zh": zh, "vi": vi, "en": en})


def test_of_two_that_are_enough_the_one_that_costs_least_is_taken() -> None:
    rows = [row(1.6, 0.09), row(1.5, 0.02), row(4.0, 0.11), row(0.3, 0.0)]
    assert choose(rows, REQUEST) is rows[1]


def test_where_none_is_enough_it_is_the_most_that_spares_the_others() -> None:
    rows = [row(0.4, 0.02), row(0.9, 0.1), row(3.0, 0.2), row(1.0, 0.0, en=0.11)]
    assert choose(rows, REQUEST) is rows[1]


def test_where_none_spares_the_others_it_is_the_one_that_costs_least() -> None:
    rows = [row(0.4, 0.3), row(3.0, 0.2), row(3.5, 0.0, en=0.25)]
    assert choose(rows, REQUEST) is rows[1]


def test_of_several_languages_the_one_that_loses_least_counts() -> None:
    both = Request(deactivate=("zh", "vi"), choose=True)
    assert not row(4.0, 1.4).reaches(both) and row(1.5, 1.5).reaches(both)


def test_what_would_do_it_is_named() -> None:
    said = off.advice(row(0.4, 0.02), REQUEST, ["ja", "en", "zh"])
    assert "`redirect` zh=en" in said and "0.40 nats, not by 1.5" in said
    assert "`redirect` en=fr" in off.advice(row(0.4, 0.0, en=0.2), Request(deactivate=("en",)), ["en", "fr"])


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(resolve(embedded.NAME))


@pytest.fixture(scope="module")
def statistics(target: Target) -> Statistics:
    return detect(target, open_corpus([embedded.NAME], ["en", "fr", "zh"]), tokens=2048, context=256, minimum=1000)


@pytest.fixture(scope="module")
def search(
    target: Target, statistics: Statistics, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., off.Choice]:
    work = tmp_path_factory.mktemp("work")

    def run(request: Request = REQUEST) -> off.Choice:
        texts = open_corpus([embedded.NAME], ["en", "fr", "zh"])
        return search_off(target, statistics, texts, request, work, after=2048, device="cpu")

    return run


@pytest.fixture(scope="module")
def found(search: Callable[..., off.Choice]) -> off.Choice:
    return search()


def test_planted_neurons_are_found_and_the_mildest_set_is_taken(found: off.Choice) -> None:
    rows, chosen = found.record["rows"], found.record["chosen"]
    assert found.record["reached"] and rows[chosen]["gain"] >= 1.5 and rows[chosen]["damage"] <= 0.1
    assert (found.way.shared, found.way.factor) == ("keep", 0.0)
    assert [one["gain"] for one in rows] == sorted(one["gain"] for one in rows)
    assert way_of(found.record, REQUEST) == found.way
    assert way_of(found.record, Request(deactivate=("zh",), spare=0.2)) is None
    assert found.way.request(REQUEST).shared == "keep"


def test_an_interrupted_search_goes_on_where_it_was(
    found: off.Choice, search: Callable[..., off.Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr(off, "load_model", loads)
    assert search().record == found.record


def test_layer_by_layer_it_finds_the_same(
    found: off.Choice, target: Target, statistics: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded whole")

    monkeypatch.setattr(off, "load_model", loads)
    texts = open_corpus([embedded.NAME], ["en", "fr", "zh"])
    again = search_off(
        target, statistics, texts, REQUEST, tmp_path, after=2048, device="cpu", streaming=Streaming("layers")
    )
    assert again.way == found.way
    for a, b in zip(again.record["rows"], found.record["rows"], strict=True):
        assert a["neurons"] == b["neurons"] and a["change"] == pytest.approx(b["change"], abs=2e-4)


def test_the_change_is_that_of_the_weights_set_to_zero(found: off.Choice, target: Target) -> None:
    """The same damage as a second implementation finds: columns of the matrices set to zero, transformers' own loss."""
    model = load_model(embedded.MODEL, device="cpu", dtype="float32")
    packed, _ = unseen(target, open_corpus([embedded.NAME], ["zh"]), 2048)

    def loss() -> float:
        sums, count = 0.0, 0
        for context in packed["zh"].contexts:
            ids = torch.from_numpy(context)[None]
            with torch.inference_mode():
                sums += float(model(input_ids=ids, labels=ids).loss) * (len(context) - 1)
            count += len(context) - 1
        return sums / count

    before = loss()
    others = {pair for language in ("en", "fr") for pair in found.neurons.pairs(language)}
    for layer, neuron in set(found.neurons.pairs("zh")) - others:
        with torch.no_grad():
            model.model.layers[layer].mlp.down_proj.weight[:, neuron] = 0
    row = found.record["rows"][found.record["chosen"]]
    assert loss() - before == pytest.approx(row["gain"], abs=2e-3)


def test_too_much_that_is_asked_for_is_told(search: Callable[..., off.Choice]) -> None:
    with pytest.warns(MonoglotWarning, match="zh is not off: .* `redirect` zh=en"):
        best = search(Request(deactivate=("zh",), choose=True, target_damage=50.0))
    row = best.record["rows"][best.record["chosen"]]
    assert not best.record["reached"] and row["damage"] <= 0.1
    assert row["gain"] == max(one["gain"] for one in best.record["rows"] if one["damage"] <= 0.1)


def test_a_larger_set_is_not_tried_once_another_language_loses_too_much(
    target: Target, statistics: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets that do nothing to zh and cost en half a nat: one of each kind is tried, and the first one is the answer."""
    monkeypatch.setattr(off._Bench, "change", lambda *_: {"zh": 0.0, "en": 0.5, "fr": 0.0})
    texts = open_corpus([embedded.NAME], ["en", "fr", "zh"])
    with pytest.warns(MonoglotWarning, match="zh is not off"):
        found = search_off(target, statistics, texts, REQUEST, tmp_path, after=2048, device="cpu")
    tried = [(row["shared"], row["factor"]) for row in found.record["rows"]]
    assert len(tried) == len(set(tried)) and found.record["chosen"] == 0


def test_no_neurons_at_any_rate(search: Callable[..., off.Choice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off, "find", lambda *_, **__: Neurons({"zh": (NONE,) * 6, "en": (NONE,) * 6}, {}))
    with pytest.raises(NeuronsError, match="no neurons of zh to switch off"):
        search()


def test_text_after_that_of_the_neurons_where_there_is_some(target: Target) -> None:
    texts = open_corpus([embedded.NAME], ["en", "zh"])
    short, none_seen = unseen(target, texts, 1024)
    long, seen = unseen(target, texts, 10**6)
    first = unseen(target, texts, 0)[0]
    assert none_seen == () and set(seen) == {"en", "zh"}
    assert long["zh"].sha256 == first["zh"].sha256 != short["zh"].sha256
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert short["zh"].tokens == off.TOKENS


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_in_a_mixture_neurons_of_experts_are_switched_off(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model's neurons can't do it; the change is that of the checkpoint with the same neurons set to zero."""
    tiny.need_5("mixtures are tried with transformers 5 and later")
    target = open_target(resolve(str(tiny.save_model(tmp_path / "model", model_type))))
    texts = open_corpus([str(tiny.save_corpus(tmp_path / "texts"))])
    recorded = detect(target, texts, tokens=1200, context=64, minimum=100, device="cpu")
    monkeypatch.setattr(off, "RATES", (0.3,))
    monkeypatch.setattr(off, "KINDS", (("edit", 0.0),))
    with pytest.warns(MonoglotWarning, match="zh is not off"):
        choice = search_off(target, recorded, texts, REQUEST, tmp_path / "work", after=1200, device="cpu")
    (row,) = choice.record["rows"]
    assert row["neurons"] > 0 and row["change"]["zh"] != 0

    recipe = choice.way.request(REQUEST).recipe(target, choice.neurons.languages)
    folder = bake(target, choice.neurons, recipe, tmp_path / "out").folder
    packed, _ = unseen(target, texts, 1200)
    variants = [Variant(name, load_model(path, device="cpu")) for name, path in
                (("base", target.source.folder), ("baked", folder))]  # fmt: skip
    loss = measure(variants, packed).log_loss
    for language in texts:
        assert loss["baked"][language] - loss["base"][language] == pytest.approx(row["change"][language], abs=2e-3)
