"""Counts and sums against plain second implementations, exactly; and the same however they came about."""

import itertools
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monoglot.editor import statistics
from monoglot.editor.corpus import Packed, Text, pack
from monoglot.editor.errors import StatisticsError
from monoglot.editor.families import activation_modules, family_of
from monoglot.editor.live import load_model, load_tokenizer
from monoglot.editor.statistics import ModelInfo, Recorder, Statistics, collect, load, merge, save
from safetensors.numpy import load_file, save_file
from tiny import TEXT

LAYERS, WIDTH, VOCABULARY, BOS = 3, 5, 50, 0
INFO = ModelInfo("tables", None, "llama", LAYERS, WIDTH, "f" * 64)


class Tables(torch.nn.Module):
    """A "model" whose activations are looked up: layer i puts out tables[i][token]. It can be told to fail."""

    def __init__(self, seed: int = 0, denominator: int = 2**10, flat: bool = False) -> None:
        super().__init__()
        whole = np.random.default_rng(seed).integers(-900, 900, (LAYERS, VOCABULARY, WIDTH))
        whole[:, ::7] = 0  # exactly 0 is not active
        self.tables = torch.nn.Parameter(torch.from_numpy(whole) / denominator)
        self.acts = torch.nn.ModuleList(torch.nn.Identity() for _ in range(LAYERS))
        self.flat = flat
        self.most = 10**9  # positions that fit into memory
        self.batches: list[tuple[int, ...]] = []

    def get_decoder(self) -> "Tables":
        return self

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> None:
        assert not use_cache
        for table, act in zip(self.tables, self.acts, strict=True):
            found = table[input_ids]
            act(found.flatten(0, 1) if self.flat else found)
            if input_ids.numel() > self.most:  # in the middle of a pass
                raise torch.cuda.OutOfMemoryError("too much")
        self.batches.append(tuple(input_ids.shape))


def packed(language: str, tokens: int, context: int = 8, skip: int = 1, seed: int = 0) -> Packed:
    ids = np.random.default_rng([seed, *language.encode()]).integers(1, VOCABULARY, tokens)
    head = np.full(skip, BOS, np.int64)
    step = context - skip
    contexts = tuple(np.concatenate([head, ids[at : at + step]]) for at in range(0, tokens, step))
    return Packed(language, contexts, skip, tokens, f"{language}-{tokens}-{context}-{skip}-{seed}")


TEXTS = {language: packed(language, tokens) for language, tokens in (("fr", 100), ("zh", 61), ("en", 5))}


def plain(model: Tables, texts: dict[str, Packed]) -> Statistics:
    """Token by token, in Python. The tables hold multiples of 1/1024, so every order of adding gives the same."""
    tables = model.tables.tolist()
    active = {name: np.zeros((LAYERS, WIDTH), np.int64) for name in texts}
    total = {name: np.zeros((LAYERS, WIDTH)) for name in texts}
    for name, text in texts.items():
        for context in text.contexts:
            for token in context[text.skip :].tolist():
                for layer, neuron in itertools.product(range(LAYERS), range(WIDTH)):
                    value = tables[layer][token][neuron]
                    active[name][layer, neuron] += value > 0
                    total[name][layer, neuron] += value
    tokens = {name: sum(len(c) - t.skip for c in t.contexts) for name, t in texts.items()}
    return Statistics(INFO, tokens, active, total, {name: (text.sha256,) for name, text in texts.items()})


def same(one: Statistics, two: Statistics) -> bool:
    """To the bit, in the same order."""
    return (one.model, list(one.tokens.items()), one.texts, one.settings) == (
        two.model, list(two.tokens.items()), two.texts, two.settings,
    ) and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes()
        for first, second in ((one.active_count, two.active_count), (one.total, two.total))
        for name in one.tokens
    )  # fmt: skip


def run(model: Tables | None = None, texts: dict[str, Packed] = TEXTS, **options: Any) -> Statistics:
    model = model or Tables()
    return collect(model, list(model.acts), INFO, texts, **options)


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
        StatisticsError, match=r"layer 1 puts out NaN or infinity \(1 of its neurons\)\. Try --dtype float32"
    ):
        run(model)


