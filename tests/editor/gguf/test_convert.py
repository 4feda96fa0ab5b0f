"""Converting to GGUF: what is written and when not, and whether the steering is said to have survived. The converter and
llama.cpp are stand-ins here; `make runtimes-short` runs the real ones."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import folders, ggufs
from support.checkpoints import baked
from support.folders import tree
from support.stand_in import environment

from monoglot.editor import progress
from monoglot.editor.edits import manifest
from monoglot.editor.errors import MonoglotError, OutputError, RunError, VerificationError
from monoglot.editor.gguf import convert, converted

Run = Callable[..., tuple[int, str, str]]
PROMPTS = {"en": ["The fox"], "zh": ["敏捷的"]}
# Writes what it was asked for; answers with the tokens of a text in Chinese, or, for the quantised file, of another
STAND_IN = """
if request.get("function") == "write":
    open(request["file"], "wb").write(f"GGUF {request['type']}".encode())
    done = None
else:
    quantised = open(request["file"], "rb").read() != b"GGUF f32"
    own = %s if quantised else %s
    follow = request["follow"] or [own] * len(request["prompts"])
    steps = [{"1": -0.1, "2": -2.5 - 0.5 * quantised} for answer in follow for _ in answer]
    done = {"answers": [own] * len(request["prompts"]), "steps": steps}
    open(request["done"], "wb").write(b"." * len(request["prompts"]))
    time.sleep(0.7)
json.dump(done, open(request["answers"], "w"))
"""


@pytest.fixture
def out(tmp_path: Path, model: Path, neurons_file: Path) -> Path:
    return baked(tmp_path / "out", model, neurons_file)


def ids(folder: Path, text: str) -> list[int]:
    from monoglot.editor.models.hf import load_tokenizer

    found: list[int] = load_tokenizer(folder)(text)["input_ids"]
    return found


def stand_in(folder: Path, out: Path, quantised: str, whole: str) -> str:
    folder.mkdir()
    return environment(folder, STAND_IN % (ids(out, quantised), ids(out, whole)))


ENGLISH = "The quick brown fox jumps over the lazy dog while the old farmer looks at the evening sky."
CHINESE = "敏捷的棕色狐狸跳过了懒狗，老农夫看着傍晚的天空微笑着。"


def test_without_quantising_it_is_the_converter_s_file_and_what_it_is_made_from(out: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    made = convert.convert(out, tmp_path / "m.gguf", python=python)
    assert made.file.read_bytes() == b"GGUF f32" and (made.type, made.survival) == ("f32", None)
    about = json.loads((tmp_path / "m.gguf.convert.json").read_text())
    assert about["format"] == manifest.FORMAT and about["checkpoint"]["recipe"] == folders.manifest_data(out)["recipe"]
    assert about["file"] == {"sha256": hashlib.sha256(b"GGUF f32").hexdigest(), "size": 8}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "m.gguf", "m.gguf.convert.json", "out"]


@pytest.mark.parametrize("name", ["plain.gguf", "unquantised-m.gguf"])
def test_a_file_may_be_called_as_what_it_is_made_of(out: Path, tmp_path: Path, name: str) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    convert.convert(out, tmp_path / name, python=python, quantise="q8_0", prompts=PROMPTS)
    assert (tmp_path / name).read_bytes() == b"GGUF q8_0"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["env", name, f"{name}.convert.json", "out"])


@pytest.mark.slow
@pytest.mark.parametrize(("quantised", "faded"), [(ENGLISH, False), (CHINESE, True)])
def test_a_language_that_comes_back_has_faded(out: Path, tmp_path: Path, quantised: str, faded: bool) -> None:
    python = stand_in(tmp_path / "env", out, quantised, ENGLISH)
    heard: list[tuple[str, int, int]] = []
    stage = progress.stages(lambda *one: heard.append(one))
    found = convert.convert(
        out, tmp_path / "m.gguf", python=python, quantise="q8_0", prompts=PROMPTS, stage=stage
    ).survival
    assert found is not None and found.wanted == "deactivated" and found.faded == faded
    assert set(heard) >= {("llama.cpp unquantised", 2, 4), ("llama.cpp quantised", 4, 4)}
    assert heard == sorted(heard, key=lambda one: one[1])
    assert found.shares == {"zh": (0.0, 1.0 if faded else 0.0)}
    assert found.positions == 2 * len(ids(out, ENGLISH)) and found.kl > 0
    assert (tmp_path / "m.gguf").read_bytes() == b"GGUF q8_0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "m.gguf", "m.gguf.convert.json", "out"]
    assert json.loads((tmp_path / "m.gguf.convert.json").read_text())["survival"]["faded"] == faded


@pytest.mark.slow
def test_the_converter_s_file_is_watched_as_it_grows(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the sizes that are forecast each is that of the checkpoint's weights by the bits of a weight."""
    (tmp_path / "env").mkdir()
    grows = "done = None\n    open(request['file'], 'ab').write(b'.' * 3_000_000)\n    time.sleep(1.2)"
    code = STAND_IN.replace("done = None", grows) % (ids(out, ENGLISH), ids(out, ENGLISH))
    python = environment(tmp_path / "env", code)
    monkeypatch.setattr(convert, "compare", lambda *_, **__: convert.Survival("activated", {}, 0.0, 1, ()))
    heard: list[tuple[str, int, int]] = []
    stage = progress.stages(lambda *one: heard.append(one))
    convert.convert(out, tmp_path / "m.gguf", python=python, quantise="q8_0", prompts=PROMPTS, stage=stage)
    size = sum(path.stat().st_size for path in out.glob("*.safetensors")) // 10**6
    assert set(heard) == {
        ("convert f32", 3, max(3, size)),
        ("convert q8_0", 3, max(3, round(size * 8.5 / 32))),
    }


