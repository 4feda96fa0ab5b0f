"""The commands on GGUF files: bake, verify, inspect; and what they say to what can't be done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ggufs
from support.folders import tree

Run = Callable[..., tuple[int, str, str]]
EDIT = ("--deactivate", "fr")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return ggufs.write(tmp_path / "model.gguf", kind="Q4_K")


@pytest.fixture
def out(monoglot: Run, base: Path, neurons_file: Path, tmp_path: Path) -> Path:
    code, _, err = monoglot("bake", base, neurons_file, *EDIT, "-o", tmp_path / "out.gguf")
    assert code == 0, err
    return tmp_path / "out.gguf"


def words(text: str) -> str:
    return " ".join(text.split())


def test_bake_and_verify(monoglot: Run, base: Path, neurons_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.gguf"
    code, shown, err = monoglot("bake", base, neurons_file, *EDIT, "-o", out)
    assert code == 0 and "out.gguf: 4 neurons edited" in shown and words("fr deactivated 4 2") in words(shown)
    assert (
        "The neurons are those of tiny. Layers and width fit; that model.gguf was converted from it can't be proved"
        in err
    )
    assert f"Prove it with: monoglot verify {out} --base {base}" in err
    code, shown, err = monoglot("verify", out, "--base", base)
    assert code == 0 and "is what its sidecar says" in err
    assert shown == "bytes: 4 rows of zeros in 3 tensors, 8 tensors and all else identical\n"
    code, shown, _ = monoglot("verify", out, "--base", base, "--json", "--neurons", neurons_file)
    assert code == 0 and json.loads(shown)["bytes"]["passed"] is True
    recorded = json.loads((out.parent / "out.gguf.json").read_text())["certificate"]
    assert recorded == json.loads(shown)


def test_bake_in_json(monoglot: Run, base: Path, neurons_file: Path, tmp_path: Path) -> None:
    code, shown, _ = monoglot(
        "bake", base, neurons_file, *EDIT, "--shared", "edit", "-o", tmp_path / "o.gguf", "--json"
    )
    found = json.loads(shown)
    assert code == 0 and (found["neurons_edited"], found["edited"], found["kept"]) == (6, {"fr": 6}, {"fr": 0})
    sidecar = json.loads((tmp_path / "o.gguf.json").read_text())
    assert (found["sha256"], found["base"]) == (sidecar["file"]["sha256"], sidecar["base"])


def test_by_a_recipe(monoglot: Run, base: Path, out: Path, neurons_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = "format: 1\nbase: {model: MODEL}\nedits: [{language: fr, op: OP}]\n"
    recipe.write_text(text.replace("MODEL", str(base)).replace("OP", "deactivate"))
    (tmp_path / "neurons.json").write_bytes(neurons_file.read_bytes())
    code, _, err = monoglot("bake", "--recipe", recipe, "-o", tmp_path / "again.gguf")
    assert code == 0, err
    assert (tmp_path / "again.gguf").read_bytes() == out.read_bytes()
    recipe.write_text(text.replace("MODEL", str(base)).replace("OP", "pin"))
    code, shown, err = monoglot("bake", "--recipe", recipe, "-o", tmp_path / "other.gguf")
    assert (code, shown) == (1, "") and "pin (fr) can't be done in a GGUF file" in err
    assert not (tmp_path / "other.gguf").exists()


def test_by_its_bytes(monoglot: Run, base: Path, neurons_file: Path, tmp_path: Path) -> None:
    """Whatever it is called."""
    base.rename(tmp_path / "model.bin")
    assert monoglot("bake", tmp_path / "model.bin", neurons_file, *EDIT, "-o", tmp_path / "o.gguf")[0] == 0
    assert monoglot("verify", tmp_path / "o.gguf", "--base", tmp_path / "model.bin")[0] == 0
    assert words(monoglot("inspect", tmp_path / "model.bin")[1]).startswith(
        "model.bin a GGUF file of the architecture llama"
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--activate", "fr"), 1, "add (fr) can't be done in a GGUF file"),
        (("--activate", "fr", "--strength", "2"), 1, "add (fr) can't be done in a GGUF file"),
        (("--activate", "fr", "--strength", "auto"), 1, "add (fr) can't be done in a GGUF file"),
        (("--activate", "fr", "--hold", "others"), 1, "can't be done in a GGUF file"),
        (("--scale", "fr=0.5"), 1, "scale (fr) can't be done in a GGUF file, where numbers are quantised"),
        ((), 2, "Say what to edit"),
        ((*EDIT, "--calibration", "x"), 2, "--calibration does not apply to a GGUF file"),
        ((*EDIT, "--base-id", "a/b"), 2, "--base-id does not apply to a GGUF file"),
        ((*EDIT, "--device", "cpu"), 2, "--device does not apply to a GGUF file"),
        ((*EDIT, "--dtype", "float32"), 2, "--dtype does not apply to a GGUF file"),
        ((*EDIT, "--carrier", "flag"), 2, "--carrier goes with --activate"),
        ((*EDIT, "--strength", "2"), 2, "--strength is that of --activate"),
        (("--deactivate", "de"), 1, "there are no neurons for 'de'; there are for en, fr, zh"),
    ],
)
def test_what_cannot_be_done(
    monoglot: Run, base: Path, neurons_file: Path, tmp_path: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    before = tree(tmp_path)
    ended, shown, err = monoglot("bake", base, neurons_file, *options, "-o", tmp_path / "out.gguf")
    assert (ended, shown) == (code, "") and message in err
    assert tree(tmp_path) == before


def test_folders_and_files(
    monoglot: Run, base: Path, out: Path, model: Path, neurons_file: Path, tmp_path: Path
) -> None:
    """One where the other belongs."""
    before = tree(tmp_path)
    for arguments, code, message in (
        (("bake", base, neurons_file, *EDIT, "-o", tmp_path / "o"), 2, "is a GGUF file, and so is what is made of it"),
        (("bake", model, neurons_file, *EDIT, "-o", tmp_path / "o.gguf"), 2, "a GGUF file is made of a GGUF file only"),
        (("bake", tmp_path / "gone.gguf", neurons_file, *EDIT, "-o", tmp_path / "o.gguf"), 1, "there is no file"),
        (("bake", base, neurons_file, *EDIT, "-o", out), 1, "exists. Choose another place, or replace it with --force"),
        (("bake", base, neurons_file, *EDIT, "-o", base, "--force"), 1, "is the model itself"),
        (("verify", out, "--base", model), 1, "is not a GGUF file"),
        (("verify", model, "--base", base), 1, "is a GGUF file"),
        (("verify", base), 1, "was not made by monoglot"),
        (("verify", tmp_path / "gone.gguf"), 1, "there is no file"),
        (("verify", out, "--tokens", "64"), 2, "--tokens does not apply to a GGUF file"),
        (("detect", base, "--corpus", "embedded", "-o", tmp_path / "s"), 1, "is a GGUF file. Use the safetensors"),
        (("inspect", tmp_path / "gone.gguf"), 1, "there is no file"),
        (("inspect", base, "--hashes"), 2, "--hashes goes with"),
    ):  # fmt: skip
        ended, shown, err = monoglot(*arguments)
        assert (ended, shown) == (code, ""), arguments
        assert message in err and "Traceback" not in err
    assert tree(tmp_path) == before


def test_a_file_that_was_changed(monoglot: Run, base: Path, out: Path) -> None:
    content = bytearray(out.read_bytes())
    content[-1] ^= 1
    out.write_bytes(content)
    code, shown, err = monoglot("verify", out)  # the base lies beside it
    assert code == 1 and shown == "bytes: 2 places are not as they should be\n"
    assert "Failed: blk.2.ffn_up.weight: 1 bytes are not as they should be" in err and "out.gguf is NOT what" in err
    assert "proved bytes FAILED" in words(monoglot("inspect", out)[1])
    assert "file of the size that its sidecar says" in words(monoglot("inspect", out)[1])
    assert "file NOT of the sha256 that its sidecar says" in words(monoglot("inspect", out, "--hashes")[1])


def test_inspect(monoglot: Run, base: Path, out: Path) -> None:
    text = words(monoglot("inspect", base)[1])
    assert text.startswith("model.gguf a GGUF file of the architecture llama, Tiny weights")
    assert "3 layers × 24 = 72 neurons, 256 wide; gated; rows of blk.*.ffn_up.weight (Q4_K)" in text
    assert "6 Q4_K" in text and "operations deactivate, exactly" in text and "made from" not in text
    for what in (out, out.with_name("out.gguf.json")):
        text = words(monoglot("inspect", what)[1])
        assert "made from model.gguf (sha256" in text and "French: deactivated; 4 neurons, 2 shared ones kept" in text
        assert "proved nothing yet: monoglot verify" in text
    found = json.loads(monoglot("inspect", out, "--json")[1])
    assert found["kind"] == "gguf" and found["types"]["Q4_K"] == 6 and found["made"]["edited"] == {"fr": 4}


def test_inspect_says_what_cannot_be_edited(monoglot: Run, tmp_path: Path) -> None:
    code, shown, _ = monoglot("inspect", ggufs.write(tmp_path / "m.gguf", "gpt2"))
    assert code == 0 and "cannot be edited" in shown and "it has no gate, or its layout is not known" in words(shown)
    code, shown, _ = monoglot("inspect", ggufs.write(tmp_path / "m.gguf", keys={"general.name": "a\x1b[31m\u202e"}))
    assert code == 0 and not {"\x1b", "\u202e"} & set(shown)


SLOW = """
import sys, time
from monoglot.editor.gguf import bake as gguf_bake
from monoglot.cli.main import main
work = gguf_bake._copy_piece
gguf_bake.PIECE = 1000
def slow(*arguments):
    work(*arguments)
    if arguments[2] > 5000:
        print("half", flush=True)
        time.sleep(60)
