"""A server of vLLM's own for one checkpoint, on this machine, for as long as it is asked.

It runs in a Python environment of its own, as every runtime does: given a folder without code and an environment without
secrets (see `apart`). It listens to this machine alone, and to whoever has a key that is drawn for it. Nothing of the
checkpoint's generation config is used: what is asked for is all that counts.
"""

import contextlib
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import LateError, RunError
from . import apart
from .process import end, lifeline, probe, reason

NAME = "vllm"
FAR_SIDE = Path(__file__).with_name("adapters") / "serve.py"
SERVER = "vllm.entrypoints.openai.api_server"
TIMEOUT = 1800.0  # seconds until it answers: a large model is read from disk
LOOK = 0.5  # seconds between looks at whether it does
KEY = "VLLM_API_KEY"


@dataclass(frozen=True)
class Server:
    """Where a checkpoint is served, under which name, and the key that opens it."""

    url: str
    model: str
    key: str
    version: str


@contextlib.contextmanager
def serving(
    folder: Path,
    *,
    python: str,
    dtype: str = "auto",
    tensor_parallel_size: int = 1,
    context: int | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[Server]:
    """Serve a checkpoint with vLLM while the block runs, on so many GPUs.

    `context` is the longest prompt with its answer, in tokens. Raises RunError when vLLM is not installed for `python`, or
    ends with an error, LateError when it takes too long.
    """
    installed = probe(NAME, python)
    if not installed.ready:
        raise RunError(installed.advice)
    key, port = secrets.token_urlsafe(24), _free_port()
    with tempfile.TemporaryDirectory(prefix="monoglot-") as scratch:
        view = apart.view(folder, Path(scratch, "model", folder.resolve().name or "model"))
        log = Path(scratch, "log")
        command = [
            SERVER, "--model", str(view), "--served-model-name", view.name, "--host", "127.0.0.1", "--port",
            str(port), "--dtype", dtype, "--tensor-parallel-size", str(tensor_parallel_size), "--generation-config", "vllm",
            "--enforce-eager",
        ]  # fmt: skip  # nothing is compiled: the run is short
        if context:
            command += ["--max-model-len", str(context)]
        environment = {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GB, where there is no GPU
            "VLLM_NO_USAGE_STATS": "1",
            **apart.environment(Path(scratch)),
            KEY: key,
        }
        with log.open("wb") as output, lifeline() as fd:
            process = subprocess.Popen(
                [python, "-I", str(FAR_SIDE), str(fd), *command], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd=scratch, start_new_session=True, env=environment, pass_fds=(fd,),
            )  # fmt: skip
            try:
                _wait(process, f"http://127.0.0.1:{port}/health", installed.version or "", log, timeout)
                yield Server(f"http://127.0.0.1:{port}/v1", view.name, key, installed.version or "")
            finally:
                end(process)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", url: str, version: str, log: Path, timeout: float) -> None:
    """Wait until the server answers. Raises RunError, with the reason in its log, when it ends instead."""
    until = time.monotonic() + timeout
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        if (code := process.poll()) is not None:
            raise RunError(f"{NAME} {version} failed: {reason(code, log)}")
        with contextlib.suppress(OSError, urllib.error.URLError), opener.open(url, timeout=5) as reply:
            if reply.status == 200:
                return
        if time.monotonic() > until:
            raise LateError(f"{NAME} did not answer after {timeout:.0f} s. See whether the model fits in its memory.")
        time.sleep(LOOK)
