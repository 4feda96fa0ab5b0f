"""verify --runtime, runtimes and --for, by their commands; the runtime is transformers, in a process of its own."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support import folders, tiny

from monoglot.editor.files.kinds import FILE
from monoglot.editor.neurons import neurons
from monoglot.editor.runtimes import conformance

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def out(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> Path:
    shutil.copytree(model, tmp_path / "tiny")
    code, _, err = monoglot(
        "bake", tmp_path / "tiny", neurons_file, "--deactivate", "zh", "--shared", "edit", "-o", tmp_path / "out"
    )
    assert code == 0, err
    return tmp_path / "out"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"language": code, "prompt": text}
        for code, text in (("en", "The quick"), ("fr", "Le renard"), ("zh", "敏捷的"))
    ]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def with_means(neurons_file: Path, folder: Path) -> Path:
    found, own = neurons.load(neurons_file), folder / "neurons.json"
    means = {code: tuple(np.ones(len(layer)) for layer in layers) for code, layers in found.indices.items()}
    neurons.save(replace(found, values={"mean": means}), own)
    return own


@pytest.mark.slow
def test_a_checkpoint_that_a_runtime_shows_is_steered_and_the_card_says_so(
    monoglot: Run, out: Path, prompts: Path
) -> None:
    code, shown, err = monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts, "--json")
    assert code == 0, err
    found = json.loads(shown)["transformers"]
    assert found["verdict"] == "steered" and found["told_apart"] >= 1 and found["to_steered"]["agree"] == 3
    assert found["languages"] == ["en", "fr", "zh"] and found["to_base"]["agree"] < 3
    assert folders.manifest_data(out)["runtimes"] == {"transformers": found}
    assert "| transformers | " in (out / "README.md").read_text()
    code, shown, _ = monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts)
    assert code == 0 and "steered" in shown


@pytest.mark.slow
def test_a_runtime_that_runs_the_base_has_dropped_it(
    monoglot: Run, out: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monoglot.editor.runtimes import process

    run = process.answer
    base = out.parent / "tiny"
    monkeypatch.setattr(process, "answer", lambda name, folder, *rest, **more: run(name, base, *rest, **more))
    code, shown, err = monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts)
    assert code == 1 and "dropped" in shown and "loses the steering in silence" in err
    assert folders.manifest_data(out)["runtimes"]["transformers"]["verdict"] == "dropped"


@pytest.mark.slow
@pytest.mark.parametrize(("own", "carrier"), [(True, "native"), (False, "flag")])
def test_a_runtime_that_reads_no_biases_has_dropped_it(
    monoglot: Run,
    neurons_file: Path,
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
    carrier: str,
) -> None:
    from monoglot.editor.runtimes import process

    base = tiny.save_model(tmp_path / "base", mlp_bias=own)
    out, bare = tmp_path / "out", tmp_path / "bare"
    given = ("--activate", "fr", "--op", "pin", "--strength", "3", "--carrier", carrier)
    code, _, err = monoglot("bake", base, with_means(neurons_file, tmp_path), *given, "-o", out)
    assert code == 0, err
    shutil.copytree(out, bare)
    for path in bare.glob("*.safetensors"):
        tensors = load_file(path)
        save_file({k: 0 * t if k.endswith(".bias") else t for k, t in tensors.items()}, path, metadata={"format": "pt"})
    run = process.answer
    monkeypatch.setattr(process, "answer", lambda name, folder, *rest, **more: run(name, bare, *rest, **more))
    code, shown, err = monoglot("verify", out, "--base", base, "--runtime", "transformers", "--prompts", prompts)
    assert code == 1 and "dropped" in shown and "checkpoint without its biases" in " ".join(err.split())


@pytest.mark.slow
def test_what_is_not_installed_is_missing(monoglot: Run, out: Path, prompts: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    options = ("--prompts", prompts, "--python", f"mlx={bare}", "--json")
    code, shown, _ = monoglot("verify", out, "--runtime", "mlx-lm,transformers", *options)
    found = json.loads(shown)
    assert code == 1 and found["mlx"]["verdict"] == "missing" and "pip install" in found["mlx"]["reason"]
    assert found["transformers"]["verdict"] == "steered" and "--python mlx=PATH" in found["mlx"]["reason"]


@pytest.mark.slow
def test_what_was_measured_is_not_forgotten_where_nothing_was_learned(
    monoglot: Run, out: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monoglot.editor.runtimes import process

    assert monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts)[0] == 0
    before = folders.manifest_data(out)["runtimes"]
    code, shown, err = monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts, "--timeout", "1")
    assert code == 1 and "failed" in shown and "not done after 1 s" in err and "base either" not in err
    assert folders.manifest_data(out)["runtimes"] == before
    monkeypatch.setattr(conformance, "choose", None)  # nothing is asked when nobody can answer
    monkeypatch.setattr(process, "probe", lambda name, python: process.Installed(name, None, (), python))
    code, shown, err = monoglot("verify", out, "--runtime", "transformers,mlx", "--prompts", prompts)
    assert code == 1 and "missing" in shown
    assert folders.manifest_data(out)["runtimes"] == before


@pytest.mark.slow
def test_the_bytes_are_proved_first_and_that_is_kept(monoglot: Run, out: Path, prompts: Path) -> None:
    code, shown, err = monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts)
    assert code == 0 and "is what its recipe says" in err and "columns changed" not in shown
    assert folders.manifest_data(out)["certificate"]["bytes"]["passed"]


@pytest.mark.slow
def test_where_base_and_checkpoint_answer_alike_it_is_undecided(
    monoglot: Run, model: Path, neurons_file: Path, prompts: Path, tmp_path: Path
) -> None:
    assert monoglot("bake", model, neurons_file, "--scale", "zh=1", "-o", tmp_path / "out")[0] == 0
    given = ("--base", model, "--runtime", "transformers", "--prompts", prompts)
    code, shown, err = monoglot("verify", tmp_path / "out", *given)
    assert code == 1 and "undecided" in shown and "base and checkpoint answer alike" in " ".join(err.split())


def test_a_checkpoint_whose_bytes_are_wrong_is_not_run(
    monoglot: Run, out: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "choose", None)
    weights = out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    for flags in ((), ("--json",)):
        code, shown, err = monoglot("verify", out, "--runtime", "transformers", "--prompts", prompts, *flags)
        assert code == 1 and "Failed: model.safetensors has another sha256" in err
        assert not flags or not json.loads(shown)["bytes"]["passed"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--runtime", "sglang"), 1, "there is no runtime 'sglang'. Known: transformers, vllm"),
        (("--python", "x"), 2, "--python goes with --runtime"),
        (("--prompts", "x"), 2, "--prompts goes with --runtime"),
        (("--timeout", "9"), 2, "--timeout goes with --runtime"),
        (("--runtime", "mlx", "--corpus", "x"), 2, "--corpus does not go with --runtime"),
        (("--runtime", "mlx", "--fast"), 2, "--fast does not go with --runtime"),
        (("--runtime", " "), 2, "name a runtime"),
        (("--runtime", "mlx, sglang"), 1, "there is no runtime 'sglang'"),
        (("--runtime", "mlx", "--python", "nowhere"), 1, "there is no Python at nowhere"),
        (("--runtime", "mlx", "--prompts", "nowhere"), 1, "there is no file or folder nowhere"),
    ],
)
def test_bad_input(monoglot: Run, out: Path, options: tuple[str, ...], code: int, said: str) -> None:
    before = (out / FILE).read_bytes()
    got, _, err = monoglot("verify", out, *options)
    assert got == code and said in err
    assert (out / FILE).read_bytes() == before


@pytest.mark.slow
def test_runtimes_lists_them_with_what_each_honours(monoglot: Run, neurons_file: Path) -> None:
    code, shown, err = monoglot("runtimes", "--json")
    assert code == 0, err
    found = json.loads(shown)
    rows = {one["name"]: one for one in found["runtimes"]}
    assert found["family"] == "llama" and rows["transformers"]["installed"]
    assert rows["mistralrs"]["carriers"]["flag"] == "dropped" and rows["mlx"]["carriers"]["native"] is None
    code, shown, _ = monoglot("runtimes", "gpt2")
    assert code == 0 and "gpt2" in shown and "pip install mistralrs" in shown
    assert rows["mistralrs"]["missing"] == ["mistralrs"] and not rows["transformers"]["missing"]
    code, _, err = monoglot("runtimes", neurons_file)
    assert code == 1 and "is no model's folder" in err


def test_for_chooses_the_carrier_and_warns(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    given = ("bake", model, with_means(neurons_file, tmp_path), "--activate", "fr", "--op", "pin", "--strength", "1")
    code, _, err = monoglot(*given, "--for", "vllm,llama.cpp", "-o", tmp_path / "flag")
    assert code == 0, err
    assert folders.manifest_data(tmp_path / "flag")["carrier"]["name"] == "flag" and "Warning" not in err
    code, _, err = monoglot(*given, "--for", "mistralrs", "-o", tmp_path / "none")
    assert code == 1 and "detect --calibrate" in err  # it has to be calibrated for that one
    code, _, err = monoglot(*given, "--carrier", "flag", "--for", "mistralrs,vllm", "-o", tmp_path / "lost")
    assert code == 0 and "Warning: mistralrs was seen not to honour constants by flag in a llama" in err
    code, _, err = monoglot(*given, "--for", "word2vec", "-o", tmp_path / "x")
    assert code == 1 and "there is no runtime 'word2vec'" in err
