"""Activation as a user types it: `bake` with every carrier, `export`, a searched strength, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import checkpoints, folders, measured, tiny
from support.folders import tree

from monoglot.editor import embedded
from monoglot.editor.edits import calibration
from monoglot.editor.edits.request import Request
from monoglot.editor.export_reuse import known_strength
from monoglot.editor.live.generate import continuations
from monoglot.editor.live.load import load_model
from monoglot.editor.measures.search import digest, prompts_of
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.text.prompts import COUNT, embedded_prompts

Run = Callable[..., tuple[int, str, str]]
PROMPTS = {"en": "Click the button", "es": "Haga clic en el botón", "fr": "Cliquez sur le bouton", "zh": "点击按钮"}
# carrier -> the tiny model that has it
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("gpt2", {}),
    "flag": ("llama", {}),
    "llama": ("mistral", {"sliding_window": None}),
    "calibrated": ("qwen3", {}),
}


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """neurons.json of a tiny model of any family: of three languages, with means, those on French text, and spare ones."""
    by_language = {"en": [[0, 5], [1], [23]], "fr": [[3, 5, 7], [2], [2, 4]], "zh": [[6, 8], [9, 11], [12]]}
    indices = {k: tuple(np.array(layer, np.int64) for layer in layers) for k, layers in by_language.items()}
    means = {k: tuple(0.5 + 0.1 * layer for layer in layers) for k, layers in indices.items()}
    held = {k: tuple(-0.1 - 0.01 * layer for layer in layers) for k, layers in indices.items()}
    spare = tuple(np.array([15, 16, 17, 18]) for _ in range(tiny.LAYERS))
    path = tmp_path_factory.mktemp("found") / "neurons.json"
    neurons.save(neurons.Neurons(indices, {"mean": means, "mean@fr": held}, None, {"name": "hand"}, spare), path)
    return path


class Case:
    """A tiny model with a carrier, and what `bake` needs to bake it."""

    def __init__(self, carrier: str, saved: Callable[..., Path], neurons_file: Path, folder: Path) -> None:
        model_type, config = MODELS[carrier]
        self.model = saved(model_type, tokenizer=True, **config)
        self.arguments: list[object] = [self.model, neurons_file, "--carrier", carrier]
        if carrier == "calibrated":
            made = tiny.by_hand(open_target(resolve(str(self.model))))
            calibration.save(made, folder / "calibration.monoglot")
            self.arguments += ["--calibration", folder / "calibration.monoglot"]


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, saved: Callable[..., Path], found: Path, tmp_path: Path) -> Case:
    return Case(request.param, saved, found, tmp_path)


def edits_of(folder: Path) -> list[dict[str, Any]]:
    edits: list[dict[str, Any]] = yaml.safe_load((folder / "recipe.yaml").read_text())["edits"]
    return edits


@pytest.mark.slow
@pytest.mark.parametrize("op", ["pin", "add", "shift"])
def test_every_carrier_is_baked_proved_and_baked_again_from_its_recipe(
    monoglot: Run, case: Case, corpus: Path, tmp_path: Path, op: str
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    options = (
        "--activate",
        "fr",
        "--deactivate",
        "zh",
        "--hold",
        "en",
        "--op",
        op,
        "--strength",
        1.5,
        "--layers",
        "all",
    )
    code, printed, err = monoglot("bake", *case.arguments, *options, "-o", out)
    assert code == 0, err
    carrier = str(case.arguments[3])
    assert folders.manifest_data(out)["carrier"]["name"] == carrier
    assert f"carrier: {carrier}; rounding" in printed
    assert (out / "calibration.monoglot").is_file() == (carrier == "calibrated")
    assert f"verify {out} --base {case.model}" in err

    code, _, err = monoglot("bake", case.model, "--recipe", out / "recipe.yaml", "-o", again)
    assert code == 0, err
    assert tree(again) == tree(out)

    code, printed, err = monoglot(
        "verify", out, "--base", case.model, "--corpus", corpus, "--tokens", 60, "--context", 32, "--device", "cpu"
    )
    assert code == 0, err
    assert err.endswith(f"{out} is what its recipe says.\n")
    assert folders.manifest_data(out)["certificate"]["logits"]["passed"]


def test_others_are_all_that_are_not_activated(
    monoglot: Run, saved: Callable[..., Path], found: Path, tmp_path: Path
) -> None:
    options = ("--activate", "fr", "--carrier", "flag", "--op", "pin", "--layers", "all")
    for name in ("hold", "deactivate"):
        code, _, err = monoglot("bake", saved("llama"), found, *options, f"--{name}", "others", "-o", tmp_path / name)
        assert code == 0, err
    pinned = {"language": "fr", "op": "pin", "strength": 1.0, "value": "mean"}
    held = {"op": "pin", "strength": 1.0, "value": "mean@fr"}
    assert edits_of(tmp_path / "hold") == [{"language": "en", **held}, {"language": "zh", **held}, pinned]
    off = [{"language": language, "op": "deactivate"} for language in ("en", "zh")]
    assert edits_of(tmp_path / "deactivate") == [*off, pinned]
    shared = [
        yaml.safe_load((tmp_path / name / "recipe.yaml").read_text())["shared"] for name in ("hold", "deactivate")
    ]
    assert shared == ["edit", "edit"]  # the activated language takes its shared neurons too


def test_by_default_a_constant_is_added_at_strength_1_and_the_last_layer_is_left_alone(
    monoglot: Run, saved: Callable[..., Path], found: Path, tmp_path: Path
) -> None:
    code, _, err = monoglot(
        "bake", saved("llama"), found, "--activate", "fr", "--carrier", "flag", "-o", tmp_path / "out"
    )
    assert code == 0, err
    (edit,) = edits_of(tmp_path / "out")
    assert edit == {"language": "fr", "op": "add", "strength": 1.0, "value": "mean", "layers": [0, 1]}


def test_a_calibration_that_is_not_needed_is_said(
    monoglot: Run, saved: Callable[..., Path], found: Path, tmp_path: Path
) -> None:
    calibrated = Case("calibrated", saved, found, tmp_path)
    file = calibrated.arguments[-1]
    code, _, err = monoglot(
        "bake", calibrated.model, found, "--deactivate", "zh", "--calibration", file, "-o", tmp_path / "out"
    )
    assert code == 0
    assert f"{file} was not needed" in err
    assert not (tmp_path / "out" / "calibration.monoglot").exists()


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--strength", 2, "--deactivate", "zh"), 2, "--strength is that of --activate"),
        (("--hold", "zh"), 2, "the one language of --activate"),
        (("--activate", "fr,zh", "--hold", "en"), 2, "the one language of --activate"),
        (("--deactivate", "others"), 2, "all but the language of --activate"),
        (("--activate", "fr,zh", "--strength", "auto"), 2, "the strength of one activated language"),
        (("--activate", "fr", "--activate", "zh", "--strength", "auto"), 2, "the strength of one activated language"),
        (("--activate", "fr", "--strength", "much"), 2, "a number, or auto"),
        (("--activate", "fr", "--layers", "2-1"), 2, "two numbers as in 0-14, all, or auto"),
        (("--activate", "fr", "--prompts", "p.jsonl"), 2, "--prompts goes with --strength auto"),
        (("--activate", "fr", "--target-accuracy", 0.8), 2, "--target-accuracy goes with --strength auto"),
        (("--deactivate", "zh", "--carrier", "flag"), 2, "--carrier goes with --activate"),
        (("--deactivate", "zh", "--value", "p90"), 2, "--value goes with --activate"),
        (("--recipe", "r.yaml", "--tolerance", 0.5), 2, "Give a recipe, or --tolerance"),
        (("--activate", "fr", "--strength", 0), 1, "a finite strength other than 0 for fr"),
        (("--activate", "fr", "--strength", "nan"), 1, "a finite strength other than 0 for fr"),
        (("--activate", "de"), 1, "there are no neurons for 'de'; there are for en, fr, zh"),
        (("--activate", "fr", "--deactivate", "fr"), 1, "fr is edited twice"),
        (("--activate", "fr", "--value", "median"), 1, "the neurons of fr have no median to add to, they have mean"),
        (("--activate", "fr", "--hold", "en"), 1, "mean@fr"),
        (("--activate", "fr"), 1, "name the file with --calibration"),
        (("--activate", "fr", "--carrier", "native"), 1, "It can by flag, calibrated: --carrier flag"),
        (
            ("--activate", "fr", "--strength", "auto", "--carrier", "flag", "--prompts", "absent"),
            1,
            "no file or folder absent",
        ),
    ],
)
def test_what_is_refused(
    monoglot: Run, saved: Callable[..., Path], tmp_path: Path, options: tuple[object, ...], code: int, message: str
) -> None:
    """With neurons that have their own means, and no others."""
    own = {k: tuple(np.array(layer) for layer in ([at], [at], [at])) for at, k in enumerate(("en", "fr", "zh"))}
    means = {k: tuple(np.ones(1) for _ in layers) for k, layers in own.items()}
    spare = tuple(np.array([9, 10]) for _ in range(tiny.LAYERS))
    neurons.save(neurons.Neurons(own, {"mean": means}, None, {"name": "hand"}, spare), tmp_path / "n.json")
    before = tree(tmp_path)
    ended, out, err = monoglot("bake", saved("llama"), tmp_path / "n.json", *options, "-o", tmp_path / "out")
    assert (ended, out) == (code, ""), err
    assert message in err and "Traceback" not in err
    assert tree(tmp_path) == before


# --- a searched strength ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "p.jsonl"
    lines = [json.dumps({"language": language, "prompt": prompt}) for language, prompt in PROMPTS.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_strength_is_searched_for(monoglot: Run, planted: neurons.Neurons, asked: Path, tmp_path: Path) -> None:
    """On the embedded model; what the manifest and the card say of the checkpoint is what the checkpoint does."""
    out, again = tmp_path / "out", tmp_path / "again"
    neurons.save(planted, tmp_path / "n.json")
    edits = ("--activate", "vi", "--deactivate", "others", "--op", "pin", "--layers", "all", "--carrier", "flag")
    options = (*edits, "--strength", "auto", "--prompts", asked, "--target-accuracy", 0.75)
    code, printed, err = monoglot("bake", embedded.NAME, tmp_path / "n.json", *options, "-o", out, "--json")
    assert code == 0, err
    curve = json.loads(printed)["strength"]  # nothing but JSON is printed
    assert curve == folders.manifest_data(out)["strength"]
    (strength,) = [edit["strength"] for edit in edits_of(out) if edit["language"] == "vi"]
    tried = [point["strength"] for point in curve["points"]]
    assert tried == sorted(tried) and curve["chosen"] == tried[-1]
    assert curve["reached"] and curve["points"][-1]["accuracy"] >= 0.75
    assert all(point["accuracy"] < 0.75 or point["fallen_apart"] for point in curve["points"][:-1])
    own = curve["checkpoint"][-1]
    assert own["strength"] == strength and own["accuracy"] >= 0.75

    rows = [
        line
        for line in (out / "README.md").read_text().splitlines()
        if "by hooks |" in line or ", this checkpoint**" in line
    ]
    assert [row.split(" | ")[0] for row in rows] == [
        *(f"| {value:g}, by hooks" for value in tried), f"| **{strength:g}, this checkpoint**"
    ]  # fmt: skip
    assert f"| {own['accuracy']:.0%} | {own['whole']:.0%} |" in rows[-1]

    prompts = [prompt for language, prompt in PROMPTS.items() if language != "vi"]
    answers = continuations(load_model(out), load_tokenizer(out), prompts, tokens=24)
    assert [(one["prompt"], one["answer"]) for one in curve["samples"]] == list(zip(prompts, answers, strict=True))[:3]

    code, _, err = monoglot("bake", embedded.NAME, tmp_path / "n.json", *edits, "--strength", strength, "-o", again)
    assert code == 0, err
    for file in out.glob("*.safetensors"):
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    assert monoglot("verify", out, "--fast")[0] == 0
    assert folders.manifest_data(out)["strength"] == curve  # verify keeps it


def test_a_search_leaves_an_evaluation_s_prompts_alone() -> None:
    asked, left = prompts_of(Request()), embedded_prompts(count=COUNT)
    assert asked.keys() == left.keys()
    for language, own in asked.items():
        assert len(own) == 4 and not {*own} & {*left[language]}


def test_a_search_is_settled_for_what_it_was_made_for(tmp_path: Path, asked: Path) -> None:
    """`export` searches anew when another share is wanted, or other prompts are asked."""
    assert known_strength(tmp_path, Request(activate=("fr",), strength="auto")) == (1.0, None, False)
    searched = {
        **measured.strength(),
        "target_accuracy": 0.9, "prompts": digest(prompts_of(Request())), "layers": [0, 4],
        "checkpoint": [{"strength": 2.0}, {"strength": 3.0}],
    }  # fmt: skip
    folders.write_manifest(tmp_path, {**checkpoints.MANIFEST, "strength": searched})
    edits = {"activate": ("fr",), "strength": "auto"}
    assert known_strength(tmp_path, Request(**edits)) == (3.0, (0, 4), True)
    assert known_strength(tmp_path, Request(**edits, target_accuracy=0.8)) == (1.0, None, False)
    assert known_strength(tmp_path, Request(**edits, prompts=asked)) == (1.0, None, False)
    assert known_strength(tmp_path, Request(activate=("fr",), strength=0.5)) == (0.5, None, True)


# --- export ----------------------------------------------------------------------------------------------------------


def test_export_calibrates_once(monoglot: Run, saved: Callable[..., Path], corpus: Path, tmp_path: Path) -> None:
    model, out, work, again = saved("qwen3", tokenizer=True), tmp_path / "out", tmp_path / "work", tmp_path / "again"
    command = (
        "export", model, "--corpus", corpus, "--languages", "zh,fr,en", "--activate", "fr", "--hold", "others", "--strength",
        0.5, "--tolerance", 9, "--rate", 0.2, "--quantile", 0.8, "--context", 64, "--tokens", 2500, "--verify-tokens", 100,
        "--work", work, "-o", out, "--device", "cpu",
    )  # fmt: skip
    code, printed, err = monoglot(*command)
    assert code == 0, err
    assert "carrier: calibrated" in printed and "calibration, on text that it was not fitted to" in printed
    assert (work / "calibration.monoglot").read_bytes() == (out / "calibration.monoglot").read_bytes()
    record = folders.manifest_data(out)
    assert record["carrier"]["name"] == "calibrated" and len(record["carrier"]["calibration"]) == tiny.LAYERS
    assert [edit["language"] for edit in record["recipe"]["edits"]] == ["zh", "en", "fr"]
    assert record["certificate"]["logits"]["passed"] and "approximation" in record["certificate"]

    before = {name: (work / name).stat().st_mtime_ns for name in ("stats.safetensors", "calibration.monoglot")}
    code, _, err = monoglot(*command, "--fast")
    assert code == 0, err
    assert "still fit" in err and f"{out} is this checkpoint already." in err
    assert {name: (work / name).stat().st_mtime_ns for name in before} == before
    assert "--force" in monoglot(*command, "--strength", 1)[2]

    code, _, err = monoglot("bake", model, "--recipe", out / "recipe.yaml", "-o", again)
    assert code == 0, err
    for name in ("model.safetensors", "neurons.json", "recipe.yaml", "calibration.monoglot", "config.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_export_says_what_is_wrong_before_it_reads_text(
    monoglot: Run, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monoglot.editor.statistics.reuse.detect", lambda *_, **__: pytest.fail("text was read"))
    for options, message in (
        (("--activate", "fr", "--carrier", "native"), "It can by flag, calibrated"),
        (("--activate", "fr", "--prompts", "absent"), "no file or folder absent"),
        (("--activate", "ja", "--strength", 1), "there is no text in ja"),
        (("--activate", "fr", "--strength", 0), "a finite strength other than 0"),
        (("--activate", "fr", "--strength", 1, "--layers", "1-9"), "the last one is 2"),
    ):
        code, out, err = monoglot("export", model, "--corpus", corpus, *options, "-o", tmp_path / "out")
        assert (code, out) == (1, ""), err
        assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_plain_bake_loads_nothing_that_it_does_not_need(model: Path, neurons_file: Path, tmp_path: Path) -> None:
    """What fits, measures, or runs a model takes longer to import than a small checkpoint takes to write."""
    code = (
        "import sys; from monoglot.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "editor = [f'monoglot.editor.{name}' for name in "
        "('measures.strength', 'edits.silencing', 'edits.fit', 'statistics.detect')]\n"
        "print(sorted({'torch', 'transformers', *editor} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "bake", model, neurons_file, "--deactivate", "fr", "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and (tmp_path / "out" / "monoglot.json").is_file()
