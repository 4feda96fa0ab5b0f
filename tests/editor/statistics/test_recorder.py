"""Counts and sums against plain second implementations, exactly, however the batches are cut."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tables import BOS, HIDDEN, LAYERS, TEXTS, WIDTH, Tables, packed, plain, run, same, sample
from support.tiny import TEXT

from monoglot.editor.errors import StatisticsError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, input_modules
from monoglot.editor.models.families import family_of
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.statistics import recorder as record
from monoglot.editor.statistics.recorder import Recorder, collect
from monoglot.editor.statistics.sample import take_sample
from monoglot.editor.text.corpus import Text
from monoglot.editor.text.tokens import pack

# Counting


@pytest.mark.parametrize("batch_size", [0, 1, 2, 3, 99])
@pytest.mark.parametrize("flat", [False, True], ids=["batched", "flat as OPT's"])
@pytest.mark.parametrize("skip", [0, 1])
def test_counts_and_sums_are_exact(batch_size: int, flat: bool, skip: int) -> None:
    texts = {language: packed(language, tokens, skip=skip) for language, tokens in (("fr", 100), ("zh", 61), ("en", 5))}
    model = Tables(flat=flat)
    assert same(run(model, texts, batch_size=batch_size), plain(model, texts))
    # every context once, without padding
    counted = sum(math.prod(shape) - shape[0] * skip for shape in model.batches)
    assert counted == 166


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_the_same() -> None:
    assert same(run(Tables().cuda()), plain(Tables(), TEXTS))


def test_a_large_batch_is_counted_whole() -> None:
    """More rows than a block of the CPU, and than 8 bits count to."""
    texts = {"fr": packed("fr", 2_000, context=501)}
    assert same(run(texts=texts), plain(Tables(), texts))
    always = Tables()
    always.tables.data.fill_(1)
    found = run(always, texts)
    assert (found.active_count["fr"] == 2_000).all()
    assert (found.total["fr"] == 2_000).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_batch_is_summed_in_float64_and_rounded_to_the_grid(dtype: torch.dtype) -> None:
    values = torch.randn(2, 300, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    act = torch.nn.Identity()
    recorder = Recorder([act], WIDTH, torch.device("cpu"))
    with recorder.attached():
        for _ in range(2):
            recorder.start(2, 300, 1)
            act(values)
            recorder.commit()
    act(values)  # no longer attached
    for neuron in range(WIDTH):
        column = values[:, 1:, neuron].double().flatten().tolist()
        assert recorder.active_count[0, neuron] == 2 * sum(value > 0 for value in column)
        assert recorder.total[0, neuron] == 2 * (round(math.fsum(column) * 2**20) / 2**20)


def test_probabilities_and_means() -> None:
    found = run()
    assert found.languages == ("fr", "zh", "en")
    assert found.probability("zh") == pytest.approx(found.active_count["zh"] / 61)
    assert found.mean("zh") == pytest.approx(found.total["zh"] / 61)


def test_a_real_model_by_hand(model: Path) -> None:
    """Llama: a = silu(W_gate · x), x the FFN's input, one context at a time. And the logits are never computed."""
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)

    def no_logits(*_: Any) -> None:
        raise AssertionError("the logits were computed")

    live.lm_head.register_forward_pre_hook(no_logits)
    documents = [f"{text} {number}" for number, text in enumerate(TEXT.values())] * 4
    text = pack(Text("fr", "a list", lambda: iter(documents)), tokenizer, tokens=500, context=64)
    layers = live.model.layers
    info = ModelInfo("tiny", None, "llama", 3, 24, "f" * 64)
    found = collect(live, activation_modules(live, family_of({"model_type": "llama"})), info, {"fr": text})

    active, values = np.zeros((3, 24), np.int64), [[[] for _ in range(24)] for _ in range(3)]
    inputs: dict[int, torch.Tensor] = {}
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, args, i=i: inputs.__setitem__(i, args[0]))
        for i, layer in enumerate(layers)
    ]
    with torch.inference_mode():
        for context in text.contexts:
            assert context[0] == tokenizer.bos_token_id
            live.model(input_ids=torch.from_numpy(context)[None])
            for i, layer in enumerate(layers):
                before = inputs[i][0].double() @ layer.mlp.gate_proj.weight.double().T
                for row in (before / (1 + torch.exp(-before)))[1:].tolist():
                    for j, value in enumerate(row):
                        active[i, j] += value > 0
                        values[i][j].append(value)
    for hook in hooks:
        hook.remove()
    assert found.tokens == {"fr": 500}
    assert (found.active_count["fr"] == active).all()
    assert 0 < active.min() < active.max() < 500
    assert found.total["fr"] == pytest.approx(np.array([[math.fsum(v) for v in row] for row in values]), abs=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_an_error_and_not_inactive(value: float) -> None:
    model = Tables()
    model.tables.data[1, :, 3] = value
    with pytest.raises(
        StatisticsError, match=r"layer 1 puts out NaN or infinity \(1 of its neurons\)\. Try `dtype` float32"
    ):
        run(model)


# Histograms and inputs


def interval(value: float) -> tuple[float, float]:
    """The bin of a value, by arithmetic on the number itself: four to an octave, the ends open."""
    if value == 0:
        return 0.0, 0.0
    mantissa, exponent = math.frexp(abs(value))  # 0.5 ≤ mantissa < 1
    quarter = math.floor(mantissa * 8) - 4
    low, high = (math.ldexp((4 + step) / 8, exponent) for step in (quarter, quarter + 1))
    top = 256.0 if value > 0 else 1.0
    if high > top:
        low, high = (224.0 if value > 0 else 0.875), top
    if low <= 2**-8:
        low, high = 0.0, 1.25 * 2**-8
    return (low, high) if value > 0 else (-high, -low)


@pytest.mark.parametrize("denominator", [1, 2**10, 2**18])
@pytest.mark.parametrize("flat", [False, True], ids=["batched", "flat as OPT's"])
def test_quantiles_lie_in_the_bin_of_the_order_statistic(denominator: int, flat: bool) -> None:
    """With values that are large, ordinary, and tiny."""
    model = Tables(denominator=denominator, flat=flat)
    found = run(model, quantiles=True, batch_size=2)
    assert found.histogram is not None
    tables = model.tables.detach().float().numpy()
    for language, text in TEXTS.items():
        ids = np.concatenate([context[1:] for context in text.contexts])
        assert (found.histogram[language].sum(axis=-1) == len(ids)).all()
        for q in (0, 0.1, 0.5, 0.9, 1):
            quantiles = found.quantile(language, q)
            for layer in range(LAYERS):
                for neuron in range(WIDTH):
                    values = sorted(tables[layer][ids, neuron].tolist())
                    low, high = interval(values[max(round(q * len(ids)), 1) - 1])
                    assert low <= quantiles[layer, neuron] <= high


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("flat", [False, True], ids=["batched", "flat as OPT's"])
def test_inputs_are_added_up_exactly(skip: int, flat: bool) -> None:
    """Token by token; the tables hold multiples of 1/1024, so products are on the grid and every order gives the same."""
    texts = {language: packed(language, tokens, skip=skip) for language, tokens in (("fr", 100), ("zh", 61), ("en", 5))}
    model = Tables(flat=flat)
    found = run(model, texts, calibrate=True, batch_size=3).inputs
    assert found is not None
    reads = model.reads.detach().numpy()
    for layer in range(LAYERS):
        second, first, begin, contexts = np.zeros((HIDDEN, HIDDEN)), np.zeros(HIDDEN), np.zeros(HIDDEN), 0
        for text in texts.values():
            for context in text.contexts:
                for position, token in enumerate(context.tolist()):
                    x = reads[layer][token]
                    if position < skip:
                        begin += x
                        contexts += 1
                    else:
                        second += np.outer(x, x)
                        first += x
        assert found.tokens == 166
        assert (found.second_moment[layer] == second).all()
        assert (found.first_moment[layer] == first).all()
        assert found.contexts == contexts
        if skip:
            assert found.first_token is not None
            assert found.first_token[layer] == pytest.approx(reads[layer][BOS])
        else:
            assert found.first_token is None


def test_a_real_model_reads_by_hand(model: Path, corpus: Path) -> None:
    """Hooks of this test's own on Llama's norm, whose output is what gate_proj reads, one context at a time."""
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)
    documents = [f"{text} {number}" for number, text in enumerate(TEXT.values())] * 4
    text = pack(Text("fr", "a list", lambda: iter(documents)), tokenizer, tokens=500, context=64)
    family = family_of({"model_type": "llama"})
    readers = input_modules(live, family)
    held_out = {"fr": pack(Text("fr", "a list", lambda: iter(documents[::-1])), tokenizer, tokens=100, context=64)}
    found = collect(
        live, activation_modules(live, family), ModelInfo("tiny", None, "llama", 3, 24, "f" * 64), {"fr": text},
        quantiles=True, readers=readers, sample=take_sample(live, readers, held_out, tokenizer),
    )  # fmt: skip
    assert found.inputs is not None
    caught: dict[int, Any] = {}
    for i, layer in enumerate(live.model.layers):
        layer.post_attention_layernorm.register_forward_hook(
            lambda _, args, output, i=i: caught.__setitem__(i, output[0].double().numpy())
        )
    rows: list[list[Any]] = [[] for _ in range(3)]
    sampled: list[list[Any]] = [[] for _ in range(3)]
    with torch.inference_mode():
        for packed_text, into in ((text, rows), (held_out["fr"], sampled)):
            for context in packed_text.contexts:
                live.model(input_ids=torch.from_numpy(context)[None])
                for i in range(3):
                    into[i].append(caught[i][1:])
    for i, layer in enumerate(live.model.layers):
        x = np.concatenate(rows[i])
        assert x.shape == (500, 16)
        assert found.inputs.second_moment[i] == pytest.approx(np.einsum("na,nb->ab", x, x), rel=1e-4, abs=1e-3)
        assert found.inputs.first_moment[i] == pytest.approx(x.sum(axis=0), abs=1e-3)
        assert found.inputs.sample.x[i] == pytest.approx(np.concatenate(sampled[i]), abs=1e-5)
        before = x @ layer.mlp.gate_proj.weight.double().detach().numpy().T
        activations = np.sort(before / (1 + np.exp(-before)), axis=0)
        exact, quantile = activations[449], found.quantile("fr", 0.9)[i]
        assert (np.abs(quantile - exact) <= 0.25 * np.abs(exact) + 2**-7).all()


