"""What `export --dry-run` says, against what `export` then reads."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from monoglot.editor.statistics import statistics

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--rate", "0.2", "--quantile", "0.8", "--context", "64", "--verify-tokens", "200", "--tokens", "2500")


def test_steps_tokens_and_room(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    asked = ("export", model, "--corpus", corpus, "--deactivate", "zh", "-o", tmp_path / "out", *SMALL)
    code, said, notes = monoglot(*asked, "--dry-run", "--json")
    made = json.loads(said)
    assert code == 0 and list(tmp_path.iterdir()) == []
    assert [step["step"] for step in made["steps"]] == ["detect", "bake", "verify"]
    assert made["tokens"] == {"en": 2500, "fr": 2500, "zh": 2500} and made["problems"] == []
    assert made["weights"] == (model / "model.safetensors").stat().st_size
    assert made["seconds"] == pytest.approx(sum(step["seconds"] for step in made["steps"]), abs=0.3)
    assert "Nothing was written" in notes
    code, said, notes = monoglot(*asked, "--dry-run", "--fast")
    assert code == 0 and "bytes alone" in said and "en 2,500, fr 2,500, zh 2,500" in notes


def test_a_search_and_its_most(monoglot: Run, corpus: Path, saved: Callable[..., Path], tmp_path: Path) -> None:
    base = saved("llama", tokenizer=True)
    asked = (
        "export",
        base,
        "--corpus",
        corpus,
        "--activate",
        "fr",
        "-o",
        tmp_path / "out",
        *SMALL,
        "--dry-run",
        "--json",
    )
    for layers, times in (("all", 1), ("auto", 2)):  # auto tries the lower layers, then all
        code, said, _ = monoglot(*asked, "--layers", layers)
        steps = {step["step"]: step for step in json.loads(said)["steps"]}
        assert code == 0 and steps["search"]["at_most"] and not steps["detect"]["at_most"]
        assert steps["search"]["what"].startswith(f"{11 * times + 3} times ")  # the base, 10 strengths; 3 checkpoints


@pytest.mark.slow
def test_what_is_there_is_not_counted(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    asked = ("export", model, "--corpus", corpus, "--deactivate", "zh", "-o", tmp_path / "out", *SMALL)
    _, before, _ = monoglot(*asked, "--dry-run", "--json")
    assert monoglot(*asked)[0] == 0
    found = statistics.load(tmp_path / "out.work" / "stats.safetensors")
    assert found.tokens == json.loads(before)["tokens"]
    size = (tmp_path / "out.work" / "stats.safetensors").stat().st_size
    said = json.loads(before)["disk"][str(tmp_path / "out.work")]["needed"]
    assert said < size < said + 4000  # a header
    code, after, _ = monoglot(*asked, "--dry-run", "--json", "--force")
    made = json.loads(after)
    assert code == 0 and [step["step"] for step in made["steps"]] == ["bake", "verify"]
    assert "still fit" in made["notes"][0]


def test_a_search_for_neurons(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    code, said, _ = monoglot(
        "export", model, "--corpus", corpus, "--deactivate", "zh", "-o", tmp_path / "out", "--context", "64", "--tokens",
        "1500", "--minimum", "1000", "--verify-tokens", "200", "--dry-run", "--json",
    )  # fmt: skip
    steps = {step["step"]: step for step in json.loads(said)["steps"]}
    assert code == 0 and list(steps) == ["detect", "off", "bake", "verify"] and steps["off"]["at_most"]


def test_a_search_for_a_way_to_answer_and_what_is_asked_after_it(
    monoglot: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    asked = (
        "export", model, "--corpus", corpus, "--activate", "fr", "-o", tmp_path / "out", "--context", "64", "--tokens",
        "1500", "--minimum", "1000", "--verify-tokens", "200", "--budget", "77", "--dry-run", "--json",
    )  # fmt: skip
    code, said, _ = monoglot(*asked)
    steps = {step["step"]: step for step in json.loads(said)["steps"]}
    assert code == 0 and list(steps) == ["detect", "search", "bake", "verify", "generate"]
    assert steps["search"]["seconds"] == 77
    assert steps["generate"]["what"].startswith("200 answers of 24 tokens") and steps["generate"]["at_most"]  # en, zh
    _, fast, _ = monoglot(*asked, "--fast")
    assert [step["step"] for step in json.loads(fast)["steps"]] == ["detect", "search", "bake", "verify"]


def test_what_export_refuses_it_refuses(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    for wrong, word in (
        (("--deactivate", "ja"), "no text in ja"),
        (("--deactivate", "zh", "--tokens", "99999", "--minimum", "99999"), "fewer than"),
    ):
        code, _, notes = monoglot(
            "export", model, "--corpus", corpus, "-o", tmp_path / "out", *SMALL, *wrong, "--dry-run"
        )
        assert code == 1 and word in notes
