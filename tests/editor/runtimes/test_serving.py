"""A server that is started, asked and ended: with a stand-in for the interpreter of an environment that has vLLM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monoglot.editor.errors import LateError, RunError
from monoglot.editor.measures.engine import Sampling, ask_engine, open_engine
from monoglot.editor.runtimes.adapters import serve
from monoglot.editor.runtimes.serving import serving

SERVER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
if sys.argv[3] == "probe":
    print(json.dumps({"version": "9.9", "missing": []}))
    sys.exit()
arguments = sys.argv[5:]
given = dict(zip(arguments, arguments[1:] + [""]))
LOOK
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *more): pass
    def send(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/health": return self.send({})
        if self.path == "/version": return self.send({"version": "9.9"})
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]: return self.send({}, 401)
        self.send({"data": [{"id": given["--served-model-name"], "owned_by": "vllm"}]})
    def do_POST(self):
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]: return self.send({}, 401)
        self.rfile.read(int(self.headers["Content-Length"]))
        files = sorted(os.listdir(given["--model"]))
        self.send({"choices": [{"text": json.dumps([arguments, files, sorted(os.environ), os.getpid()])}]})
HTTPServer((given["--host"], int(given["--port"])), Handler).serve_forever()
"""


def environment(folder: Path, look: str = "") -> str:
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\n{SERVER.replace('LOOK', look)}")
    program.chmod(0o755)
    return str(program)


def test_what_it_is_given(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint without code, no secrets, and a key of its own, which is in no argument."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    asked = Sampling(5)
    with serving(model, python=environment(tmp_path), dtype="float32", tensor_parallel_size=2, context=99) as server:
        engine = open_engine(server.url, server.model, asked, key=server.key, dtype="float32")
        assert engine.about.to_data() == {"name": "vLLM", "version": "9.9", "dtype": "float32"}
        arguments, files, names, pid = json.loads(ask_engine(engine, ["x"], asked)[0])
    given = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    assert (given["--dtype"], given["--tensor-parallel-size"], given["--max-model-len"]) == ("float32", "2", "99")
    assert given["--host"] == "127.0.0.1" and given["--generation-config"] == "vllm" and server.key not in arguments
    assert "model.safetensors" in files and not any(name.endswith(".py") for name in files)
    assert "HF_TOKEN" not in names
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until it is collected
            os.kill(pid, 0)
            time.sleep(0.05)


def test_one_that_fails(model: Path, tmp_path: Path) -> None:
    broken = environment(tmp_path, 'sys.exit("torch.OutOfMemoryError: no room for the weights")')
    with (
        pytest.raises(RunError, match=r"vllm 9\.9 failed: torch\.OutOfMemoryError: no room"),
        serving(model, python=broken),
    ):
        pass


def test_one_that_never_answers(model: Path, tmp_path: Path) -> None:
    slow = environment(tmp_path, "time.sleep(99)")
    with pytest.raises(LateError, match="did not answer after 1 s"), serving(model, python=slow, timeout=1):
        pass


def test_one_that_is_not_installed(model: Path) -> None:
    with pytest.raises(RunError, match="vllm is not installed for"), serving(model, python=sys.executable):
        pass


def test_the_far_side_ends_with_its_host(tmp_path: Path) -> None:
    """It runs a module as a program; and a closed pipe ends all of it."""
    (tmp_path / "sleeper.py").write_text("import time, sys\nprint(sys.argv, flush=True)\ntime.sleep(99)\n")
    read, write = os.pipe()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[0] = {serve.__file__!r}; import runpy; "
    code += f"runpy.run_path({serve.__file__!r}, run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(read), "sleeper", "a"], pass_fds=(read,), stdout=subprocess.PIPE,
        start_new_session=True, text=True,
    ) as started:  # fmt: skip
        assert started.stdout and "'a'" in started.stdout.readline()
        os.close(write)
        assert started.wait(10) == -signal.SIGKILL
    os.close(read)
