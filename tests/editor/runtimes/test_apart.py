"""What a runtime is given: no code of a checkpoint, and no secrets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.stand_in import environment

from monoglot.editor.errors import RunError
from monoglot.editor.runtimes import apart, process

PROMPT = {"ids": [0, 7, 9], "text": "x"}
SECRETS = {
    "HF_TOKEN": "x", "HUGGING_FACE_HUB_TOKEN": "x", "AWS_ACCESS_KEY_ID": "x", "AWS_PROFILE": "x", "GITHUB_TOKEN": "x",
    "MY_PASSWORD": "x", "OPENAI_API_KEY": "x", "VLLM_API_KEY": "x", "LLAMA_API_KEY": "x", "CUDA_AUTH": "x",
    "VLLM_ADMIN_PASSWORD": "x", "SSH_AUTH_SOCK": "x", "PYTHONPATH": "x", "HTTPS_PROXY": "http://user:word@host",
}  # fmt: skip
NEEDED = {"PATH": "/bin", "LANG": "C", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1",
          "LD_LIBRARY_PATH": "/lib", "VLLM_CPU_KVCACHE_SPACE": "1", "TMPDIR": "/scratch"}  # fmt: skip


def with_code(model: Path, folder: Path, mark: Path) -> Path:
    """A copy of a model whose config and tokenizer name code that leaves a mark."""
    shutil.copytree(model, folder)
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
    for name, kind in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        data = json.loads((folder / name).read_text())
        named = {
            kind: ["evil.Evil", None] if kind == "AutoTokenizer" else "evil.Evil"
        }  # as transformers 4 and 5 read it
        nested = {"part": {"auto_map": named, "kept": [{"auto_map": 1, "x": 2}]}}
        (folder / name).write_text(json.dumps({**data, "auto_map": named, **nested}))
    return folder


def test_the_environment_has_what_is_needed_and_no_secrets(tmp_path: Path) -> None:
    found = apart.environment(tmp_path, {**SECRETS, **NEEDED, "HOME": "/home/somebody"})
    assert NEEDED.items() <= found.items() and not SECRETS.keys() & found.keys()
    assert Path(found["HOME"]).is_dir() and not list(Path(found["HOME"]).iterdir())
    assert set(found) - NEEDED.keys() == {
        "HOME", "HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    }  # fmt: skip


def test_the_view_holds_the_model_and_no_code(model: Path, tmp_path: Path) -> None:
    folder = with_code(model, tmp_path / "evil", tmp_path / "mark")
    (folder / "training.log").write_text("x")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    made = apart.view(folder, tmp_path / "view" / "evil")
    names = {path.name for path in made.iterdir()}
    plain = {path.name for path in model.iterdir()}
    assert names == (plain | {"README.md"}) - {"evil.py", "training.log", "pytorch_model.bin"}
    for name in names:
        assert (made / name).is_symlink() == (name not in ("config.json", "tokenizer_config.json"))
    config = json.loads((made / "config.json").read_text())
    assert config == {**json.loads((model / "config.json").read_text()), "part": {"kept": [{"x": 2}]}}
    assert "auto_map" in (folder / "config.json").read_text()  # the model itself is as it was


def test_a_word_of_a_vocabulary_is_no_key(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "vocab.json").write_text('{"auto_map": 5}')
    assert "auto_map" in (apart.view(folder, tmp_path / "view") / "vocab.json").read_text()


def test_a_key_in_escapes_is_seen(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"\\u0061uto_map": 5}')
    assert json.loads((apart.view(folder, tmp_path / "view") / "generation_config.json").read_text()) == {}


def test_a_card_that_is_a_bomb_stays_behind(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "README.md").write_text("---\na: [\n---\n")
    assert not (apart.view(folder, tmp_path / "view") / "README.md").exists()


def test_what_is_no_checkpoint_is_not_given_to_a_runtime(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not given to a runtime"):
        process.answer("vllm", tmp_path, [PROMPT], 4, python=environment(tmp_path, "write([])"))


def test_a_worker_has_neither_the_token_nor_the_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    folder = with_code(model, tmp_path / "evil", tmp_path / "mark")
    told = (
        'seen = [dict(os.environ), request["folder"], sorted(os.listdir(request["folder"]))]\n'
        'json.dump(seen, open(request["answers"], "w"))'
    )
    seen, place, names = process.call("llama.cpp", "write", {"folder": str(folder)}, python=environment(tmp_path, told))
    assert not SECRETS.keys() & seen.keys() and seen["HOME"] != os.environ.get("HOME")
    assert Path(place).name == "evil" and place != str(folder) and "evil.py" not in names


def test_transformers_that_trusts_code_runs_none(model: Path, tmp_path: Path) -> None:
    """A converter trusts remote code of its own accord; the worker refuses to run it even where it lies there."""
    mark = tmp_path / "mark"
    folder = with_code(model, tmp_path / "evil", mark)
    shutil.copytree(process.WORKER.parent, tmp_path / "runtimes")
    (tmp_path / "runtimes" / "transformers.py").write_text(
        "PACKAGES, NEEDS = ('transformers',), ()\n"
        "def trusting(request):\n"
        "    from transformers import AutoTokenizer\n"
        "    tokenizer = AutoTokenizer.from_pretrained(request['folder'], trust_remote_code=True)\n"
        "    return type(tokenizer).__name__\n"
    )
    worker = tmp_path / "runtimes" / "worker.py"
    given = {"runtime": "transformers", "function": "trusting", "answers": str(tmp_path / "answers")}

    def run(place: Path) -> subprocess.CompletedProcess[str]:
        (tmp_path / "request").write_text(json.dumps({**given, "folder": str(place)}))
        read, write = os.pipe()
        try:
            return subprocess.run(
                [sys.executable, "-I", str(worker), "call", str(tmp_path / "request"), str(read)],
                capture_output=True, text=True, pass_fds=(read,), env=apart.environment(tmp_path),
            )  # fmt: skip
        finally:
            os.close(read)
            os.close(write)

    refused = run(folder)
    assert refused.returncode and "code that a model brings is not run (evil.py)" in refused.stderr
    done = run(apart.view(folder, tmp_path / "view"))
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
