"""monoglot tokens, and what bake, export and the others make of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from monoglot.editor.edits import manifest
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import vocabulary
from monoglot.editor.statistics.token_counts import learn
from monoglot.editor.text.corpus import open_corpus

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tied(saved: Callable[..., Path]) -> Path:
    return saved("gemma3_text", tokenizer=True)


@pytest.fixture(scope="module")
def made(tied: Path, corpus: Path) -> bytes:
    """What `monoglot tokens` writes of the first 800 tokens of each language."""
    found = learn(open_target(resolve(str(tied))), open_corpus([str(corpus)]), tokens=800, minimum=100)
    return vocabulary.serialise(found)


@pytest.fixture
def counted(made: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "vocabulary.monoglot"
    path.write_bytes(made)
    return path


def test_counted(monoglot: Run, counted: Path, tied: Path, corpus: Path) -> None:
    assert vocabulary.load(counted).languages == ("en", "fr", "zh")
    again = ("tokens", tied, "--corpus", corpus, "--tokens", 800, "--minimum", 100, "-o", counted)
    code, _, err = monoglot(*again)
    assert code == 1 and "exists" in err
    before = counted.read_bytes()
    code, shown, _ = monoglot(*again, "--force")
    assert code == 0 and "300 tokens in its vocabulary" in shown
    code, shown, _ = monoglot(*again, "--force", "--json")
    assert code == 0 and json.loads(shown)["languages"]["en"]["tokens"] == 800
    assert counted.read_bytes() == before
    code, shown, _ = monoglot("inspect", counted, "--json")
    assert code == 0 and json.loads(shown)["kind"] == "vocabulary"
    code, shown, _ = monoglot("inspect", counted)
    assert code == 0 and "300 tokens of 16 numbers" in shown


def test_too_little_text(monoglot: Run, tied: Path, corpus: Path, tmp_path: Path) -> None:
    code, _, err = monoglot("tokens", tied, "--corpus", corpus, "--minimum", 100_000, "-o", tmp_path / "v")
    assert code == 1 and "fewer than" in err
    assert not (tmp_path / "v").exists()


def test_baked_and_proved(monoglot: Run, counted: Path, tied: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown, err = monoglot("bake", tied, "--redirect", "zh=en,fr=en", "--vocabulary", counted, "-o", out)
    assert code == 0, err
    assert "The checkpoint gets a second one to write with, lm_head.weight: 0.0 MB more" in err
    assert "redirected to English × 1.5" in shown
    assert not (out / "neurons.json").exists()
    code, shown, err = monoglot("verify", out, "--base", tied, "--corpus", corpus, "--tokens", 64)
    assert code == 0 and "is what its recipe says" in err
    record = manifest.read(out)
    assert record.certificate is not None and record.certificate.logits is not None and record.certificate.logits.passed
    card = (out / "README.md").read_text()
    assert "its tokens of Chinese and French are redirected to English × 1.5" in card
    assert "`lm_head.weight`" in card and "lape" not in card
    code, _, err = monoglot("rebuild", out, "--base", tied, "-o", tmp_path / "again")
    assert code == 0, err
    code, _, err = monoglot("bake", tied, "--recipe", out / "recipe.yaml", "-o", tmp_path / "from-recipe")
    assert code == 0, err
    code, shown, _ = monoglot("diff", out, tmp_path / "from-recipe")
    assert "tensors: 42 the same" in shown
    code, shown, _ = monoglot("inspect", out)
    assert code == 0 and "Chinese: redirected to English × 1.5" in shown and "lm_head.weight" in shown
    code, shown, _ = monoglot("inspect", out / "recipe.yaml")
    assert code == 0 and "vocabulary.monoglot" in shown and "neurons" not in shown
    (out / "vocabulary.monoglot").unlink()
    code, _, err = monoglot("rebuild", out, "--base", tied, "-o", tmp_path / "third")
    assert code == 1 and "which language uses which token is not known" in err
    code, _, err = monoglot("verify", out, "--base", tied, "--fast")
    assert code == 1 and "monoglot tokens" in err


def test_in_one_go(monoglot: Run, tied: Path, corpus: Path, tmp_path: Path) -> None:
    """No statistics, no neurons; run again, nothing is done twice; --op redirect is the same."""
    out = tmp_path / "out"
    export = ("export", tied, "--corpus", corpus, "--minimum", 100, "--fast", "-o", out)
    code, _, err = monoglot(*export, "--redirect", "others=fr")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "out.work").iterdir()) == ["vocabulary.monoglot"]
    assert [edit.language for edit in manifest.read(out).recipe.edits] == ["en", "zh"]
    assert "made to answer in French" in (out / "README.md").read_text()
    code, _, err = monoglot(*export, "--activate", "fr", "--op", "redirect")
    assert code == 0 and "is this checkpoint already" in err


def test_beside_neurons(monoglot: Run, tied: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = monoglot(
        "export", tied, "--corpus", corpus, "--minimum", 100, "--rate", 0.2, "--redirect", "zh=en", "--deactivate", "zh",
        "--shared", "edit", "--fast", "-o", out,
    )  # fmt: skip
    assert code == 0, err
    assert [edit.op for edit in manifest.read(out).recipe.edits] == ["deactivate", "redirect"]
    code, shown, _ = monoglot("diff", out, out)
    assert "deactivated, redirected to English × 1.5" in shown


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--redirect", "zh=en"), "name it with --vocabulary"),
        (("--redirect", "zh", "--vocabulary", "V"), "write two languages"),
        (("--redirect", "zh=zh", "--vocabulary", "V"), "redirected to itself"),
        (("--redirect", "zh=en,en=fr", "--vocabulary", "V"), "which is redirected itself"),
        (("--redirect", "zh=de", "--vocabulary", "V"), "no text in 'de'"),
        (("--redirect", "zh=en", "--vocabulary", "V", "--strength", "auto"), "does not go with redirecting"),
        (("--redirect", "zh=en", "--vocabulary", "V", "--strength", "-1"), "strength above 0"),
        (("--redirect", "zh=en", "--vocabulary", "V", "--op", "pin"), "--op goes with --activate"),
        (("--deactivate", "zh", "--vocabulary", "V"), "Name the model and the neurons file"),
        (("--redirect", "zh=en", "--vocabulary", "README"), "is damaged"),
    ],
)
def test_bad_input(
    options: tuple[str, ...], reason: str, monoglot: Run, counted: Path, tied: Path, tmp_path: Path
) -> None:
    (tmp_path / "README").write_text("no vocabulary")
    files = {"V": counted, "README": tmp_path / "README"}
    code, _, err = monoglot("bake", tied, *(files.get(option, option) for option in options), "-o", tmp_path / "out")
    assert code != 0 and reason in err
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_of_another_model(monoglot: Run, counted: Path, model: Path, tmp_path: Path) -> None:
    code, _, err = monoglot("bake", model, "--redirect", "zh=en", "--vocabulary", counted, "-o", tmp_path / "out")
    assert code == 1 and "the vocabulary is of a model with fingerprint" in err
