"""monoglot compare: its tables, its JSON, and the perplexity matrices of the tiny model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from monoglot.cards.words.amounts import change
from monoglot.editor import embedded

Run = Callable[..., tuple[int, str, str]]
OPTIONS = ("--rate", "0.1", "--quantile", "0.8", "--threshold", "0.6")


@pytest.fixture(scope="module")
def stats(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Statistics of the tiny Llama, with per-text means and without."""
    from monoglot.editor.models.source import resolve
    from monoglot.editor.models.target import open_target
    from monoglot.editor.statistics import statistics
    from monoglot.editor.statistics.detect import detect
    from monoglot.editor.text.corpus import open_corpus

    made, folder = {}, tmp_path_factory.mktemp("stats")
    for per_text in (False, True):
        made[per_text] = folder / f"{per_text}.safetensors"
        found = detect(
            open_target(resolve(str(model))), open_corpus([str(corpus)]), tokens=600, context=128, minimum=100,
            device="cpu", per_text=per_text,
        )  # fmt: skip
        statistics.save(found, made[per_text])
    return made


@pytest.fixture(scope="module")
def copies(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """--tuned of two copies that were moved, each in another direction."""
    arguments = []
    for seed, language in enumerate(("en", "zh")):
        folder = Path(shutil.copytree(model, tmp_path_factory.mktemp("tuned") / language))
        generator = torch.Generator().manual_seed(seed)
        path = folder / "model.safetensors"
        save_file(
            {k: t + 0.1 * torch.randn(t.shape, generator=generator) for k, t in load_file(path).items()},
            path,
            {"format": "pt"},
        )
        arguments += ["--tuned", f"{language}={folder}"]
    return arguments


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.strip()]


def test_tables(monoglot: Run, stats: dict[bool, Path]) -> None:
    code, out, err = monoglot("compare", stats[True], *OPTIONS)
    assert code == 0, err
    found = json.loads(monoglot("compare", stats[True], *OPTIONS, "--json")[1])
    assert list(found["methods"]) == ["lape", "lap", "lave", "ap", "random"]
    assert found["methods"]["lape"]["neurons"] == found["methods"]["ap"]["neurons"] == 7
    shown = rows(out)
    assert shown[0] == ["neurons", "by", "method"]
    assert ["method", "neurons", "en", "fr", "zh"] in shown
    for name, row in found["methods"].items():
        counts = [str(row["languages"][k]) for k in ("en", "fr", "zh")]
        assert [name, str(row["neurons"]), *counts] in [line[:5] for line in shown]
    both = found["overlap"]["lave"]["ap"]
    assert f"{both['pairs']:.2f} / {both['neurons']:.2f}" in out
    assert "pv is left out: it needs tuned copies of the model; name them with --tuned" in err
    assert "lap has no rate" in err
    assert all(row["perplexity"] is None for row in found["methods"].values())


def test_without_per_text_means(monoglot: Run, stats: dict[bool, Path]) -> None:
    code, out, err = monoglot("compare", stats[False], *OPTIONS, "--json")
    assert code == 0
    assert list(json.loads(out)["methods"]) == ["lape", "lap", "lave", "random"]
    assert "ap is left out: the statistics hold no per-text means; make them with `monoglot detect --per-text`." in err
    code, _, err = monoglot("compare", stats[False], *OPTIONS, "--methods", "lape,ap")
    assert code == 1
    assert err.startswith("Error: ap can't be compared: the statistics hold no per-text means")


