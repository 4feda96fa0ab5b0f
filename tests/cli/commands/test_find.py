"""monoglot find: its table, its JSON, and the masks it takes and gives."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from monoglot.cli.steps.find import spark
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons import neurons
from monoglot.editor.statistics import statistics

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stats(tmp_path: Path) -> Path:
    """Two layers of four neurons. Above the bar of 0.5: (0, 0) zh; (0, 1) zh and ja; (1, 3) ja; (1, 2) all three."""
    counts = {
        "en": [[0, 0, 0, 0], [0, 0, 60, 0]],
        "ja": [[0, 70, 0, 0], [0, 0, 60, 90]],
        "zh": [[90, 80, 0, 0], [0, 0, 60, 0]],
    }
    active = {language: np.array(layers, np.int64) for language, layers in counts.items()}
    made = statistics.Statistics(
        ModelInfo("tiny", None, "llama", 2, 4, "f" * 64),
        dict.fromkeys(counts, 100),
        active,
        {language: array / 4 for language, array in active.items()},
        {language: (language,) for language in counts},
    )
    statistics.save(made, tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


OPTIONS = ("--rate", "0.5", "--quantile", "0.5")


def test_a_file_and_a_table(monoglot: Run, stats: Path, tmp_path: Path) -> None:
    output = tmp_path / "n.json"
    code, out, err = monoglot("find", stats, *OPTIONS, "-o", output)
    assert (code, err) == (0, f"Wrote {output}.\n")
    found = neurons.load(output)
    assert {k: found.pairs(k) for k in found.languages} == {
        "en": {(1, 2)},
        "ja": {(0, 1), (1, 2), (1, 3)},
        "zh": {(0, 0), (0, 1), (1, 2)},
    }
    assert list(found.values) == ["mean", "mean@en", "mean@ja", "mean@zh"]
    assert [layer.tolist() for layer in found.values["mean"]["zh"]] == [[0.225, 0.2], [0.15]]
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[0] == ["4", "neurons", "in", "2", "layers"]
    assert lines[1] == ["language", "neurons", "shared", "most", "with", "layer", "0", "…", "1"]
    assert ["en", "1", "1", "ja", "1", "·█"] in lines
    assert ["ja", "3", "2", "zh", "2", "▄█"] in lines
    assert ["zh", "3", "2", "ja", "2", "█▄"] in lines


def test_json(monoglot: Run, stats: Path, tmp_path: Path) -> None:
    code, out, _ = monoglot("find", stats, *OPTIONS, "-o", tmp_path / "n.json", "--json")
    assert code == 0
    assert json.loads(out) == {
        "method": {"name": "lape", "rate": 0.5, "quantile": 0.5, "tokens": {"en": 100, "ja": 100, "zh": 100}},
        "neurons": 4,
        "languages": {
            "en": {"neurons": 1, "shared": 1, "layers": [0, 1]},
            "ja": {"neurons": 3, "shared": 2, "layers": [1, 2]},
            "zh": {"neurons": 3, "shared": 2, "layers": [2, 1]},
        },
    }


def test_the_same_statistics_give_the_same_file(monoglot: Run, stats: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert monoglot("find", stats, *OPTIONS, "-o", tmp_path / name)[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_warning_is_shown(monoglot: Run, stats: Path, tmp_path: Path) -> None:
    code, _, err = monoglot("find", stats, "--rate", "0.9", "--quantile", "0.5", "-o", tmp_path / "n.json")
    assert code == 0
    assert "Warning: only 4 neurons pass the bar of lape, a rate of 0.9 asks for 7." in err


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        (("--method", "lap", "--threshold", "0.75"), {"name": "lap", "threshold": 0.75}),
        (("--method", "lave", *OPTIONS), {"name": "lave", "rate": 0.5, "quantile": 0.5}),
        (
            ("--method", "random", *OPTIONS, "--seed", "3"),
            {"name": "random", "seed": 3, "like": {"name": "lape", "rate": 0.5, "quantile": 0.5}},
        ),
    ],
)
def test_methods(
    monoglot: Run, stats: Path, tmp_path: Path, arguments: tuple[str, ...], method: dict[str, object]
) -> None:
    code, out, err = monoglot("find", stats, *arguments, "-o", tmp_path / "n.json", "--json")
    assert code == 0, err
    assert json.loads(out)["method"] == {**method, "tokens": {"en": 100, "ja": 100, "zh": 100}}
    found = neurons.load(tmp_path / "n.json")
    assert {key: value for key, value in found.method.items() if key not in ("tokens", "texts")} == method
    if method["name"] == "lap":
        assert {k: found.pairs(k) for k in found.languages} == {
            "en": set(), "ja": {(1, 3)}, "zh": {(0, 0), (0, 1)},
        }  # fmt: skip
        assert "Warning: lap finds no neurons for en. Lower --threshold." in err


def test_random_neurons_like_a_given_set(monoglot: Run, stats: Path, neurons_file: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert monoglot("find", stats, *OPTIONS, "-o", tmp_path / name)[0] == 0
        code, _, err = monoglot(
            "find", stats, "--method", "random", "--like", tmp_path / name, "-o", tmp_path / f"like-{name}"
        )
        assert code == 0, err
    assert (tmp_path / "like-a").read_bytes() == (tmp_path / "like-b").read_bytes()
    like, found = neurons.load(tmp_path / "a"), neurons.load(tmp_path / "like-a")
    for language in like.languages:
        assert [len(x) for x in found.indices[language]] == [len(x) for x in like.indices[language]]
        assert not found.pairs(language) & like.pairs(language)
    code, _, err = monoglot("find", stats, "--method", "random", "--like", neurons_file, "-o", tmp_path / "c")
    assert code == 1
    assert err == "Error: the neurons are of a model with 3 layers, tiny has 2.\n"
    assert not (tmp_path / "c").exists()


def test_average_precision(monoglot: Run, stats: Path, model: Path, corpus: Path, tmp_path: Path) -> None:
    code, _, err = monoglot("find", stats, "--method", "ap", "--rate", "0.5", "-o", tmp_path / "n.json")
    assert code == 1
    assert "the statistics hold no per-text means. Make them with `monoglot detect --per-text`." in err
    made = tmp_path / "made"
    assert monoglot(
        "detect", model, "--corpus", corpus, "--tokens", 600, "--minimum", 100, "--per-text", "--device", "cpu", "-o", made
    )[0] == 0  # fmt: skip
    code, out, err = monoglot("find", made, "--method", "ap", "--rate", "0.1", "-o", tmp_path / "n.json", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["neurons"] == round(0.1 * 3 * 24)
    assert found["method"] == {"name": "ap", "rate": 0.1, "tokens": {"en": 600, "fr": 600, "zh": 600}}


@pytest.fixture
def tuned(model: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of the tiny Llama that were moved, each in another direction."""
    import shutil

    from safetensors.torch import load_file, save_file

    copies = {}
    for seed, language in enumerate(("en", "fr")):
        copies[language] = Path(shutil.copytree(model, tmp_path / language))
        path = copies[language] / "model.safetensors"
        generator = torch.Generator().manual_seed(seed)
        moved = {k: t + 0.1 * torch.randn(t.shape, generator=generator) for k, t in load_file(path).items()}
        save_file(moved, path, {"format": "pt"})
    return copies