def test_of_an_activated_language_the_answers_to_prompts_in_others_count(out: Path, tmp_path: Path) -> None:
    record = folders.manifest_data(out)
    counts = {"edited": {"zh": 5, "en": 5}, "kept": {"zh": 0, "en": 0}}
    edits = [{"language": "zh", "op": "pin", "value": "mean"}, {"language": "en", "op": "pin", "value": "mean@zh"}]
    folders.write_manifest(out, {**record, "recipe": {**record["recipe"], "edits": edits}, **counts})
    python = stand_in(tmp_path / "env", out, ENGLISH, CHINESE)
    found = convert.convert(out, tmp_path / "m.gguf", python=python, quantise="q8_0", prompts=PROMPTS).survival
    assert found is not None and (found.wanted, found.shares) == ("activated", {"en": (1.0, 0.0)}) and found.faded


def test_an_activated_language_fades_when_answers_leave_it() -> None:
    def survival(before: float, after: float) -> convert.Survival:
        return convert.Survival("activated", {"en": (before, after), "fr": (before, after)}, 0.0, 1, ())

    assert survival(0.9, 0.7).faded and not survival(0.9, 0.8).faded and not survival(0.5, 0.9).faded


def test_other_types_are_made_by_the_quantizer(out: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    program = tmp_path / "quantizer"
    program.write_text('#!/bin/sh\n[ "$(cat "$1")" = "GGUF f32" ] && printf %s "$3" > "$2"\n')
    program.chmod(0o755)
    given = {"python": python, "quantise": "q4_k_m", "prompts": PROMPTS}
    convert.convert(out, tmp_path / "m.gguf", quantizer=str(program), **given)
    assert (tmp_path / "m.gguf").read_bytes() == b"Q4_K_M"
    before = tree(tmp_path)
    program.write_text("#!/bin/sh\necho 'no such type' >&2\nexit 1\n")
    with pytest.raises(RunError, match="quantizer failed: no such type"):
        convert.convert(out, tmp_path / "n.gguf", quantizer=str(program), **given)
    with pytest.raises(RunError, match=r"no program nowhere.*llama\.cpp"):
        convert.convert(out, tmp_path / "n.gguf", quantizer="nowhere", **given)
    program.write_text('#!/bin/sh\n[ "$(cat "$1")" = "GGUF f32" ] && printf %s "$3" > "$2"\n')
    after = tree(tmp_path)
    assert {k: v for k, v in after.items() if k != "quantizer"} == {k: v for k, v in before.items() if k != "quantizer"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("sys.exit('NotImplementedError: BPE pre-tokenizer was not recognized')", "failed: NotImplementedError: BPE"),
        ("json.dump(None, open(request['answers'], 'w'))", "converter wrote no"),
    ],
)
def test_a_converter_that_fails_leaves_nothing(out: Path, tmp_path: Path, answer: str, said: str) -> None:
    (tmp_path / "env").mkdir()
    with pytest.raises(RunError, match=said):
        convert.convert(out, tmp_path / "m.gguf", python=environment(tmp_path / "env", answer))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "out"]


def test_what_a_file_was_converted_from_is_known_to_the_others(
    monoglot: Run, out: Path, neurons_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "m.gguf"
    ggufs.write(file)
    record = folders.manifest_data(out)
    about = {
        "format": 1,
        "monoglot": "0",
        "checkpoint": {"base": record["base"], "recipe": record["recipe"]},
        "type": "q8_0",
        "file": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "size": file.stat().st_size},
        "survival": {"wanted": "deactivated", "shares": {}, "kl": 0.01, "positions": 9, "faded": False},
    }
    place = converted.beside(file)
    place.write_text(json.dumps(about))
    for named in (file, place):
        code, shown, err = monoglot("inspect", named, "--hashes")
        assert code == 0 and "deactivate zh" in shown and "survives" in shown and "NOT" not in shown, err
    code, _, err = monoglot("verify", file)
    assert code == 1 and "was converted from a checkpoint" in err
    baked = ("bake", file, neurons_file, "--deactivate", "fr", "-o")
    code, _, err = monoglot(*baked, tmp_path / "again.gguf")
    assert code == 0 and "edits of its own: deactivate zh" in " ".join(err.split()), err
    assert "can't be proved" not in err
    foreign = {**record["base"], "fingerprint": "another"}
    place.write_text(json.dumps({**about, "checkpoint": {**about["checkpoint"], "base": foreign}}))
    assert "Warning: the neurons are" in monoglot(*baked, tmp_path / "other.gguf")[2]
    about["file"]["sha256"] = "0" * 64
    place.write_text(json.dumps(about))
    assert "NOT of the sha256" in monoglot("inspect", file, "--hashes")[1]
    for broken in ("[]", "{}", "{", json.dumps({**about, "file": 3}), json.dumps({**about, "checkpoint": {}})):
        place.write_text(broken)
        code, _, err = monoglot("inspect", file)
        assert code == 1 and place.name in err