gguf_bake._copy_piece = slow
main()
"""


@pytest.mark.parametrize("force", [False, True])
def test_killed_in_mid_write(monoglot: Run, base: Path, neurons_file: Path, tmp_path: Path, force: bool) -> None:
    place = tmp_path / "place"
    place.mkdir()
    arguments = ("bake", base, neurons_file, "--deactivate", "zh", "-o", place / "out.gguf", *["--force"] * force)
    if force:
        assert monoglot("bake", base, neurons_file, *EDIT, "-o", place / "out.gguf")[0] == 0
    before = tree(place)
    command = [sys.executable, "-c", SLOW, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None and running.stdout.readline() == b"half\n"
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    left = tree(place)
    assert {name: left[name] for name in before} == before
    assert any(name.startswith(".out.gguf.partial-") for name in left), "the test could not fail"
    assert monoglot(*arguments)[0] == 0
    assert sorted(tree(place)) == ["out.gguf", "out.gguf.json"]
    assert monoglot("verify", place / "out.gguf", "--base", base)[0] == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(base: Path, neurons_file: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C, or a job that is stopped: nothing stays, nothing is said but that."""
    place = tmp_path / "place"
    arguments = ("bake", base, neurons_file, *EDIT, "-o", place / "out.gguf")
    code = SLOW.replace("time.sleep(60)", "time.sleep(0.5)")
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}) as running:
        assert running.stdout is not None and running.stdout.readline() == b"half\n"
        time.sleep(0.05)
        running.send_signal(how)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and err.decode().splitlines()[-1].startswith("Interrupted.")
    assert b"Traceback" not in err and not place.exists()