# Memory


def test_batches_are_halved_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(statistics.BATCH_TOKENS, "cpu", 64)
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
    with pytest.raises(StatisticsError, match=r"out of memory on cpu with 3 contexts of 8 tokens .*--batch-size"):
        run(model, batch_size=3)
    model.most = 5
    with pytest.raises(StatisticsError, match=r"out of memory on cpu with 1 contexts of 8 tokens"):
        run(model)


# Interruption


def interrupted(path: Path, after: int, model: Tables | None = None, **options: Any) -> None:
    """A run that is stopped at its `after`-th batch."""
    batches = itertools.count(1)

    def stop(*_: Any) -> None:
        if next(batches) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, resume_file=path, progress=stop, **options)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is saved after every batch."""
    monkeypatch.setattr(statistics, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(statistics._Resume, "cost", property(lambda self: 0.0, lambda self, value: None), raising=False)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("after", [2, 5, 8, 9, 10, 13])
@pytest.mark.parametrize("batch_size", [0, 2])
def test_an_interrupted_run_goes_on(
    tmp_path: Path, after: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sums that do not add up exactly by themselves: a third has no end in binary."""
    monkeypatch.setitem(statistics.BATCH_TOKENS, "cpu", 16)
    path = tmp_path / "progress"
    whole = Tables(denominator=3)
    expected = run(whole, batch_size=batch_size, settings={"context": 8})
    interrupted(path, after, Tables(denominator=3), batch_size=batch_size, settings={"context": 8})
    assert path.is_file()
    model, seen = Tables(denominator=3), []
    found = run(
        model, batch_size=batch_size, settings={"context": 8}, resume_file=path,
        progress=lambda language, done, of: seen.append((language, done, of)),
    )  # fmt: skip
    assert same(found, expected)
    # the batch it was stopped at is the first one that was not saved, and so the first to be done again
    assert model.batches == whole.batches[after - 1 :]
    assert seen[-1] == ("en", 166, 166)
    assert not path.exists()


@pytest.mark.usefixtures("often")
def test_a_run_can_be_interrupted_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    for _ in range(6):
        interrupted(path, 3, batch_size=2)
    model = Tables()
    assert same(run(model, resume_file=path, batch_size=2), plain(model, TEXTS))
    assert len(model.batches) == 14 - 6 * 2


@pytest.mark.usefixtures("often")
def test_a_halved_batch_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(statistics.BATCH_TOKENS, "cpu", 64)
    path, narrow = tmp_path / "progress", Tables()
    narrow.most = 20
    interrupted(path, 3, narrow)
    model = Tables()
    assert same(run(model, resume_file=path), plain(model, TEXTS))
    assert max(shape[0] for shape in model.batches) == 2


