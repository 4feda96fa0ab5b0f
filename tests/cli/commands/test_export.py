"""The commands as a user types them, one after the other and all at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import tiny

from monoglot.cli.main import COMMANDS


def monoglot(*arguments: object, cwd: Path | None = None, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "monoglot.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == code, done.stderr
    return done


SMALL = ("--rate", "0.2", "--quantile", "0.8", "--context", "64", "--verify-tokens", "200", "--tokens", "2500")


@pytest.fixture(scope="module")
def exported(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("export") / "out"
    done = monoglot("export", model, "--corpus", corpus, "--deactivate", "zh", "-o", out, "--json", *SMALL)
    return out, json.loads(done.stdout)


@pytest.mark.slow
def test_export_writes_a_checkpoint_that_transformers_loads(exported: tuple[Path, dict[str, Any]], model: Path) -> None:
    out, answer = exported
    assert answer["certificate"]["bytes"]["passed"] and answer["certificate"]["logits"]["passed"]
    assert answer["neurons_edited"] > 0
    ids = torch.arange(2, 40)[None]
    logits = [transformers.AutoModelForCausalLM.from_pretrained(f)(input_ids=ids).logits for f in (model, out)]
    assert not torch.allclose(*logits)
    assert {"README.md", "monoglot.json", "neurons.json", "recipe.yaml"} <= {path.name for path in out.iterdir()}


@pytest.mark.slow
def test_export_again_reuses_what_fits(exported: tuple[Path, dict[str, Any]], model: Path, corpus: Path) -> None:
    out, _ = exported
    before = (out / "model.safetensors").stat()
    done = monoglot("export", model, "--corpus", corpus, "--deactivate", "zh", "-o", out, *SMALL)
    assert "still fit" in done.stderr
    assert "is this checkpoint already" in done.stderr
    assert (out / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_export_of_another_language_does_not_replace_unasked(
    exported: tuple[Path, dict[str, Any]], model: Path, corpus: Path
) -> None:
    out, _ = exported
    before = (out / "monoglot.json").read_bytes()
    done = monoglot("export", model, "--corpus", corpus, "--deactivate", "en", "-o", out, *SMALL, code=1)
    assert "--force" in done.stderr and "Traceback" not in done.stderr
    assert (out / "monoglot.json").read_bytes() == before


@pytest.mark.slow
def test_statistics_of_other_text_are_made_anew(
    exported: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    out, _ = exported
    other = tiny.save_corpus(tmp_path / "corpus", repeats=70)
    done = monoglot(
        "export", model, "--corpus", other, "--deactivate", "zh", "--work", out.with_name("out.work"), "-o",
        tmp_path / "out", "--fast", *SMALL, "--tokens", "4000",
    )  # fmt: skip
    assert "still fit" not in done.stderr


def test_a_language_without_text_is_an_error_before_anything_runs(model: Path, corpus: Path, tmp_path: Path) -> None:
    done = monoglot("export", model, "--corpus", corpus, "--deactivate", "ja", "-o", tmp_path / "out", code=1)
    assert "no text in ja" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_step_by_step_gives_the_same_checkpoint(
    exported: tuple[Path, dict[str, Any]], model: Path, corpus: Path, tmp_path: Path
) -> None:
    out, _ = exported
    stats, neurons, second = tmp_path / "stats.safetensors", tmp_path / "neurons.json", tmp_path / "second"
    monoglot("detect", model, "--corpus", corpus, "--context", 64, "--tokens", 2500, "-o", stats)
    monoglot("find", stats, "--rate", 0.2, "--quantile", 0.8, "-o", neurons)
    monoglot("bake", model, neurons, "--deactivate", "zh", "-o", second)
    for name in ("model.safetensors", "neurons.json", "recipe.yaml", "config.json"):
        assert (second / name).read_bytes() == (out / name).read_bytes(), name


def test_the_written_recipe_bakes_the_same_checkpoint(
    exported: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    out, _ = exported
    monoglot("bake", model, "--recipe", out / "recipe.yaml", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_verify_fails_loudly(exported: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path) -> None:
    import shutil

    out, _ = exported
    broken = tmp_path / "broken"
    shutil.copytree(out, broken)
    shutil.copy(model / "model.safetensors", broken / "model.safetensors")
    done = monoglot("verify", broken, "--base", model, "--fast", code=1)
    assert "Failed:" in done.stderr and "NOT what its recipe says" in done.stderr
    assert json.loads((broken / "monoglot.json").read_text())["certificate"]["bytes"]["passed"] is False
    assert "**The bytes are not what the recipe says**" in (broken / "README.md").read_text()


@pytest.mark.slow
def test_verifying_the_bytes_again_keeps_what_was_proved_of_the_logits(
    exported: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    import shutil

    out = tmp_path / "out"
    shutil.copytree(exported[0], out)
    whole = {name: (out / name).read_bytes() for name in ("monoglot.json", "README.md")}
    assert json.loads(whole["monoglot.json"])["certificate"]["logits"]["passed"]
    done = monoglot("verify", out, "--base", model, "--fast")
    assert "compared before: that part of the certificate is kept" in done.stderr
    assert {name: (out / name).read_bytes() for name in whole} == whole

    failed = json.loads(whole["monoglot.json"])
    failed["certificate"]["logits"] |= {"passed": False, "problems": ["en: KL is too much."]}
    (out / "monoglot.json").write_text(json.dumps(failed))
    done = monoglot("verify", out, "--base", model, "--fast", code=1)
    assert "Failed: en: KL is too much." in done.stderr, "a failure is not forgotten either"

    for damaged in ([], {"bytes": 1, "logits": 1}):
        (out / "monoglot.json").write_text(json.dumps({**failed, "certificate": damaged}))
        done = monoglot("verify", out, "--base", model, "--fast", code=1)
        assert "malformed (certificate" in done.stderr
    (out / "monoglot.json").write_text(json.dumps({**failed, "certificate": None}))
    monoglot("verify", out, "--base", model, "--fast")
    assert set(json.loads((out / "monoglot.json").read_text())["certificate"]) == {"bytes"}

    (out / "monoglot.json").write_bytes(whole["monoglot.json"])
    shutil.copy(model / "model.safetensors", out / "model.safetensors")
    monoglot("verify", out, "--base", model, "--fast", code=1)
    assert set(json.loads((out / "monoglot.json").read_text())["certificate"]) == {"bytes"}


def test_verify_finds_a_base_beside_the_checkpoint(
    exported: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    import shutil

    out, _ = exported
    shutil.copytree(out, tmp_path / "out")
    done = monoglot("verify", tmp_path / "out", "--fast", code=1)
    assert "--base" in done.stderr
    shutil.copytree(model, tmp_path / model.name)
    monoglot("verify", tmp_path / "out", "--fast")


@pytest.mark.slow
def test_a_hub_id_is_taken_from_the_hub_s_cache(
    model: Path, neurons_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, from a cache laid out as huggingface_hub does: the card names the model, the manifest its commit."""
    import shutil

    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--org--tiny-model"
    shutil.copytree(model, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monoglot("bake", "org/tiny-model", neurons_file, "--deactivate", "zh", "-o", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "monoglot.json").read_text())
    assert (record["base"]["model"], record["base"]["revision"], record["base"]["hub"]) == (
        "org/tiny-model",
        commit,
        True,
    )
    assert "base_model: org/tiny-model" in (tmp_path / "out" / "README.md").read_text()
    monoglot("verify", tmp_path / "out", "--fast")
    done = monoglot("bake", "org/absent", neurons_file, "--deactivate", "zh", "-o", tmp_path / "no", code=1)
    assert "Hub could not be reached" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_explains_itself_with_an_example(verb: str) -> None:
    done = monoglot(verb, "-h")
    assert f"monoglot {verb}" in done.stdout.split("Options:")[0].partition("\n")[2]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom monoglot.cli.main import main\nsys.argv = ['monoglot', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.slow
def test_off_by_default_is_searched_for(model: Path, corpus: Path, tmp_path: Path) -> None:
    """A tiny model's random neurons can't do it, which is said; the table is printed, in the manifest and on the card."""
    small = ("--context", "64", "--verify-tokens", "200", "--tokens", "2500")
    out = tmp_path / "out"
    command = ("export", model, "--corpus", corpus, "--deactivate", "zh", "-o", out, *small)
    done = monoglot(*command)
    assert "ways to switch Chinese off" in done.stdout and "NOT reached" in done.stdout
    assert "zh is not off" in done.stderr and "--redirect zh=en" in done.stderr
    found = json.loads((out / "monoglot.json").read_text())["candidates"]
    assert found["kind"] == "off" and 0 <= found["chosen"] < len(found["rows"]) and not found["reached"]
    card = (out / "README.md").read_text()
    assert "### What was tried" in card and "the mildest that does it" in card
    again = monoglot(*command)
    assert "is this checkpoint already" in again.stderr
    refused = monoglot(
        "export", model, "--corpus", corpus, "--deactivate", "zh", "--rate", "0.2", "--spare", "1", "-o", out, code=2
    )
    assert "--spare goes with --deactivate alone" in refused.stderr
