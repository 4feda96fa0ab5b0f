"""`monoglot push` as a user sees it: what it asks, says, writes and refuses. The token is never in what it prints."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import fake_hub as server
from support.checkpoints import PROVED, baked, certify

from monoglot.editor.hub import connection as hub_module

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")

Push = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def whole(model: Path, neurons_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = baked(tmp_path_factory.mktemp("push") / "out", model, neurons_file)
    certify(folder, PROVED)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "out")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[server.Hub]:
    monkeypatch.setattr(hub_module, "_wait", lambda seconds: None)
    with server.running(tmp_path / "hub") as running, server.in_this_process(running, monkeypatch):
        yield running


@pytest.fixture
def push(monoglot: Callable[..., tuple[int, str, str]], hub: server.Hub, monkeypatch: pytest.MonkeyPatch) -> Push:
    """Runs `monoglot push` without a terminal."""

    def run(*arguments: object, token: str = server.OWNER, verb: str = "push") -> tuple[int, str, str]:
        monkeypatch.setenv("HF_TOKEN", token)
        code, out, err = monoglot(verb, *arguments)
        for secret in (*server.USERS, token):
            assert not secret or (secret not in out and secret not in err)
        assert "Traceback" not in err
        return code, out, err

    return run


def test_it_says_who_what_and_where(folder: Path, hub: server.Hub, push: Push) -> None:
    files = len(list(folder.iterdir()))
    (folder / "report.html").write_text("mine")
    code, out, err = push(folder, "ann/m", "--yes")
    assert code == 0
    assert out == f"{hub.url}/ann/m\ncommit {hub.head('ann/m')}\n"
    for line in (
        "Not of the checkpoint, so not uploaded: report.html.",
        f"You are ann. This goes to {hub.url}/ann/m, private, which is made for it; on main.",
        "Making ann/m, private.",
        "Reading it back.",
        f"ann/m has it whole: {files} files compared.",
    ):
        assert line in err.splitlines(), err
    assert f"To upload: {files} files, 0.1 MB: model.safetensors" in err
    assert hub.commits[hub.head("ann/m")].message == "someone/tiny: zh deactivated (monoglot 0.1.0)"
    assert hub.repos["ann/m"].private


def test_a_second_time_nothing_is_sent(folder: Path, hub: server.Hub, push: Push) -> None:
    push(folder, "ann/m", "--yes")
    hub.requests.clear()
    code, out, err = push(folder, "ann/m", "--yes", "--json")
    answer = json.loads(out)
    assert (code, answer["uploaded"], answer["commit"]) == (0, [], hub.head("ann/m"))
    assert "ann/m has all of it already, at main. Nothing is uploaded." in err
    assert hub.count("POST|PUT") == 0


def test_the_answer_as_json(folder: Path, hub: server.Hub, push: Push) -> None:
    hub.put("ann/m", {"notes.txt": b"x"})
    options = ("--yes", "--json", "--public", "--revision", "b", "--tag", "v1", "--message", "my own words")
    code, out, err = push(folder, "ann/m", *options)
    answer, commit = json.loads(out), hub.head("ann/m", "b")
    uploaded = answer.pop("uploaded")
    assert code == 0 and answer == {
        "repo": "ann/m",
        "url": f"{hub.url}/ann/m/tree/b",
        "revision": "b",
        "commit": commit,
        "pull_request": None,
        "files": len(uploaded),
        "bytes": sum(hub.files("ann/m", "b")[name].size for name in uploaded),
    }
    assert hub.repos["ann/m"].tags == {"v1": commit} and hub.commits[commit].message == "my own words"
    assert "public, which exists; on b, a new branch." in err
    assert "These files stay there beside it: notes.txt." in err


def test_a_pull_request(folder: Path, hub: server.Hub, push: Push) -> None:
    hub.put("acme/m", {"notes.txt": b"x"})
    code, out, err = push(folder, "acme/m", "--create-pr", "--yes", token=server.OTHER)
    assert code == 0 and out.startswith(f"{hub.url}/acme/m/discussions/1\n")
    assert "on a new pull request." in err and "is a draft" in err
    code, out, _ = push(folder, "acme/m", "--create-pr", "--yes", "--json", token=server.OTHER)
    assert json.loads(out)["pull_request"] == f"{hub.url}/acme/m/discussions/1"


def test_a_dry_run_writes_nothing(folder: Path, hub: server.Hub, push: Push) -> None:
    code, out, err = push(folder, "ann/m", "--dry-run")
    assert (code, out) == (0, "")
    assert f"You are ann. This would go to {hub.url}/ann/m, private, which is made for it" in err
    assert "Nothing was written." in err
    assert hub.count("POST|PUT") == 0 and not hub.repos


@pytest.mark.parametrize("what", ["no token", "a bad token", "offline", "no network"])
def test_a_dry_run_without_the_hub(
    folder: Path, hub: server.Hub, push: Push, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if what == "no network":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    token = {"no token": "", "a bad token": "hf_unknown"}.get(what, server.OWNER)
    code, out, err = push(folder, "ann/m", "--dry-run", "--json", token=token)
    files = len(list(folder.iterdir()))
    assert code == 0 and f"Would upload {files} files, 0.1 MB to ann/m: model.safetensors" in err
    assert "What is there already could not be looked at:" in err
    assert json.loads(out)["commit"] is None
    code, _, err = push(folder, "ann/m", "--yes", token=token)
    assert code == 1 and "Would upload" not in err
    assert not hub.repos


def test_without_a_terminal_it_must_be_told_yes(folder: Path, hub: server.Hub, push: Push) -> None:
    code, _, err = push(folder, "ann/m")
    assert code == 2 and "There is no terminal to ask on whether to push. Add --yes" in err
    assert hub.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--create-pr", "--revision", "b"), "--revision does not go with it."),
        (("--create-pr", "--tag", "v1"), "--tag does not go with it."),
        (("--message", " "), "--message says nothing."),
    ],
)
def test_options_that_do_not_go_together(folder: Path, push: Push, options: tuple[str, ...], message: str) -> None:
    code, _, err = push(folder, "ann/m", "--yes", *options)
    assert code == 2 and message in err


def test_what_is_wrong_here_is_found_before_the_hub_is_asked(folder: Path, hub: server.Hub, push: Push) -> None:
    certify(folder, None)
    code, _, err = push(folder, "ann/m", "--yes")
    assert code == 1 and "was not verified. Run `monoglot verify" in err and "--unverified" in err
    (folder / "recipe.yaml").write_text("another")
    code, _, err = push(folder, "ann/m", "--yes", "--unverified")
    assert code == 1 and "recipe.yaml is not the file that the manifest lists" in err
    code, _, err = push(folder, "no-namespace", "--yes")
    assert code == 1 and "'no-namespace' is not the id of a repository on the Hub." in err
    assert hub.requests == []


def test_a_card_that_the_hub_would_refuse(folder: Path, hub: server.Hub, push: Push) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("---\n", "---\nlicense: my-own-licence\n", 1))
    code, out, err = push(folder, "ann/m", "--yes")
    assert (code, out) == (1, "") and "the Hub would refuse the card" in err and "my-own-licence" in err
    assert hub.requests == []


def test_unverified_is_said_and_pushed(folder: Path, hub: server.Hub, push: Push) -> None:
    certify(folder, None)
    code, _, err = push(folder, "ann/m", "--yes", "--unverified")
    assert code == 0 and "Note: Pushed all the same:" in err and "ann/m" in hub.repos


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 412, 413, 429, 500, 503])
def test_whatever_the_server_answers_the_token_is_not_shown(
    folder: Path, hub: server.Hub, push: Push, status: int
) -> None:
    hub.fault("repos/create", status, times=9, message=f"you sent Authorization: Bearer {server.OWNER}")
    code, out, err = push(folder, "ann/m", "--yes")
    assert (code, out) == (1, "") and f"{status}" in err
    assert "***" in err or status == 401
    assert sum(line.startswith("Error: ") for line in err.splitlines()) == 1


def test_export_pushes_what_it_proved(model: Path, corpus: Path, tmp_path: Path, hub: server.Hub, push: Push) -> None:
    small = ("--rate", "0.2", "--quantile", "0.8", "--context", "64", "--tokens", "2500", "--fast")
    options = (model, "--corpus", corpus, "--deactivate", "zh", *small, "-o", tmp_path / "made")
    code, _, err = push(*options, "--push", "ann/m", verb="export")
    assert code == 2 and "--yes" in err
    code, _, err = push(*options, "--push", "ann/m", "--yes", token="", verb="export")
    assert code == 1 and "nobody is logged in" in err and not (tmp_path / "made").exists()
    hub.fault("repos/create", 403, message="no")
    code, _, err = push(*options, "--push", "ann/m", "--yes", verb="export")
    assert code == 1 and f"Push it with: monoglot push {tmp_path / 'made'} ann/m" in err
    code, out, err = push(*options, "--push", "ann/m", "--yes", "--json", verb="export")
    answer = json.loads(out)
    assert code == 0, err
    assert answer["certificate"]["bytes"]["passed"] and answer["pushed"]["commit"] == hub.head("ann/m")
    assert hub.content("ann/m", "monoglot.json") == (tmp_path / "made" / "monoglot.json").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 1)])
def test_on_a_terminal_it_asks_once(folder: Path, tmp_path: Path, typed: str, code: int) -> None:
    with server.running(tmp_path / "hub") as hub:
        ours, theirs = os.openpty()
        os.write(ours, typed.encode())
        done = subprocess.run(
            [sys.executable, "-m", "monoglot.cli", "push", folder, "ann/m"],
            stdin=theirs, capture_output=True, text=True, env=server.environment(hub, tmp_path / "home"),
        )  # fmt: skip
        os.close(ours)
        os.close(theirs)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("Push? [y/N]") == 1
        assert ("ann/m" in hub.repos) == (code == 0)
        assert code == 0 or "Nothing was written." in done.stderr