def test_with_tuned_copies(monoglot: Run, stats: dict[bool, Path], model: Path, copies: list[str]) -> None:
    code, out, err = monoglot("compare", stats[True], *OPTIONS, "--model", model, *copies, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert list(found["methods"]) == ["lape", "lap", "lave", "pv", "ap", "random"]
    assert list(found["methods"]["pv"]["languages"]) == ["en", "zh"]
    assert found["methods"]["pv"]["perplexity"] is None  # nothing is measured without being asked for
    assert "left out" not in err
    code, out, _ = monoglot("compare", stats[True], *OPTIONS, "--model", model, *copies, "--methods", "lape,pv")
    assert "–" in next(row for row in rows(out) if row[0] == "pv")


def test_perplexity(
    monoglot: Run, stats: dict[bool, Path], model: Path, corpus: Path, copies: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "comparison.json"
    arguments = (
        "compare",
        stats[True],
        *OPTIONS,
        "--model",
        model,
        "--corpus",
        corpus,
        "--tokens",
        100,
        "--context",
        64,
    )
    code, out, err = monoglot(*arguments, "--methods", "lape,random", "-o", output, "--device", "cpu")
    assert code == 0, err
    found = json.loads(output.read_text())
    for name in ("lape", "random"):
        matrix = found["methods"][name]["perplexity"]
        assert matrix["tokens"] == {"en": 100, "fr": 100, "zh": 100}
        assert set(matrix["base"]) == set(matrix["random"]) == {"en", "fr", "zh"}
        off = {k for k, count in found["methods"][name]["languages"].items() if count}
        assert set(matrix["change"]) == off
        assert set(matrix["dominance"]) == {"share", "diagonal", "elsewhere", "random"}
        assert f"{name}: change of log-loss, nats, on text in each language" in " ".join(out.split())
        for language in off:
            assert change(matrix["change"][language][language]) in out
    assert "damage on the diagonal" in out
    assert f"Wrote {output}." in err
    code, _, err = monoglot(*arguments, "-o", output)
    assert code == 1
    assert err == f"Error: {output} exists. Choose another name, or replace it with --force.\n"
    code, out, _ = monoglot(*arguments, *copies, "--methods", "pv", "--json")
    assert set(json.loads(out)["methods"]["pv"]["perplexity"]["change"]) <= {"en", "zh"}


def test_a_method_without_neurons_is_not_measured(
    monoglot: Run, stats: dict[bool, Path], model: Path, corpus: Path
) -> None:
    code, out, err = monoglot(
        "compare", stats[True], "--threshold", "0.9999", "--rate", "0.1", "--quantile", "0.8", "--methods", "lap,lape",
        "--model", model, "--corpus", corpus, "--tokens", 60, "--context", 64, "--json", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    methods = json.loads(out)["methods"]
    assert (methods["lap"]["neurons"], methods["lap"]["perplexity"]) == (0, None)
    assert methods["lape"]["perplexity"]


def test_the_embedded_texts_are_the_default(
    monoglot: Run, stats: dict[bool, Path], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = monoglot(
        "compare",
        stats[True],
        *OPTIONS,
        "--model",
        model,
        "--tokens",
        60,
        "--methods",
        "lape",
        "--json",
        "--device",
        "cpu",
    )
    assert code == 0, err
    assert "Measuring on the embedded texts. Name your own with --corpus." in err
    assert list(json.loads(out)["methods"]["lape"]["perplexity"]["base"]) == ["en", "fr", "zh"]
    assert embedded.NAME == "embedded"


def test_the_model_must_be_that_of_the_statistics(
    monoglot: Run, stats: dict[bool, Path], corpus: Path, copies: list[str]
) -> None:
    other = copies[1].partition("=")[2]
    code, _, err = monoglot("compare", stats[True], *OPTIONS, "--model", other, "--corpus", corpus)
    assert code == 1
    assert err.startswith("Error: the statistics are of tiny, and en has other weights.")
    code, _, err = monoglot("compare", stats[True], *OPTIONS, "--model", other, *copies)
    assert code == 1
    assert "(en) was not tuned" in err


def test_text_that_is_too_short(monoglot: Run, stats: dict[bool, Path], model: Path, tmp_path: Path) -> None:
    arguments: list[Any] = ["compare", stats[True], *OPTIONS, "--model", model, "--corpus", tmp_path]
    for language in ("en", "fr", "zh"):
        (tmp_path / f"{language}.txt").write_text("One document.\n")
    code, _, err = monoglot(*arguments)
    assert code == 1
    assert "Error: en has too few documents for one to be held out. Add text in en." in err
    (tmp_path / "zh.txt").unlink()
    code, _, err = monoglot(*arguments)
    assert code == 1
    assert "the corpus has no text in zh" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'STATS'"),
        (("s", "--methods", "lape,guess"), "There is no method 'guess'; there are lape, lap, lave, pv, ap, random."),
        (("s", "--tuned", "en=m"), "--tuned are copies of a base: name it with --model."),
        (("s", "--corpus", "c"), "--corpus goes with --model."),
        (("s", "--tokens", "9"), "--tokens goes with --model."),
        (("s", "--rate", "1"), "not in the range"),
    ],
)
def test_usage(monoglot: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = monoglot("compare", *arguments)
    assert (code, out) == (2, "")
    assert message in err
