"""Statistics add up, and come back from their file."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.tables import INFO, Tables, packed, run, same, same_inputs

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.statistics import statistics
from monoglot.editor.statistics.statistics import Statistics, load, merge, save
from monoglot.editor.text.tokens import Packed

# Adding up


ALL: dict[str, Any] = {"quantiles": True, "calibrate": True}


def parts(denominator: int = 3, **more: Any) -> list[Statistics]:
    """Four runs on different texts, with languages in common, and sums that only a grid makes exact to add."""
    return [
        run(
            Tables(denominator=denominator),
            {k: packed(k, 60 + seed, seed=seed) for k in languages},
            settings={"context": 8},
            held_out={k: packed(k, 10 + seed, seed=20 + seed) for k in languages},
            **more,
        )
        for seed, languages in enumerate((["fr", "en"], ["fr"], ["zh", "fr"], ["en"]))
    ]


@pytest.mark.parametrize("more", [{}, ALL], ids=["plain", "with histograms and inputs"])
def test_merging_is_adding_in_any_order(more: dict[str, Any]) -> None:
    made = parts(**more)
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


def test_merged_samples_lie_side_by_side() -> None:
    """By language, then by text; and what is in none but one of them comes along."""
    made = parts(**ALL)
    found = merge(made).inputs
    assert found is not None
    parts_of = sorted((text.language, text.sha256) for p in made if p.inputs for text in p.inputs.sample.parts)
    assert [(part.language, part.sha256) for part in found.sample.parts] == parts_of
    assert len(parts_of) == 6
    rows = {}
    for one in made:
        assert one.inputs is not None
        at = 0
        for text in one.inputs.sample.parts:
            rows[text.sha256] = one.inputs.sample.tokens[at : at + text.rows].tolist()
            at += text.rows
    assert found.sample.tokens.tolist() == [token for _, sha256 in parts_of for token in rows[sha256]]
    assert (
        len(found.sample.kinds) == len(found.sample.x[0]) == len(found.sample.languages) == sum(map(len, rows.values()))
    )


def test_merged_texts_give_the_histograms_and_inputs_of_both() -> None:
    one, two = packed("fr", 56), packed("fr", 70, seed=1)
    both = Packed("fr", one.contexts + two.contexts, 1, 126, "both")
    whole, merged = (
        run(texts={"fr": both}, **ALL),
        merge([run(texts={"fr": one}, **ALL), run(texts={"fr": two}, **ALL)]),
    )
    assert whole.histogram is not None
    assert merged.histogram is not None
    assert (whole.histogram["fr"] == merged.histogram["fr"]).all()
    assert same_inputs(whole.inputs, merged.inputs)  # the same held-out text is sampled once


def test_what_only_some_have_is_left_out_and_said() -> None:
    plain, full = parts()[0], parts(**ALL)[1]
    with pytest.warns(MonoglotWarning) as caught:
        merged = merge([plain, full])
    assert [str(one.message) for one in caught] == [
        "only 1 of 2 statistics have histograms, so their sum has none. Run `monoglot detect --quantiles` for all of them.",
        "only 1 of 2 statistics have inputs, so their sum has none. Run `monoglot detect --calibrate` for all of them.",
    ]
    assert (merged.histogram, merged.inputs) == (None, None)


def test_merging_leaves_its_parts_alone() -> None:
    made = parts(**ALL)
    histogram = made[0].histogram
    assert histogram is not None
    bins = histogram["fr"].copy()
    before = made[0].active_count["fr"].copy(), made[0].total["fr"].copy()
    merge(made)
    assert (histogram["fr"] == bins).all()
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


@pytest.mark.parametrize("more", [{}, ALL], ids=["plain", "with histograms and inputs"])
def test_statistics_come_back_from_their_file(tmp_path: Path, more: dict[str, Any]) -> None:
    made, path = run(settings={"context": 8, "dtype": "float32"}, **more), tmp_path / "sub" / "s.safetensors"
    save(made, path)
    found = load(path)
    assert same(found, made)
    save(found, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert same(merge([found]), replace(merge([made])))
    assert (found.histogram is None, found.inputs is None) == (not more, not more)
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
    save(run(**ALL), path)
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
        (lambda head, arrays: head["tokens"].update(fr=0), r"damaged \(tokens\.fr is not a number from 1: it is 0"),
        (lambda head, arrays: head["tokens"].update(fr="1"), r"damaged \(tokens\.fr is not a whole number: it is '1'"),
        (lambda head, arrays: head.update(tokens=[1]), r"damaged"),
        (lambda head, arrays: head.pop("texts"), r"damaged"),
        (lambda head, arrays: head["model"].pop("width"), r"damaged"),
        (lambda head, arrays: head["model"].update(width=6), r"damaged \(fr\.active_count is I64 of shape \[3, 5\]"),
        (lambda head, arrays: arrays.pop("zh.total"), r"damaged .*zh\.total"),
        (lambda head, arrays: arrays.update({"zh.total": arrays["zh.active_count"]}), r"damaged \(zh\.total is I64"),
        (lambda head, arrays: arrays.pop("zh.histogram"), r"damaged .*zh\.histogram"),
        (
            lambda head, arrays: arrays.update({"zh.histogram": np.zeros((3, 5), np.uint32)}),
            r"zh\.histogram is U32 of shape",
        ),
        (lambda head, arrays: arrays.pop("inputs.sample"), r"damaged .*inputs\.sample"),
        (lambda head, arrays: head["inputs"].pop("parts"), r"damaged"),
        (lambda head, arrays: head["inputs"]["parts"][0].update(rows=1), r"damaged \(inputs\.sample is F32 of shape"),
        (lambda head, arrays: head["inputs"].update(tokens=0), r"damaged \(the inputs are of 0 tokens"),
        (lambda head, arrays: head["inputs"].update(kinds=["letters"]), r"damaged"),
        (
            lambda head, arrays: arrays.update({"inputs.second_moment": np.zeros((3, 4))}),
            r"damaged \(inputs\.second_moment is",
        ),
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


def test_layers_are_read_one_at_a_time(tmp_path: Path) -> None:
    made = run(**ALL)
    save(made, tmp_path / "s")
    found = load(tmp_path / "s")
    assert made.inputs is not None
    assert found.inputs is not None
    for layer in range(3):
        assert found.inputs.second_moment[layer].tobytes() == made.inputs.second_moment[layer].tobytes()
        assert found.inputs.sample.x[layer].tobytes() == made.inputs.sample.x[layer].tobytes()
    assert found.inputs.second_moment[-1].tobytes() == made.inputs.second_moment[2].tobytes()
    with pytest.raises(IndexError):
        found.inputs.second_moment[3]
    (tmp_path / "s").unlink()
    with pytest.raises(StatisticsError, match="was changed while it was read"):
        found.inputs.sample.x[0]


def test_quantiles_need_histograms() -> None:
    with pytest.raises(StatisticsError, match=r"no histograms\. Make them with `monoglot detect --quantiles`"):
        run().quantile("fr", 0.5)
    with pytest.raises(StatisticsError, match=r"no 1\.5-quantile"):
        run(quantiles=True).quantile("fr", 1.5)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fr.total", math.nan, r"fr\.total holds NaN or infinity"),
        ("fr.total", math.inf, r"fr\.total holds NaN or infinity"),
        ("fr.active_count", -1, r"fr\.active_count holds counts of -1 to"),
        ("fr.active_count", 2**62, r"fr\.active_count holds counts of .* to 4,611,686,018,427,387,904, of"),
    ],
)
def test_values_that_no_text_gives_are_refused(tmp_path: Path, name: str, value: float, said: str) -> None:
    def change(head: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].flat[0] = value

    path = tmp_path / "s"
    rewrite(path, change)
    with pytest.raises(StatisticsError, match=rf"is damaged \({said}.*Run `monoglot detect` again"):
        found = load(path)
        for kind in (found.total, found.active_count):
            kind["fr"]