OTHER: dict[str, Callable[[Tables], Statistics]] = {
    "settings": lambda model: run(model, resume_file=Path("p"), settings={"context": 9}),
    "batch size": lambda model: run(model, resume_file=Path("p"), batch_size=1),
    "text": lambda model: run(model, {**TEXTS, "zh": packed("zh", 61, seed=1)}, resume_file=Path("p")),
    "languages": lambda model: run(model, {"fr": TEXTS["fr"]}, resume_file=Path("p")),
    "model": lambda model: collect(
        model, list(model.acts), replace(INFO, fingerprint="0" * 64), TEXTS, resume_file=Path("p")
    ),
}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("what", OTHER)
def test_progress_of_something_else_is_ignored(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(statistics.BATCH_TOKENS, "cpu", 16)
    interrupted(Path("p"), 4)
    model = Tables()
    found = OTHER[what](model)
    assert sum(math.prod(shape) - shape[0] for shape in model.batches) == sum(found.tokens.values())


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif how == "not safetensors":
        path.write_bytes(b"no")
    elif how == "half of it":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        arrays = load_file(path)
        del arrays["zh.total"]
        save_file(arrays, path, metadata)
    else:
        save_file(load_file(path), path)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("how", ["truncated", "not safetensors", "half of it", "no metadata"])
def test_damaged_progress_is_ignored(how: str, tmp_path: Path) -> None:
    """Above all nothing of it may be counted."""
    path = tmp_path / "p"
    interrupted(path, 12, batch_size=2)
    damage(path, how)
    model = Tables()
    assert same(run(model, resume_file=path, batch_size=2), plain(model, TEXTS))
    assert len(model.batches) == 14


@pytest.mark.usefixtures("often")
def test_progress_that_cannot_be_kept_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert same(run(resume_file=tmp_path / "file" / "p"), run())


def test_saving_takes_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most every 20 s; less often when it is slow. Time is counted here in batches: one second each, two a save."""
    now, saves = itertools.count(), []
    monkeypatch.setattr(statistics.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(statistics, "replace_file", lambda path, data: saves.append(len(data)))
    run(texts={"fr": packed("fr", 700)}, resume_file=tmp_path / "p", batch_size=1)
    assert 3 <= len(saves) <= 5  # 100 batches


# Adding up


def parts(denominator: int = 3) -> list[Statistics]:
    """Four runs on different texts, with languages in common, and sums that only a grid makes exact to add."""
    return [
        run(
            Tables(denominator=denominator),
            {k: packed(k, 60 + seed, seed=seed) for k in languages},
            settings={"context": 8},
        )
        for seed, languages in enumerate((["fr", "en"], ["fr"], ["zh", "fr"], ["en"]))
    ]


def test_merging_is_adding_in_any_order() -> None:
    made = parts()
    expected = merge(made)
    assert expected.tokens == {"en": 123, "fr": 183, "zh": 62}
    assert (expected.active_count["fr"] == sum(p.active_count["fr"] for p in made if "fr" in p.tokens)).all()
    assert expected.texts["fr"] == tuple(sorted(t for p in made if "fr" in p.texts for t in p.texts["fr"]))
    assert expected.settings == {"context": 8}
    for order in itertools.permutations(made):
        assert same(merge(order), expected)
        assert same(merge([merge(order[:2]), merge(order[2:])]), expected)
        assert same(merge([order[0], merge(order[1:])]), expected)


def test_merged_texts_give_what_one_run_over_both_does() -> None:
    one, two = packed("fr", 56), packed("fr", 70, seed=1)
    both = Packed("fr", one.contexts + two.contexts, 1, 126, "both")
    whole, merged = run(texts={"fr": both}), merge([run(texts={"fr": one}), run(texts={"fr": two})])
    assert (whole.active_count["fr"] == merged.active_count["fr"]).all()
    assert whole.total["fr"].tobytes() == merged.total["fr"].tobytes()


def test_merging_leaves_its_parts_alone() -> None:
    made = parts()
    before = made[0].active_count["fr"].copy(), made[0].total["fr"].copy()
    merge(made)
    assert (made[0].active_count["fr"] == before[0]).all()
    assert (made[0].total["fr"] == before[1]).all()


def test_one_models_copies_merge_the_same_in_any_order() -> None:
    """A model downloaded twice has two names and one fingerprint."""
    a, b, *_ = parts()
    a = replace(a, model=replace(INFO, name="copy"), settings={"context": 9})
    assert same(merge([a, b]), merge([b, a]))
    assert merge([a, b]).settings == {}


def test_what_does_not_add_up_is_refused() -> None:
    a, b, *_ = parts()
    with pytest.raises(StatisticsError, match=r"same fr text is in two of the files, and would count twice"):
        merge([a, b, b])
    with pytest.raises(StatisticsError, match=r"same (en|fr) text"):
        merge([merge([a, b]), a])
    other = replace(b, model=replace(INFO, name="other", fingerprint="0" * 64))
    with pytest.raises(
        StatisticsError, match=r"different models .*: those of other \(0{12}…\) and of tables \(f{12}…\)"
    ):
        merge([a, other])


# The file


def test_statistics_come_back_from_their_file(tmp_path: Path) -> None:
    made, path = run(settings={"context": 8, "dtype": "float32"}), tmp_path / "sub" / "s.safetensors"
    save(made, path)
    found = load(path)
    assert same(found, made)
    save(found, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert same(merge([found]), replace(merge([made])))
    with pytest.raises(KeyError):
        found.active_count["de"]
    assert list(found.total) == ["fr", "zh", "en"]
    assert len(found.total) == 3


def test_the_same_statistics_are_the_same_file_in_another_process(tmp_path: Path) -> None:
    """safetensors writes metadata in an order that differs from process to process; ours has one key."""
    save(run(), tmp_path / "s")
    header = json.loads(
        (tmp_path / "s").read_bytes()[8:].split(b"\n")[0].decode("utf-8", "ignore").rpartition("}")[0] + "}"
    )
    assert list(header["__metadata__"]) == [statistics.METADATA]


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    save(run(), path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        head = json.loads(file.metadata()[statistics.METADATA])
    arrays: dict[str, Any] = load_file(path)
    change(head, arrays)
    save_file(arrays, path, {statistics.METADATA: json.dumps(head)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head, arrays: head.update(version=2), r"has format 2, this version reads 1\. Upgrade"),
        (lambda head, arrays: head["tokens"].update(fr=0), r"damaged \(fr has 0 tokens"),
        (lambda head, arrays: head["tokens"].update(fr="1"), r"damaged \(fr has 1 tokens"),
        (lambda head, arrays: head.update(tokens=[1]), r"damaged"),
        (lambda head, arrays: head.pop("texts"), r"damaged"),
        (lambda head, arrays: head["model"].pop("width"), r"damaged"),
        (lambda head, arrays: head["model"].update(width=6), r"damaged \(fr\.active_count is I64 of shape \[3, 5\]"),
        (lambda head, arrays: arrays.pop("zh.total"), r"damaged .*zh\.total"),
        (lambda head, arrays: arrays.update({"zh.total": arrays["zh.active_count"]}), r"damaged \(zh\.total is I64"),
    ],
)
def test_malformed_statistics_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    rewrite(tmp_path / "s", change)
    with pytest.raises(StatisticsError, match=message):
        load(tmp_path / "s")


def test_files_that_are_not_statistics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match=r"no statistics file .*nowhere\. Make one with `monoglot detect`"):
        load(tmp_path / "nowhere")
    save_file({"a": np.zeros(3)}, tmp_path / "s")
    with pytest.raises(StatisticsError, match="is not a statistics file"):
        load(tmp_path / "s")
    save(run(), tmp_path / "s")
    whole = (tmp_path / "s").read_bytes()
    for content in (b"", whole[:-1], whole[:100], b"PK" + whole):
        (tmp_path / "s").write_bytes(content)
        with pytest.raises(StatisticsError, match=r"damaged .*Run `monoglot detect` again"):
            load(tmp_path / "s")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    save(run(), tmp_path / "s")
    found = load(tmp_path / "s")
    (tmp_path / "s").unlink()
    with pytest.raises(StatisticsError, match="was changed while it was read"):
        found.probability("fr")


def test_alone_without_torchrun() -> None:
    assert "RANK" not in os.environ
    assert statistics._workers() == (0, 1)


def test_ctrl_c_in_the_forward_pass_loses_nothing(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the next regular save: what was done before the interrupted batch is on disk."""
    from monoglot.editor import statistics
    from monoglot.editor.bake import open_target
    from monoglot.editor.corpus import open_corpus
    from monoglot.editor.detect import detect
    from monoglot.editor.source import resolve

    target, texts = open_target(resolve(str(model))), open_corpus([str(corpus)])
    passes = 0
    forward = statistics._forward

    def interrupted(*arguments: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 4:
            raise KeyboardInterrupt
        forward(*arguments)

    def run() -> statistics.Statistics:
        return detect(
            target, texts, tokens=1500, context=64, minimum=1, batch_size=4, device="cpu", resume_file=tmp_path / "half"
        )

    monkeypatch.setattr(statistics, "_forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    resumed = run()
    done = passes - 1  # of both runs, without the interrupted pass
    passes = 4  # past the interruption: only counting from here
    whole = run()
    assert done == passes - 4, "a batch was run twice"
    for language in texts:
        assert (resumed.active_count[language] == whole.active_count[language]).all()
        assert (resumed.total[language] == whole.total[language]).all()
