"""Directions and levels against plain second computations, on inputs that are made and on a tiny model's own."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from monoglot.editor.edits import calibration
from monoglot.editor.edits import fit as fitting
from monoglot.editor.edits.calibration import Calibration, load, save
from monoglot.editor.edits.fit import best_level, fit, halves, open_calibration
from monoglot.editor.errors import StatisticsError
from monoglot.editor.live.load import load_model
from monoglot.editor.models.activations import gelu_tanh, relu, relu2, silu
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.statistics import statistics
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.inputs import Inputs, Part, Sample
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import read_texts

D, TOKENS = 12, 4000
FINGERPRINT = "f" * 64


def made_inputs(noise: float = 0.05, seed: int = 0, begin: bool = True) -> Inputs:
    """Two layers whose inputs have a part that is nearly constant, 1 + noise, and much that is not."""
    generator = np.random.default_rng(seed)
    base = generator.normal(size=D)
    base /= np.linalg.norm(base)

    def draw(n: int) -> Any:
        x = generator.normal(size=(n, D)) * 2
        x -= np.outer(x @ base, base)  # the rest is orthogonal
        return x + np.outer(1 + noise * generator.normal(size=n), base)

    counted, held_out = [draw(TOKENS) for _ in range(2)], [draw(60).astype(np.float32) for _ in range(2)]
    kinds = ("letters",) * 20 + ("digits",) * 10 + ("letters",) * 10 + ("digits",) * 20
    sample = Sample(held_out, np.arange(60), np.arange(60), kinds, (Part("en", "a", 20), Part("zh", "b", 40)))
    return Inputs(
        TOKENS,
        [x.T @ x for x in counted],
        np.array([x.sum(axis=0) for x in counted]),
        5 if begin else 0,
        5 * np.array([base * 3 + 0.1, base * 0.5]) if begin else np.zeros((2, D)),
        sample,
    )


def test_a_direction_is_the_ridge_regression_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against least squares over the rows themselves, √λ·I appended: another way to the same minimum."""
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(500, D)) + 0.7
    begin = generator.normal(size=D) * 4
    inputs = replace(
        made_inputs(), tokens=500, second_moment=[rows.T @ rows] * 2, first_moment=np.array([rows.sum(axis=0)] * 2),
        contexts=3, first_token_total=np.array([begin * 3] * 2),
    )  # fmt: skip
    for ridge in (1e-4, 1e-1):
        monkeypatch.setattr(fitting, "RIDGES", (ridge,))
        found = fit(inputs, [relu, relu], "F32", FINGERPRINT)
        penalty = math.sqrt(ridge * float((rows**2).sum()) / 500 / D)
        weight = math.sqrt(fitting.FIRST_TOKEN_WEIGHT)
        left = np.concatenate([rows / math.sqrt(500), weight * begin[None], penalty * np.eye(D)])
        right = np.concatenate([np.full(500, 1 / math.sqrt(500)), [weight], np.zeros(D)])
        expected = np.linalg.lstsq(left, right, rcond=None)[0]
        assert found.directions[0] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert (found.directions == found.directions.astype(np.float32)).all()
        assert found.ridge.tolist() == [ridge, ridge]


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("begin", [True, False])
def test_errors_are_those_of_the_stored_row_on_unseen_text(dtype: str, begin: bool) -> None:
    """Again with torch's arithmetic and rounding, row by row, on the second half of each text."""
    inputs = made_inputs(begin=begin)
    found = fit(inputs, [gelu_tanh, silu], dtype, FINGERPRINT)
    assert (found.tokens, found.unseen, found.languages) == (TOKENS, 30, ("en", "zh"))
    assert (found.dtype, found.fingerprint) == (dtype, FINGERPRINT)
    kind = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[dtype]
    acts = (lambda z: torch.nn.functional.gelu(z, approximate="tanh"), torch.nn.functional.silu)
    for layer, act in enumerate(acts):
        error, level = found.errors[layer], float(found.levels[layer])
        assert float(torch.tensor(level, dtype=torch.float64).to(kind)) == level  # exactly representable
        row = torch.from_numpy(level * found.directions[layer]).to(kind).double()
        unseen = [*range(10, 20), *range(40, 60)]
        z = [torch.from_numpy(inputs.sample.x[layer][i]).double() @ row for i in unseen]
        s = [float(value) / level for value in z]
        assert error.mean == pytest.approx(sum(s) / 30, rel=1e-9)
        assert error.deviation == pytest.approx(math.sqrt(sum((v - error.mean) ** 2 for v in s) / 30), rel=1e-6)
        constant = float(act(torch.tensor(level, dtype=torch.float64)))
        ratios = [float(act(value)) / constant - 1 for value in z]
        assert error.after == pytest.approx(math.sqrt(sum(r**2 for r in ratios) / 30), rel=1e-6)
        by_kind = {
            name: math.sqrt(np.mean([(v - 1) ** 2 for i, v in zip(unseen, s, strict=True) if inputs.sample.kinds[i] == name]))
            for name in ("letters", "digits")
        }  # fmt: skip
        assert error.worst == pytest.approx(max(by_kind.values()), rel=1e-9)
        assert by_kind[error.worst_kind] == max(by_kind.values())
        if inputs.first_token is None:
            assert error.first_token is None
        else:
            assert error.first_token == pytest.approx(float(torch.from_numpy(inputs.first_token[layer]) @ row) / level)


