"""What was pushed is what others load: through the real client, in processes of its own, over Xet and over LFS; and after a
push that was killed half way."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support import fake_hub as server
from support.checkpoints import PROVED, baked, certify

BEFORE_1 = version("huggingface_hub").startswith("0.")
LOADING = """
import sys, torch, transformers
from huggingface_hub import ModelCard
for repo, revision, folder in zip(*[iter(sys.argv[1:])] * 3):
    ids = torch.arange(2, 40)[None]
    ours, theirs = (transformers.AutoModelForCausalLM.from_pretrained(place, revision=at)(input_ids=ids).logits
                    for place, at in ((repo, revision), (folder, None)))
    assert torch.equal(ours, theirs) and ours.isfinite().all(), repo
    words = [transformers.AutoTokenizer.from_pretrained(p, revision=at)("Le renard").input_ids
             for p, at in ((repo, revision), (folder, None))]
    assert words[0] == words[1] and words[0], repo
    card = ModelCard.load(repo)
    assert "monoglot" in card.data.tags, card.data
    assert card.content.strip() == open(folder + "/README.md").read().strip()
"""
FETCHING = """
import pathlib, sys
from huggingface_hub import snapshot_download
place = pathlib.Path(snapshot_download(sys.argv[1], cache_dir=sys.argv[3]))
for path in pathlib.Path(sys.argv[2]).iterdir():
    assert (place / path.name).read_bytes() == path.read_bytes(), path
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[server.Hub]:
    with server.running(tmp_path / "hub", part_size=30_000) as running:
        yield running