def test_parameter_variation(
    monoglot: Run, model: Path, corpus: Path, stats: Path, tuned: dict[str, Path], tmp_path: Path
) -> None:
    arguments = ["find", "--method", "pv", "--model", model, "--rate", "0.1", "--quantile", "0.5"]
    arguments += [part for language, folder in tuned.items() for part in ("--tuned", f"{language}={folder}")]
    code, out, err = monoglot(*arguments, "-o", tmp_path / "n.json", "--json")
    assert code == 0, err
    assert json.loads(out)["neurons"] == 7
    found = neurons.load(tmp_path / "n.json")
    assert (found.languages, found.values, found.spare) == (("en", "fr"), {}, ())
    assert found.method == {"name": "pv", "rate": 0.1, "quantile": 0.5}
    made = tmp_path / "made"
    assert monoglot(
        "detect", model, "--corpus", corpus, "--tokens", 300, "--minimum", 100, "--device", "cpu", "-o", made
    )[0] == 0  # fmt: skip
    assert monoglot(*arguments, made, "-o", tmp_path / "m.json")[0] == 0
    known = neurons.load(tmp_path / "m.json")
    assert {k: known.pairs(k) for k in known.languages} == {k: found.pairs(k) for k in found.languages}
    assert list(known.values) == ["mean", "mean@en", "mean@fr", "mean@zh"]
    code, _, err = monoglot(*arguments, stats, "-o", tmp_path / "o.json")
    assert code == 1
    assert "the statistics are of another model (tiny) than the base (tiny)" in err
    code, _, err = monoglot(*arguments, "--tuned", f"zh={model}", "-o", tmp_path / "o.json")
    assert code == 1
    assert f"Error: {model} (zh) was not tuned: its feed-forward networks are those of {model}." in err
    assert not (tmp_path / "o.json").exists()