def test_a_checkpoint_that_is_not_what_was_baked_is_not_converted(out: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    with pytest.raises(OutputError, match="lies in the checkpoint itself"):
        convert.convert(out, out / "m.gguf", python=python)
    weights = out / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(VerificationError, match="is not what was baked: model"):
        convert.convert(out, tmp_path / "m.gguf", python=python)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "out"]


def test_the_folder_one_stands_in(monoglot: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    monkeypatch.chdir(out)
    code, _, err = monoglot("convert", ".", "--python", python)
    assert code == 0 and (tmp_path / "out.gguf").is_file(), err


def test_what_is_there_is_replaced_only_when_asked_and_only_its_own(out: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    place = tmp_path / "m.gguf"
    place.write_bytes(b"mine")
    for force, said in ((False, "exists"), (True, "was not made by")):
        with pytest.raises(OutputError, match=said):
            convert.convert(out, place, python=python, force=force)
    assert place.read_bytes() == b"mine"
    place.unlink()
    convert.convert(out, place, python=python)
    convert.convert(out, place, python=python, force=True)
    assert place.read_bytes() == b"GGUF f32"


def test_prompts_that_say_nothing_are_refused(out: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path / "env", out, ENGLISH, ENGLISH)
    with pytest.raises(VerificationError, match=r"no prompts that would tell .*\(en\)"):
        convert.convert(out, tmp_path / "m.gguf", python=python, quantise="q8_0", prompts={"en": ["The fox"]})
    assert not (tmp_path / "m.gguf").exists()


def test_only_checkpoints_of_monoglot_s_are_converted(model: Path, tmp_path: Path) -> None:
    with pytest.raises(MonoglotError, match="not made by monoglot"):
        convert.convert(model, tmp_path / "m.gguf", python="python")


def test_the_divergence_is_that_of_the_known_tokens_and_the_rest() -> None:
    whole_p, whole_q = [0.5, 0.3, 0.15, 0.05], [0.4, 0.4, 0.1, 0.1]
    p, q = ({str(n): math.log(x) for n, x in enumerate(one)} for one in (whole_p, whole_q))
    exact = sum(a * math.log(a / b) for a, b in zip(whole_p, whole_q, strict=True))
    assert convert.divergence(p, q) == pytest.approx(exact, abs=1e-9)
    few = {token: value for token, value in q.items() if token in ("0", "2")}
    by_hand = 0.5 * math.log(0.5 / 0.4) + 0.15 * math.log(0.15 / 0.1) + 0.35 * math.log(0.35 / 0.5)
    assert convert.divergence(p, few) == pytest.approx(by_hand) and by_hand <= exact
    assert convert.divergence(p, p) == pytest.approx(0, abs=1e-9)


def test_the_command(monoglot: Run, out: Path, tmp_path: Path) -> None:
    python = stand_in(tmp_path / "env", out, CHINESE, ENGLISH)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"language": "zh", "prompt": "敏捷的"}\n')
    code, shown, err = monoglot("convert", out, "--quantize", "Q8_0", "--python", python, "--prompts", prompts)
    assert code == 0 and "100%" in shown and "Warning: the steering fades in q8_0" in err
    assert (tmp_path / "out-q8_0.gguf").is_file()
    code, shown, _ = monoglot("convert", out, "--python", f"llama.cpp={python}", "--json")
    assert code == 0 and json.loads(shown)["type"] == "f32" and (tmp_path / "out.gguf").is_file()
    for options, wanted, said in (
        (("--quantize", "q9"), 2, "one of f32, f16"),
        (("--quantizer", "x"), 2, "--quantizer goes with --quantize"),
        (("--prompts", prompts), 2, "--prompts goes with --quantize"),
        (("-o", tmp_path / "x.bin"), 2, "name an OUT.gguf"),
        (("--python", "nowhere"), 1, "no Python at nowhere"),
        (("--quantize", "q4_k_m", "--quantizer", "nowhere", "--python", python), 1, "no program nowhere"),
    ):
        code, _, err = monoglot("convert", out, *options)
        assert (code, said in err) == (wanted, True), err
    shutil.rmtree(out)
    code, _, err = monoglot("convert", out, "--python", python)
    assert code == 1 and "there is no folder" in err
