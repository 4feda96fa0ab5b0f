"""Whatever is printed comes through one door, in any encoding, and nothing of it acts on the terminal."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoglot.cli.terminal import quoted, say_json
from monoglot.editor.text.foreign import printable


@given(st.text())
def test_nothing_acts_on_a_terminal(text: str) -> None:
    clean = printable(text)
    assert not any(ord(one) < 32 and one not in "\n\t" for one in clean)
    assert not set(clean) & set("\x1b\x7f\x9b\u202e\u2066")
    assert printable(clean) == clean


def test_escape_sequences_and_other_scripts() -> None:
    assert printable("a\x1b[31mb\x1b]0;title\x07c\r\n\u202ed") == "a[31mb]0;titlec\nd"
    for text in ("می‌خواهم", "क्‍ष", "👩‍👩‍👧 ok", "中文\t1"):  # with joiners, which are no control characters
        assert printable(text) == text


def test_json_stays_json_and_acts_on_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"a\x1b[31m": "\x9b\u202e中\x7f"}
    say_json(data)
    out = capsys.readouterr().out
    assert json.loads(out) == data
    assert printable(out) == out and "中" in out


def test_paths_are_quoted_for_a_shell() -> None:
    assert quoted(Path("a b")) == "'a b'" and quoted("-x;y") == "'-x;y'" and quoted("plain/out") == "plain/out"


def run(*arguments: str, shell: str = "", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    command: Any = [sys.executable, "-m", "monoglot", *arguments]
    if shell:
        command = ["bash", "-c", f'"$0" -m monoglot "$@" {shell}', sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, timeout=120)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding(neurons_file: Path, encoding: str, tmp_path: Path) -> None:
    data = json.loads(neurons_file.read_text())
    data["method"] = {"name": "hand", "why": "汉 − é 😀"}
    (tmp_path / "n.json").write_text(json.dumps(data))
    for more in ((), ("--json",)):
        done = run("inspect", str(tmp_path / "n.json"), *more, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode(encoding))["method"]["why"] == "汉 − é 😀"


def test_closed_streams_and_readers_that_go() -> None:
    for shell in (">&-", "2>&-", ">&- 2>&-", "| head -c 20", "| true"):
        done = run("runtimes", shell=shell)
        assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, shell


def test_warnings_as_errors_of_the_environment_end_nothing(neurons_file: Path) -> None:
    done = run("inspect", "embedded", PYTHONWARNINGS="error")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_ENDPOINT": "hub.invalid"}, {"HF_ENDPOINT": "https：//hub.invalid"}, {"HF_ENDPOINT": ""},
        {"ALL_PROXY": "socks5://127.0.0.1:9"}, {"HF_TOKEN": "tök"}, {"HF_HUB_DOWNLOAD_TIMEOUT": "ten"},
        {"SSL_CERT_FILE": "/nowhere"}, {"HOME": ""},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_environment_is_one_message(neurons_file: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    done = run("bake", "acme/tiny", str(neurons_file), "--deactivate", "zh", "-o", str(tmp_path / "out"),
               **{"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", **environment})  # fmt: skip
    err = done.stderr.decode()
    assert done.returncode == 1 and "Traceback" not in err and err.count("Error: ") == 1, err
    assert "Hub" in err and "not foreseen" not in err


def test_what_was_not_foreseen_is_one_message_too(monkeypatch: pytest.MonkeyPatch, monoglot: Any) -> None:
    from monoglot.editor import describe

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by \x1b[31mzero")

    monkeypatch.setattr(describe, "describe", fail)
    code, out, err = monoglot("inspect", "embedded")
    assert (code, out) == (1, "")
    assert err.startswith("Error: ZeroDivisionError, which was not foreseen: by [31mzero.") and "\x1b" not in err
    monkeypatch.setenv("MONOGLOT_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        monoglot("inspect", "embedded")


def test_markup_in_names_is_text(monoglot: Any, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    data = json.loads(neurons_file.read_text())
    data["method"] = {"name": "hand", "file": "[/x][red]\x1b]0;title\x07"}
    (tmp_path / "n.json").write_text(json.dumps(data))
    code, out, err = monoglot("inspect", tmp_path / "n.json")
    assert code == 0 and not err and "\x1b" not in out and "\x07" not in out


def test_settings_of_the_hub_that_are_none_and_a_folder_that_is_gone(
    model: Path, neurons_file: Path, tmp_path: Path
) -> None:
    """A bake asks no Hub, but the libraries read its settings all the same."""
    bake = ("bake", str(model), str(neurons_file), "--deactivate", "zh", "-o")
    done = run(*bake, str(tmp_path / "out"), HF_HUB_DOWNLOAD_TIMEOUT="ten")
    err = done.stderr.decode()
    assert done.returncode in (0, 1) and "not foreseen" not in err and "Traceback" not in err
    assert done.returncode == 0 or "variables that begin with HF_" in err
    command = 'mkdir gone && cd gone && rmdir ../gone && "$0" -m monoglot "$@"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, *bake, "out"], capture_output=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 1 and b"the folder that this was started in is gone" in done.stderr


def test_a_model_without_a_tokenizer_is_said(model: Path, neurons_file: Path, tmp_path: Path, monoglot: Any) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    code, _, err = monoglot("bake", folder, neurons_file, "--deactivate", "zh", "-o", tmp_path / "out")
    assert code == 0 and "has no tokenizer, and so the checkpoint will have none. Copy its files" in err