def test_a_mask_comes_in_and_goes_out(monoglot: Run, stats: Path, tmp_path: Path) -> None:
    mask, again, output = tmp_path / "m.pth", tmp_path / "again.pth", tmp_path / "n.json"
    code, _, err = monoglot("find", stats, *OPTIONS, "-o", output, "--export-mask", mask)
    assert code == 0
    assert f"Wrote {mask}: languages in the order en,ja,zh." in err
    code, out, _ = monoglot(
        "find", "--import", mask, "--languages", "en,ja,zh", "-o", tmp_path / "i.json", "--export-mask", again
    )
    assert code == 0
    assert "4 neurons in 2 layers" in out
    one, two = neurons.load(output), neurons.load(tmp_path / "i.json")
    assert {k: one.pairs(k) for k in one.languages} == {k: two.pairs(k) for k in two.languages}
    assert (two.values, two.model) == ({}, None)
    first, second = (torch.load(path, weights_only=True) for path in (mask, again))
    assert [[x.tolist() for x in layers] for layers in first] == [[x.tolist() for x in layers] for layers in second]


@pytest.mark.parametrize("taken", ["n.json", "m.pth"])
def test_what_is_there_is_not_replaced_unless_asked(monoglot: Run, stats: Path, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    arguments = ("find", stats, *OPTIONS, "-o", tmp_path / "n.json", "--export-mask", tmp_path / "m.pth")
    code, _, err = monoglot(*arguments)
    assert code == 1
    assert f"{taken} exists. Choose another name, or replace it with --force." in err
    assert (tmp_path / taken).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([taken, stats.name])
    assert monoglot(*arguments, "--force")[0] == 0
    assert neurons.load(tmp_path / "n.json").count("zh") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "n"), "Name a statistics file, or a mask"),
        (("s", "--import", "m", "-o", "n"), "Name a statistics file, or a mask"),
        (("--import", "m", "-o", "n"), "Name the mask's languages in order"),
        (("s", "--languages", "en", "-o", "n"), "goes with --import only"),
        (("s", "-o", "n", "--export-mask", "n"), "name the same file"),
        (("s", "-o", "n", "--rate", "0"), "not in the range"),
        (("s", "-o", "n", "--quantile", "1"), "not in the range"),
        (("s", "-o", "n", "--method", "guess"), "'guess' is not"),
        (("s", "-o", "n", "--method", "lap", "--rate", "0.1"), "--rate does not go with --method lap."),
        (("s", "-o", "n", "--method", "lap", "--threshold", "1"), "not in the range"),
        (("s", "-o", "n", "--method", "ap", "--quantile", "0.1"), "--quantile does not go with --method ap."),
        (("s", "-o", "n", "--threshold", "0.1"), "--threshold does not go with --method lape."),
        (("s", "-o", "n", "--seed", "1"), "--seed does not go with --method lape."),
        (("s", "-o", "n", "--like", "m"), "--like does not go with --method lape."),
        (("s", "-o", "n", "--model", "m"), "--model does not go with --method lape."),
        (("s", "-o", "n", "--tuned", "en=m"), "--tuned does not go with --method lape."),
        (
            ("s", "-o", "n", "--method", "random", "--like", "m", "--rate", "0.1"),
            "--rate does not go with --method random and --like.",
        ),
        (("--import", "m", "--languages", "en", "-o", "n", "--rate", "0.1"), "--rate says how neurons are found"),
        (("--import", "m", "--languages", "en", "-o", "n", "--method", "lap"), "--method says how neurons are found"),
        (("-o", "n", "--method", "pv"), "--method pv needs the base, --model, and a --tuned"),
        (("-o", "n", "--method", "pv", "--model", "m"), "--method pv needs the base, --model, and a --tuned"),
        (("-o", "n", "--method", "pv", "--tuned", "en=m"), "--method pv needs the base, --model, and a --tuned"),
        (("-o", "n", "--method", "pv", "--model", "m", "--tuned", "en"), "--tuned en is not a language and a model"),
        (("-o", "n", "--method", "pv", "--model", "m", "--tuned", "=m"), "--tuned =m is not a language and a model"),
        (
            ("-o", "n", "--method", "pv", "--model", "m", "--tuned", "en=a", "--tuned", "en=b"),
            "--tuned names en twice.",
        ),
        (("-o", "n", "--method", "pv", "--model", "m", "--tuned", "en=a"), "--tuned has to be given for at least two."),
        (("-o", "n", "--method", "pv", "--model", "m", "--tuned", "en=a", "--seed", "1"), "--seed does not go with"),
    ],
)
def test_usage(
    monoglot: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = monoglot("find", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_missing_file_is_named(monoglot: Run, tmp_path: Path) -> None:
    code, _, err = monoglot("find", tmp_path / "s", "-o", tmp_path / "n")
    assert code == 1
    assert f"Error: there is no statistics file {tmp_path / 's'}. Make one with `monoglot detect`." in err


def test_profiles() -> None:
    assert spark([0, 1, 4, 8]) == "·▁▄█"
    assert spark([0, 0]) == "··"
    assert spark([1, 1000]) == "▁█"  # one is not none
    assert spark([1] * 80) == "█" * 40  # pairs of layers
    assert len(spark([1] * 81)) == 27
