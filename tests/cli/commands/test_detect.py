"""monoglot detect: as a command, divided among processes, and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import hub_layouts, tiny

from monoglot.editor.statistics import statistics

OPTIONS = ("--tokens", "600", "--context", "33", "--minimum", "100", "--device", "cpu", "--batch-size", "2")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def expected(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The statistics file of one undisturbed process."""
    path = tmp_path_factory.mktemp("expected") / "s.safetensors"
    start(model, corpus, path).communicate()
    return path.read_bytes()


def start(model: Path, corpus: Path, output: Path, *, before: str = "", torchrun: int = 0) -> subprocess.Popen[str]:
    """The command in a process of its own (one thread: what torchrun gives to each of several), `before` run first."""
    arguments = [
        "detect",
        str(model),
        "--corpus",
        str(corpus),
        *OPTIONS,
        "-o",
        str(output),
        "--quantiles",
        "--per-text",
        "--calibrate",
    ]
    if torchrun:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(torchrun),
            "-m", "monoglot.cli", *arguments,
        ]  # fmt: skip
    else:
        imports = (
            "from monoglot.editor.statistics import recorder as record, resume\nfrom monoglot.cli.main import main"
        )
        code = f"{imports}\n{before}\nmain()"
        command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_file_and_a_table(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "s.safetensors"
    code, out, err = monoglot("detect", model, "--corpus", corpus, *OPTIONS, "-o", output)
    assert code == 0, err
    found = statistics.load(output)
    assert found.tokens == {"en": 600, "fr": 600, "zh": 600}
    lines = out.splitlines()
    assert lines[0].strip() == "tiny: 3 layers × 24 neurons"
    for language in found.languages:
        assert [language, "600", f"{found.probability(language).mean():.3f}"] in [line.split() for line in lines]
    assert err == f"Wrote {output}.\n"
    assert [path.name for path in output.parent.iterdir()] == ["s.safetensors"]  # no progress is left


def test_what_is_recorded_on_request(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    plain, full, both = (tmp_path / name for name in ("plain", "full", "both"))
    arguments = ("detect", model, "--corpus", corpus, *OPTIONS)
    shown = monoglot(*arguments, "-o", plain, "--lean")[1]
    assert monoglot(*arguments, "-o", full, "--quantiles", "--per-text", "--calibrate")[:2] == (
        0,
        shown,
    )  # the same table
    found = statistics.load(full)
    assert found.per_text is not None
    assert found.per_text["fr"].shape == (18, 3, 24)  # 32 tokens a context are just enough, and the last has 24
    assert found.histogram is not None
    assert found.inputs is not None
    assert statistics.load(plain).inputs is None
    assert monoglot(*arguments, "--tokens", 500, "-o", plain, "--force")[0] == 0
    code, _, err = monoglot("detect", "--merge", plain, full, "-o", both)
    assert code == 0
    assert "Warning: only 1 of 2 statistics have histograms, so their sum has none." in err


def test_json_and_languages(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    code, out, err = monoglot(
        "detect", model, "--corpus", corpus, *OPTIONS, "-o", tmp_path / "s", "--languages", "zh,en", "--json"
    )
    assert code == 0, err
    assert json.loads(out) == {
        "model": statistics.load(tmp_path / "s").model.to_data(),
        "tokens": {"zh": 600, "en": 600},
    }


def test_a_mixture_as_the_hub_has_it(monoglot: Run, corpus: Path, tmp_path: Path) -> None:
    """Of each language, each layer with experts sees every token twice: the router sends a token to two of them."""
    tiny.need_5("experts run in one module from transformers 5 on")
    layout = hub_layouts.LAYOUTS["deepseek_v3"]
    saved = tiny.save_model(tmp_path / "saved", layout.model_type)
    model, out = hub_layouts.as_on_the_hub(saved, layout, tmp_path / "model"), tmp_path / "stats.safetensors"
    arguments = ("--tokens", "400", "--context", "64", "--minimum", "300", "-o", out)
    assert monoglot("detect", model, "--corpus", corpus, *arguments)[0] == 0
    found = statistics.load(out)
    assert found.routed is not None
    for language, tokens in found.tokens.items():
        sent = {0: 0, 1: 0, 2: 0}
        for block, count in zip(found.model.blocks, found.routed[language], strict=True):
            sent[block.layer] += int(count) if block.expert else 0
        assert sent == {0: 0, 1: 2 * tokens, 2: 2 * tokens}  # the first layer is dense


def test_what_is_there_is_not_replaced_unless_asked(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "s"
    output.write_text("mine")
    arguments = ("detect", model, "--corpus", corpus, *OPTIONS, "-o", output)
    code, out, err = monoglot(*arguments)
    assert (code, out) == (1, "")
    assert err == f"Error: {output} exists. Choose another name, or replace it with --force.\n"
    assert output.read_text() == "mine"
    assert monoglot(*arguments, "--force")[0] == 0
    assert statistics.load(output).tokens["en"] == 600


def test_a_destination_that_cannot_be_is_refused_first(
    monoglot: Run, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "monoglot.editor.statistics.detect.load_model", lambda *_, **__: pytest.fail("the model was built")
    )
    (tmp_path / "file").touch()
    for output, message in ((tmp_path, "is a folder"), (tmp_path / "file" / "s", "is not a folder, so")):
        code, _, err = monoglot("detect", model, "--corpus", corpus, "-o", output, "--force")
        assert code == 1
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "s", "--corpus", "c"), "Name one model"),
        (("m", "-o", "s"), "Name the text with --corpus"),
        (("m", "n", "-o", "s", "--corpus", "c"), "Name one model"),
        (("--merge", "a", "-o", "s", "--corpus", "c"), "reads no --corpus"),
        (("--merge", "a", "-o", "s", "--quantiles"), "--merge keeps what the files have"),
        (("--merge", "a", "-o", "s", "--calibrate"), "--merge keeps what the files have"),
        (("--merge", "a", "-o", "s", "--per-text"), "--merge keeps what the files have"),
        (("m", "-o", "s", "--corpus", "c", "--batch-size", "0"), "a whole number, or auto"),
        (("m", "-o", "s", "--corpus", "c", "--batch-size", "many"), "a whole number, or auto"),
        (("m", "-o", "s", "--corpus", "c", "--tokens", "0"), "not in the range"),
        (("m", "--corpus", "c"), "Missing option '-o'"),
    ],
)
def test_usage(monoglot: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
               message: str) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = monoglot("detect", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_mislabelled_text_is_warned_of(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    code, _, err = monoglot("detect", model, "--corpus", f"fr={corpus / 'en.txt'}", *OPTIONS, "-o", tmp_path / "s")
    assert code == 0
    assert "% of the fr text that is read (en.txt) seems to be in another language, mostly en." in err


def test_merge(monoglot: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    a, b, c, ab, cba = (tmp_path / name for name in ("a", "b", "c", "ab", "cba"))
    for path, tokens in ((a, 400), (b, 500), (c, 600)):
        assert monoglot("detect", model, "--corpus", corpus, *OPTIONS, "--tokens", tokens, "-o", path)[0] == 0
    code, out, _ = monoglot("detect", "--merge", a, b, "-o", ab)
    assert code == 0
    assert "900" in out
    assert monoglot("detect", "--merge", c, "--merge", ab, "-o", cba)[0] == 0
    assert monoglot("detect", "--merge", a, c, b, "-o", ab, "--force")[0] == 0
    assert ab.read_bytes() == cba.read_bytes()
    merged, parts = statistics.load(ab), [statistics.load(path) for path in (a, b, c)]
    for language in merged.languages:
        assert (merged.active_count[language] == sum(part.active_count[language] for part in parts)).all()
    code, _, err = monoglot("detect", "--merge", a, ab, "-o", tmp_path / "d")
    assert code == 1
    assert err.startswith("Error: the same en text is in two of the files")
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_two_processes_give_the_file_of_one(model: Path, corpus: Path, tmp_path: Path, expected: bytes) -> None:
    output = tmp_path / "s.safetensors"
    process = start(model, corpus, output, torchrun=2)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert output.read_bytes() == expected
    assert out.count("tiny: 3 layers × 24 neurons") == 1  # only one of them speaks
    assert err.count("Wrote") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


@pytest.mark.slow
def test_two_processes_say_once_what_is_wrong(model: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.safetensors"
    output.touch()
    process = start(model, corpus, output, torchrun=2)
    _, err = process.communicate()
    assert process.returncode != 0
    assert err.count(f"Error: {output} exists.") == 1
    assert output.read_bytes() == b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on(monoglot: Run, model: Path, corpus: Path, tmp_path: Path, expected: bytes) -> None:
    output, progress = tmp_path / "s.safetensors", tmp_path / ".s.safetensors.progress"
    slowly = (
        "import time\n"
        "resume.SAVE_SECONDS, commit = 0, record.Recorder.commit\n"
        "record.Recorder.commit = lambda self: (time.sleep(0.3), commit(self))"
    )
    process = start(model, corpus, output, before=slowly)
    until = time.monotonic() + 120
    while not progress.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert progress.is_file()
    assert not output.exists()
    from safetensors import safe_open

    with safe_open(progress, framework="numpy") as file:
        done = json.loads(file.metadata()["state"])["done"]
    assert 0 < sum(done.values()) < 60  # contexts

    counted = "record.Recorder.start = (lambda f: lambda *a: (print('batch'), f(*a)))(record.Recorder.start)"
    process = start(model, corpus, output, before=counted)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert output.read_bytes() == expected
    # 600 tokens are 18 contexts of 32 and a shorter one: nine pairs, then one
    assert out.count("batch\n") == 3 * 10 - sum(-(-contexts // 2) for contexts in done.values())
    assert not progress.exists()


def test_of_all_commands_it_alone_divides_its_work(
    monoglot: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one that torchrun starts twice says so once, before it looks at anything."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        found.append(monoglot("export", "nowhere", "-o", tmp_path / "out"))
    (code, out, err), other = found
    assert (code, out) == (2, "") and "`export` works in one process" in err and "`detect`" in err
    assert other == (0, "", "")
    monkeypatch.setenv("WORLD_SIZE", "1")
    code, _, err = monoglot("inspect", "nowhere")
    assert code == 1 and "nowhere" in err