def test_nan_in_the_inputs_is_an_error() -> None:
    model = Tables()
    options = {"readers": list(model.readers), "sample": sample(model)}
    model.reads.data[2, 5, 1] = math.nan
    with pytest.raises(StatisticsError, match=r"layer 2 reads NaN or infinity\. Try `dtype` float32"):
        run(model, **options)
    with pytest.raises(StatisticsError, match=r"a layer reads NaN"):
        sample(model)


# Memory


def test_batches_are_halved_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(record.BATCH_TOKENS, "cpu", 64)
    model = Tables()
    model.most = 40  # five contexts of eight
    assert same(run(model), run())
    # learnt once: no later language tries eight again
    assert [shape[0] for shape in model.batches] == [4, 4, 4, 2, 1, 4, 4, 1, 1]


def test_the_batch_size_that_was_asked_for_is_kept() -> None:
    model = Tables()
    run(model, batch_size=3)
    assert max(shape[0] for shape in model.batches) == 3
    model.most = 20
    with pytest.raises(StatisticsError, match=r"out of memory on cpu with 3 contexts of 8 tokens .*`batch_size`"):
        run(model, batch_size=3)
    model.most = 5
    with pytest.raises(StatisticsError, match=r"out of memory on cpu with 1 contexts of 8 tokens"):
        run(model)


def test_alone_without_torchrun() -> None:
    assert "RANK" not in os.environ
    assert record.workers() == (0, 1)