def test_unseen_text_changes_neither_direction_nor_level() -> None:
    inputs = made_inputs()
    _, measuring = halves(inputs.sample)
    other = [np.where(measuring[:, None], x * 1.5, x) for x in inputs.sample.x]
    one = fit(inputs, [gelu_tanh] * 2, "BF16", FINGERPRINT)
    two = fit(replace(inputs, sample=replace(inputs.sample, x=other)), [gelu_tanh] * 2, "BF16", FINGERPRINT)
    assert (one.directions == two.directions).all()
    assert (one.levels == two.levels).all()
    assert two.errors[0].mean == pytest.approx(1.5 * one.errors[0].mean)


def test_first_tokens_are_kept_apart_without_a_beginning_of_text_token() -> None:
    """One at the head of each half of each text, five times as large as the others."""
    inputs = made_inputs(begin=False)
    first = [0, 10, 20, 40]
    kinds = tuple("first token" if i in first else kind for i, kind in enumerate(inputs.sample.kinds))
    x = [rows.copy() for rows in inputs.sample.x]
    for rows in x:
        rows[first] *= 5
    found = fit(replace(inputs, sample=replace(inputs.sample, x=x, kinds=kinds)), [gelu_tanh] * 2, "F32", FINGERPRINT)
    assert found.unseen == 28
    for error in found.errors:
        assert error.first_token == pytest.approx(5, rel=0.1)
        assert error.mean == pytest.approx(1, abs=0.05)
        assert error.worst < 0.1
        assert error.after < 0.02


def steady(function: Callable[[Any], Any], noise: float) -> tuple[float, float]:
    """(level, error) where w·x = 1 + noise exactly."""
    x = 1 + noise * np.random.default_rng(0).normal(size=(20_000, 1))
    level = best_level(x, np.ones(1), function, "BF16")
    assert level is not None
    after = function(level * x[:, 0]) / function(np.array([level])) - 1
    return level, float(np.sqrt(np.mean(after**2)))


@pytest.mark.parametrize(("function", "flat"), [(gelu_tanh, -0.752), (silu, -1.278)])
def test_the_level_is_where_the_function_is_flat(function: Callable[[Any], Any], flat: float) -> None:
    """There noise enters squared: the error falls with the square of the noise."""
    (level, error), (_, smaller) = steady(function, 0.05), steady(function, 0.025)
    assert level == pytest.approx(flat, abs=0.02)
    assert error < 0.05 / 10
    assert error / smaller == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(("function", "factor"), [(relu, 1), (relu2, 2)])
def test_a_function_that_is_flat_nowhere_has_the_noise_itself(function: Callable[[Any], Any], factor: int) -> None:
    level, error = steady(function, 0.05)
    assert level > 0
    assert error == pytest.approx(factor * 0.05, rel=0.05)


def test_a_level_with_too_small_an_activation_is_never_taken() -> None:
    assert best_level(np.ones((5, 1)), np.ones(1), lambda x: x * 0 + 0.01, "F32") is None
    with pytest.raises(StatisticsError, match=r"layer 0: no level makes"):
        fit(made_inputs(), [lambda x: x * 0.001] * 2, "F32", FINGERPRINT)


# The file


def same(one: Calibration, two: Calibration) -> bool:
    return (one.errors, one.tokens, one.unseen, one.languages, one.dtype, one.fingerprint) == (
        two.errors, two.tokens, two.unseen, two.languages, two.dtype, two.fingerprint
    ) and all(
        first.dtype == second.dtype == np.float64 and first.tobytes() == second.tobytes()
        for first, second in (
            (one.directions, two.directions), (one.levels, two.levels), (one.ridge, two.ridge),
        )
    )  # fmt: skip