@pytest.fixture(scope="module")
def folder(model: Path, neurons_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = baked(tmp_path_factory.mktemp("round") / "out", model, neurons_file)
    certify(made, PROVED)
    return made


@pytest.fixture
def start(hub: server.Hub, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a process that takes the server for the Hub."""
    started = []

    def run(*arguments: object, xet: bool = True) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=server.environment(hub, tmp_path / "home", xet=xet), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert server.OWNER not in out + err
    return out, err


PUSH = ("-m", "monoglot.cli", "push")


def whole(hub: server.Hub, repo: str, folder: Path) -> bool:
    return {name: hub.content(repo, name) for name in hub.files(repo) if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


@pytest.mark.slow
@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_it_arrives_and_comes_back_either_way(
    hub: server.Hub, folder: Path, start: Callable[..., Any], xet: bool, tmp_path: Path
) -> None:
    repo = f"ann/{'xet' if xet else 'lfs'}"
    answer = json.loads(ended(start(*PUSH, folder, repo, "--yes", "--json", xet=xet))[0])
    assert answer["commit"] == hub.head(repo) and whole(hub, repo, folder)
    weights = hub.files(repo)["model.safetensors"].sha256
    assert (weights in hub.xet()) == xet and (weights in hub.large) == (not xet)
    assert xet or hub.count(f"PUT /lfs/{repo}") == 3  # parts
    for reads_with_xet in (True, False):
        hub.requests.clear()
        ended(start("-c", FETCHING, repo, folder, tmp_path / f"{reads_with_xet}", xet=reads_with_xet))
        over_xet = reads_with_xet and xet
        assert (hub.count("xet-read-token") > 0) == over_xet and (hub.count("GET /storage") > 0) == (not over_xet)
    hub.requests.clear()
    assert json.loads(ended(start(*PUSH, folder, repo, "--yes", "--json", xet=xet))[0])["uploaded"] == []
    assert hub.count("POST|PUT") == 0


@pytest.mark.slow
def test_a_pushed_model_gives_the_same_logits(
    hub: server.Hub, model: Path, corpus: Path, planted: Any, tmp_path: Path, start: Callable[..., Any],
    monoglot: Callable[..., tuple[int, str, str]],
) -> None:  # fmt: skip
    """A tiny model over Xet; and the embedded one over LFS, to a branch and to main, by its tag. Both fully verified."""
    from monoglot.editor import embedded
    from monoglot.editor.neurons import neurons

    tiny_out, french, found = tmp_path / "tiny", tmp_path / "french", tmp_path / "neurons.json"
    neurons.save(planted, found)
    small = ("--rate", "0.2", "--quantile", "0.8", "--context", "64", "--tokens", "2500", "--verify-tokens", "100")
    for command in (
        ("export", model, "--corpus", corpus, "--deactivate", "zh", *small, "-o", tiny_out),
        ("bake", embedded.NAME, found, "--deactivate", "fr", "-o", french),
        ("verify", french, "--languages", "fr,en", "--tokens", "100"),
    ):
        code, _, err = monoglot(*command)
        assert code == 0, err
    ended(start(*PUSH, tiny_out, "ann/tiny", "--yes"))
    assert json.loads(hub.content("ann/tiny", "monoglot.json"))["certificate"]["logits"]["passed"]
    ended(start(*PUSH, french, "acme/without-french", "--yes", "--revision", "b", "--tag", "v1", xet=False))
    parts = hub.count("PUT /lfs/acme/without-french")
    ended(start(*PUSH, french, "acme/without-french", "--yes", xet=False))
    assert hub.count("PUT /lfs/acme/without-french") == parts > 3  # main takes what the branch has brought
    ended(start("-c", LOADING, "ann/tiny", "main", tiny_out, "acme/without-french", "v1", french))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("xet", "moment"), [(True, "/commit/"), (False, "/commit/"), (False, "PUT /lfs/.*/2$")], ids=["xet", "lfs", "parts"]
)
def test_a_push_that_was_killed_goes_on(
    hub: server.Hub, folder: Path, start: Callable[..., Any], xet: bool, moment: str
) -> None:
    repo = "ann/m"
    hub.fault(moment, wait=60, cut=True)
    process = start(*PUSH, folder, repo, "--yes", xet=xet)
    until(lambda: hub.count(moment) == 1)
    process.kill()
    process.wait()
    assert not whole(hub, repo, folder)
    hub.requests.clear()
    ended(start(*PUSH, folder, repo, "--yes", xet=xet))
    assert whole(hub, repo, folder)
    assert hub.count("repos/create") == 0 and hub.count("/commit/") == 1
    assert hub.count("PUT /lfs") == (3 if "PUT" in moment else 0)  # what had arrived whole is not sent again


@pytest.mark.slow
@pytest.mark.parametrize(("xet", "moment"), [(True, "/commit/"), (False, "PUT /lfs")], ids=["xet", "lfs"])
def test_ctrl_c_leaves_at_once(
    hub: server.Hub, folder: Path, start: Callable[..., Any], xet: bool, moment: str
) -> None:
    if xet and BEFORE_1:
        pytest.skip("before 1.0 Ctrl-C is Xet's as soon as it has uploaded something, and waits for the Hub's answer")
    repo = "ann/m"
    hub.fault(moment, wait=60, cut=True)
    process = start(*PUSH, folder, repo, "--yes", xet=xet)
    until(lambda: hub.count(moment) == 1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = ended(process, 130)
    assert time.monotonic() - began < 3
    assert "Interrupted. Run the same command again: it goes on where it stopped." in err and "Traceback" not in err


@pytest.mark.slow
def test_a_failure_of_xet_is_said_in_a_sentence(
    hub: server.Hub, folder: Path, start: Callable[..., Any], tmp_path: Path
) -> None:
    if BEFORE_1:
        pytest.skip("before 1.0 it is huggingface_hub that asks for Xet's token, so Xet itself has not failed")
    hub.fault("xet-write-token", cut=True, times=99)
    _, err = ended(start(*PUSH, folder, "ann/broken", "--yes"), 1)
    hub.faults.clear()
    assert "Error: Xet's storage failed while uploading to ann/broken:" in err and "HF_HUB_DISABLE_XET=1" in err
    assert "Traceback" not in err
    ended(start(*PUSH, folder, "ann/broken", "--yes", xet=False))
    assert whole(hub, "ann/broken", folder)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
