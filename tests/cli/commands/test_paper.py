"""monoglot paper: all of it in one command on the embedded model, and again from where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monoglot.cli.commands.demo import planted_rate
from monoglot.editor.measures import findings, measure
from monoglot.editor.neurons import neurons

Run = Callable[..., tuple[int, str, str]]
OPTIONS = (
    "--corpus", "embedded", "--languages", "en,fr,zh", "--tokens", 3000, "--context", 96, "--minimum", 500,
    "--text-tokens", 200, "--count", 2,
)  # fmt: skip


@pytest.mark.slow
def test_from_text_to_page_and_again(monoglot: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "findings"
    whole, stop = measure.similarity, True

    def interrupted(*arguments: Any) -> Any:
        if stop:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(measure, "similarity", interrupted)
    rate = ("--rate", f"{planted_rate() * 3 / 7:.4f}")
    code, _, err = monoglot("paper", "embedded", *OPTIONS, *rate, "-o", folder)
    assert code == 130 and "Run the same command again" in err
    assert set(findings.read(folder).evaluation.to_data()) == {"profile", "overlap", "methods", "perplexity"}
    stop = False
    monkeypatch.setattr(measure, "profile", None)  # is not called again
    code, out, err = monoglot("paper", "embedded", *OPTIONS, *rate, "-o", folder)
    assert code == 0, err
    assert "still fit" in err and "profile: there already" in err
    assert "of the damage falls on the language switched off" in out

    code, out, err = monoglot("paper", "embedded", *OPTIONS, *rate, "-o", folder, "--json")
    assert code == 0 and json.loads(out) == findings.read(folder).evaluation.to_data(), err

    def called(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "profile", called)  # … but with other settings it is
    before = (folder / findings.FILE).read_bytes()
    assert monoglot("paper", "embedded", *OPTIONS, *rate, "--count", 3, "-o", folder)[0] == 130
    assert (folder / findings.FILE).read_bytes() == before, "nothing is lost before there is something new"
    for other, said in ((("--quantile", 0.9), "--quantile 0.95"), (("--languages", "en,fr"), "findings of en, fr, zh")):
        code, _, err = monoglot("paper", "embedded", *OPTIONS, *rate, *other, "-o", folder)
        assert code == 1 and said in err and (folder / findings.FILE).read_bytes() == before

    found = findings.read(folder).evaluation.to_data()
    assert set(found) == {"profile", "overlap", "methods", "perplexity", "similarity", "deactivate_each"}
    assert set(found["methods"]["methods"]) == {"lape", "lap", "lave", "ap", "random"}
    for language in ("en", "fr", "zh"):
        row = found["perplexity"]["change"][language]
        assert row[language] > 1 > max(change for text, change in row.items() if text != language)
        assert found["deactivate_each"]["rows"][language][language]["accuracy"] == 0
    assert found["perplexity"]["dominance"]["share"] > 0.9
    assert found["methods"]["methods"]["random"]["perplexity"] is None
    assert set(neurons.load(folder / "neurons.json").languages) == {"en", "fr", "zh"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1" in page and json.dumps(str(tmp_path)) not in page


def test_what_is_refused(monoglot: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for arguments, code, said in (
        (("embedded", "-o", tmp_path / "x"), 2, "Name the text"),
        (("embedded", "--corpus", "embedded", "-o", tmp_path), 1, "other things in it"),
        (("embedded", "--corpus", "embedded", "-o", tmp_path / "config.json"), 1, "is a file"),
        (("embedded", "--corpus", "embedded", "--languages", "en,de", "-o", tmp_path / "x"), 1, "de"),
        (("embedded", "--corpus", "embedded", "--languages", "en", "-o", tmp_path / "x"), 1, "in en only"),
        (("absent-model", "--corpus", "embedded", "-o", tmp_path / "x"), 1, "absent-model"),
    ):
        ended, out, err = monoglot("paper", *arguments)
        assert (ended, out) == (code, "") and said in err and "Traceback" not in err, err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
