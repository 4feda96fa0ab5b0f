"""A script that can't be written, by the commands that a person types, on the model that comes with monoglot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tiny

import monoglot as face
from monoglot.editor.edits import manifest
from monoglot.editor.edits.silence import load

Run = Callable[..., tuple[int, str, str]]
Passed = Callable[..., str]
MODEL = "embedded"


@pytest.fixture
def passed(monoglot: Run) -> Passed:
    """Run a command that has to pass, and give what it printed."""

    def run(*words: object) -> str:
        code, out, err = monoglot(*words)
        assert code == 0, err
        return out if "--json" in words else out + err

    return run


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded texts without Japanese."""
    from monoglot.editor.text.corpus import open_corpus

    folder = tmp_path_factory.mktemp("texts")
    for language, text in open_corpus([MODEL], ["en", "zh", "fr"]).items():
        (folder / f"{language}.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in text.documents()))
    return folder


@pytest.fixture(scope="module")
def silent(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("baked") / "out"
    told: list[str] = []
    face.bake(MODEL, None, out, silence="Han", corpus=str(texts), told=told.append)
    said = "\n".join(told)
    assert "never below" in said
    assert "1.6 MB more" in said
    return out


def test_proved(passed: Passed, silent: Path, texts: Path) -> None:
    passed("verify", silent, "--corpus", texts, "--tokens", "128")
    proof = manifest.read(silent).certificate
    assert proof
    assert proof.logits
    assert proof.logits.silenced
    assert all(own.highest < -40 for own in proof.logits.silenced.values())
    assert proof.logits.silenced["zh"].tokens > proof.logits.silenced["en"].tokens
    effect = proof.effect
    assert effect
    for language in ("en", "fr"):
        assert effect.log_loss["this model"][language] <= effect.log_loss["base"][language] + 0.01
    assert "Can it still write it?" in (silent / "README.md").read_text()


def test_no_leaks(passed: Passed, silent: Path) -> None:
    passed("evaluate", silent, "--leaks", "--answers", "24", "--tokens", "8")
    found: Any = manifest.read(silent).measures["leaks"]
    assert found["rows"]["this model"]["answer"] == {"share": 0.0, "per_thousand": 0.0}
    assert found["rows"]["base"]["answer"]["share"] > 0.5
    assert found["rows"]["rows × 0.5"]["answer"]["share"] > 0.2
    card = (silent / "README.md").read_text()
    assert "| this model | 0.0% | 0.00 |" in card.replace("**", "")


def test_made_again(passed: Passed, silent: Path, tmp_path: Path) -> None:
    passed("rebuild", silent, "-o", tmp_path / "again")
    passed("bake", "--recipe", silent / "recipe.yaml", "-o", tmp_path / "too")
    first, again, too = (manifest.read(place).files for place in (silent, tmp_path / "again", tmp_path / "too"))
    for name in ("model-00002-of-00002.safetensors", "silence.monoglot", "config.json"):
        assert first[name] == again[name] == too[name]


def test_looked_at(passed: Passed, silent: Path) -> None:
    assert "Han, " in passed("inspect", silent)
    assert "never below" in " ".join(passed("inspect", silent / "silence.monoglot").split())
    assert "Han: silenced" in passed("inspect", silent / "recipe.yaml")
    assert "Han: silenced" in passed("diff", MODEL, silent)
    data = json.loads(passed("inspect", silent, "--json"))
    assert data["silenced"]["Han"]["tokens"] == len(load(silent / "silence.monoglot").ids["Han"])


def test_with_other_edits(passed: Passed, silent: Path, texts: Path, tmp_path: Path) -> None:
    """Tokens of Chinese are redirected and silenced, in one recipe."""
    passed("tokens", MODEL, "--corpus", texts, "-o", tmp_path / "v.monoglot")
    out = tmp_path / "out"
    passed(
        "bake", MODEL, "--redirect", "zh=en", "--vocabulary", tmp_path / "v.monoglot", "--silence", "Han", "--silence-file",
        silent / "silence.monoglot", "-o", out,
    )  # fmt: skip
    passed("verify", out, "--corpus", texts, "--tokens", "64")
    assert "second is a tensor of its own" in (out / "README.md").read_text()


def test_in_one_table(passed: Passed, monoglot: Run, silent: Path, tmp_path: Path, texts: Path) -> None:
    """Here Chinese text, read as something else, turns w·h round: that is seen before anything is written."""
    out = tmp_path / "out"
    code, _, err = monoglot("bake", MODEL, "--silence", "Han", "--tied", "--corpus", texts, "-o", out)
    assert code == 1 and "Han can't be silenced in this model" in err and "a second table (--untie)" in err
    file = silent / "silence.monoglot"
    code, _, err = monoglot("bake", MODEL, "--silence", "Han", "--tied", "--silence-file", file, "-o", out)
    assert code == 1 and "the silence was measured with a second table. Make it again with --corpus" in err
    assert not out.exists()


def test_one_table_is_quieter(passed: Passed, silent: Path, tmp_path: Path, texts: Path) -> None:
    out = tmp_path / "out"
    file = silent / "silence.monoglot"
    said = passed("bake", MODEL, "--quieten", "Han=0.5", "--tied", "--silence-file", file, "-o", out)
    assert "reads the tokens of the script as something else" in said
    passed("verify", out, "--corpus", texts, "--tokens", "128")
    card = " ".join((out / "README.md").read_text().split())
    assert "so it reads these tokens as others too" in card
    assert "it is read as something else" in card and "read as before" not in card
    assert "it is read as before" in (silent / "README.md").read_text()


def test_quieter(passed: Passed, silent: Path, tmp_path: Path, texts: Path) -> None:
    out = tmp_path / "out"
    passed(
        "bake", MODEL, "--quieten", "Han=4", "--silence-file", silent / "silence.monoglot", "-o", out,
    )  # fmt: skip
    passed("verify", out, "--corpus", texts, "--tokens", "64")
    assert "4 nats less likely" in (out / "README.md").read_text()


def test_refused(monoglot: Run, texts: Path, tmp_path: Path) -> None:
    for words, word in (
        (("--silence", "Han", "--corpus", MODEL), "Japanese text, and ja is to be kept"),
        (("--silence", "Han", "--corpus", MODEL), "name it with --lose"),
        (("--silence", "Han", "--corpus", MODEL), "spare what it needs with --except-chars"),
        (("--silence", "Han", "--corpus", tmp_path / "absent", "--as", "adapter"), "can't silence a script"),
        (("--quieten", "Han=nan", "--corpus", tmp_path / "absent"), "for example --quieten Han=4"),
        (("--silence", "Hani", "--corpus", texts), "Did you mean Han"),
        (("--silence", "Han"), "Name some with --corpus"),
        (("--except-chars", "x", "--deactivate", "zh"), "--except-chars goes with --silence"),
    ):
        neurons = ("neurons.json",) if "--deactivate" in words else ()
        code, _, said = monoglot("bake", MODEL, *neurons, *words, "-o", tmp_path / "out")
        assert code != 0
        assert word in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["bias", pytest.param("direction", marks=pytest.mark.slow)])
def test_signs_less_likely(monoglot: Run, tmp_path: Path, kind: str) -> None:
    """Signs are no script: the card says what becomes of them, and that code comes out worse."""
    model = tiny.save_model(tmp_path / "model", "phi") if kind == "bias" else "embedded"
    corpus = tiny.save_corpus(tmp_path / "corpus") if kind == "bias" else "embedded"
    out = tmp_path / "out"
    code, said, err = monoglot(
        "bake", model, "--quieten", "signs=1.5,spaces=1", "--corpus", corpus, "-o", out, "--device", "cpu"
    )
    assert code == 0, err
    assert (
        "made 1.5 nats less likely" in said
        and "made 1 nat less likely" in said
        and "tokens are 1.5 nats less likely." in err
    )
    card = (out / "README.md").read_text()
    assert "### What it writes less" in card and "Can it still write it?" not in card
    assert "its digits, signs and mark-up are made 1.5 nats less likely" in card
    assert "Digits, signs and mark-up are 1.5 nats less likely (" in card
    assert "code, tables, lists and sums come out worse" in card and "A silenced script" not in card
    assert ("so a nat is one" in card) == (kind == "direction")
    code, said, err = monoglot("bake", model, "--silence", "signs", "--corpus", corpus, "-o", tmp_path / "no")
    assert code == 1 and "signs can't be silenced" in err and not (tmp_path / "no").exists()