@pytest.mark.parametrize("begin", [True, False])
def test_a_calibration_comes_back_from_its_file(begin: bool, tmp_path: Path) -> None:
    made = fit(made_inputs(begin=begin), [gelu_tanh, silu], "BF16", FINGERPRINT)
    save(made, tmp_path / "c")
    found = load(tmp_path / "c")
    assert same(made, found)
    save(found, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head, arrays: head.update(version=2), r"has format 2, this version reads 1\. Upgrade"),
        (lambda head, arrays: head.pop("tokens"), "damaged"),
        (lambda head, arrays: head.update(tokens="many"), "damaged"),
        (lambda head, arrays: head.update(languages=[1]), r"damaged .*languages\[0\] is not a text: it is 1"),
        (lambda head, arrays: head.update(dtype="F8"), "damaged"),
        (lambda head, arrays: head["errors"].pop(), "damaged .*errors of 1 layers"),
        (
            lambda head, arrays: head["errors"][0].update(mean="1"),
            r"damaged .*errors\[0\]\.mean is not a number: it is '1'",
        ),
        (lambda head, arrays: head["errors"][0].pop("after"), "damaged"),
        (lambda head, arrays: arrays.pop("levels"), "damaged"),
        (lambda head, arrays: arrays["levels"].fill(0), "damaged .*zero"),
        (lambda head, arrays: arrays["directions"].fill(math.nan), "damaged .*NaN"),
    ],
)
def test_malformed_calibrations_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "c"
    save(fit(made_inputs(), [gelu_tanh, silu], "BF16", FINGERPRINT), path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        head = json.loads(file.metadata()[calibration.METADATA])
    arrays: dict[str, Any] = load_file(path)
    change(head, arrays)
    save_file(arrays, path, {calibration.METADATA: json.dumps(head)})
    with pytest.raises(StatisticsError, match=message):
        load(path)


def test_files_that_are_not_calibrations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match=r"no calibration file .*nowhere"):
        load(tmp_path / "nowhere")
    save_file({"a": np.zeros(3)}, tmp_path / "c")
    with pytest.raises(StatisticsError, match="is not a calibration file"):
        load(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"no")
    with pytest.raises(StatisticsError, match="damaged"):
        load(tmp_path / "c")


# A model's own


@pytest.fixture(scope="module")
def target(model: Path) -> Target:
    return open_target(resolve(str(model)))


@pytest.fixture(scope="module")
def stats(target: Target, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stats") / "s.safetensors"
    texts = open_corpus([str(corpus)])
    found = detect(target, texts, tokens=600, context=64, minimum=100, device="cpu", calibrate=True)
    statistics.save(found, path)
    return path


def test_a_calibration_of_a_model_holds_on_its_held_out_text(target: Target, stats: Path, corpus: Path) -> None:
    """Gate rows t·w in a live model: the activation is what `errors` say, on all held-out text."""
    found = open_calibration(stats, target)
    assert found.directions.shape == (3, 16)
    assert (found.tokens, found.dtype, found.fingerprint) == (1800, "F32", target.fingerprint)
    live = load_model(target.source.folder, device="cpu")
    seen: dict[int, Any] = {}
    for layer, block in enumerate(live.model.layers):
        block.mlp.register_forward_pre_hook(lambda _, inputs, layer=layer: seen.__setitem__(layer, inputs[0][0, 1:]))
    rows: list[list[Any]] = [[], [], []]
    held_out = read_texts(target, open_corpus([str(corpus)]), tokens=10**6, context=64, held_out=True)
    with torch.inference_mode():
        for packed in held_out.values():
            for context in packed.contexts:
                live.model(input_ids=torch.from_numpy(context)[None])
                for layer in range(3):
                    rows[layer].append(seen[layer])
    for layer in range(3):
        level = float(found.levels[layer])
        z = torch.cat(rows[layer]) @ torch.from_numpy(level * found.directions[layer]).float()
        ratio = torch.nn.functional.silu(z) / torch.nn.functional.silu(torch.tensor(level)) - 1
        assert float((ratio.double() ** 2).mean().sqrt()) == pytest.approx(found.errors[layer].after, rel=0.35)
        assert float((z / level).mean()) == pytest.approx(found.errors[layer].mean, abs=0.05)


def test_a_calibration_file_is_as_good_as_the_statistics(target: Target, stats: Path, tmp_path: Path) -> None:
    made = open_calibration(stats, target)
    save(made, tmp_path / "c.safetensors")
    assert same(open_calibration(tmp_path / "c.safetensors", target), made)


def test_another_models_calibration_is_refused(target: Target, stats: Path, tmp_path: Path) -> None:
    save(open_calibration(stats, target), tmp_path / "c")
    other = replace(target, fingerprint="0" * 64)
    for path in (stats, tmp_path / "c"):
        with pytest.raises(StatisticsError, match=r"is of another model: fingerprint .*, tiny has 000000000000…"):
            open_calibration(path, other)
    save(replace(fit(made_inputs(), [silu] * 2, "F32", target.fingerprint)), tmp_path / "c")
    with pytest.raises(StatisticsError, match="does not have the shape of tiny"):
        open_calibration(tmp_path / "c", target)


def test_statistics_without_inputs_are_refused(target: Target, stats: Path, tmp_path: Path) -> None:
    statistics.save(replace(statistics.load(stats), inputs=None), tmp_path / "s")
    with pytest.raises(
        StatisticsError, match=r"does not hold what .* Make it again with `monoglot detect --calibrate`"
    ):
        open_calibration(tmp_path / "s", target)
    with pytest.raises(StatisticsError, match=r"no statistics file .*nowhere"):
        open_calibration(tmp_path / "nowhere", target)
