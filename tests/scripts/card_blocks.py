"""Runs what the card of a checkpoint says under "Use it", as it stands there, and prints the answers: `make card-blocks`.

Only the lines that install something are left out, as each runtime is in an environment of its own, given by the folder of
its executables; a runtime that is not given is left out too. `MODEL` and `FOLDER` become the checkpoint's folder.

    python tests/card_blocks.py FOLDER --vllm BIN --llama BIN
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"\b(MODEL|FOLDER)\b")
RUNTIME_OF = {"vllm": "vllm", "curl": "vllm", "gguf": "llama", "transformers": "transformers"}  # by what it names
HEALTH = "http://localhost:8000/health"
PATIENCE = 300  # seconds for a server to come up


def blocks(card: str) -> list[tuple[str, str, str]]:
    """(runtime, language, code) of each block under "Use it"."""
    section = card.split("\n## Use it\n")[1].split("\n## ")[0]
    found = []
    for language, code in BLOCK.findall(section):
        runtime = next(runtime for name, runtime in RUNTIME_OF.items() if name in code)
        found.append((runtime, language, code))
    return found


def command(language: str, code: str, folder: Path) -> list[str]:
    """What runs a block with the environment's own PATH."""
    code = PLACEHOLDER.sub(str(folder), re.sub(r"^pip install .*\n", "", code, flags=re.MULTILINE))
    return ["python", "-c", code] if language == "python" else ["bash", "-e", "-c", code]


def up() -> bool:
    try:
        with urllib.request.urlopen(HEALTH, timeout=2) as reply:  # an address of our own
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def served(servers: list[list[str]], place: Path, environment: dict[str, str]) -> Iterator[None]:
    """While the first of these commands that comes up runs, in the foreground as they do."""
    if up():
        sys.exit(f"{HEALTH} answers already: stop the server that runs there.")
    log = place / "server.log"
    for arguments in servers:
        with log.open("wb") as out:
            server = subprocess.Popen(
                arguments, cwd=place, env=environment, stdout=out, stderr=out, start_new_session=True
            )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while server.poll() is None and time.monotonic() < deadline and not up():
                time.sleep(2)
            if up():
                print(f"--- server\n{arguments[-1].strip()}", flush=True)
                yield
                return
        finally:
            for end in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):  # it may have ended by itself
                    os.killpg(server.pid, end)
                with suppress(subprocess.TimeoutExpired):
                    server.wait(30)
        said = log.read_text(errors="replace").strip()
        print(f"--- server, did not come up\n{arguments[-1].strip()}\n{said[-500:]}", flush=True)
    sys.exit("no server came up.")


def ask(runtime: str, arguments: list[str], place: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(arguments, cwd=place, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the block for {runtime} failed:\n{arguments[-1]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    said = done.stdout
    if arguments[-1].startswith("curl"):
        reply = json.loads(said)
        if "choices" not in reply:
            sys.exit(f"the block for {runtime} was answered with {said}")
        said = reply["choices"][0]["text"]
    elif "--outfile" in arguments[-1]:
        said = f"{place / 'model.gguf'}: {(place / 'model.gguf').stat().st_size:,} bytes"
    if not said.strip():
        sys.exit(f"the block for {runtime} printed nothing:\n{arguments[-1]}")
    print(f"--- {runtime}\n{said.strip()}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--vllm", type=Path, metavar="BIN")
    options.add_argument("--llama", type=Path, metavar="BIN")
    given = options.parse_args()
    folder = given.folder.resolve()
    places = {"transformers": Path(sys.executable).parent, "vllm": given.vllm, "llama": given.llama}
    servers: list[list[str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for runtime, language, code in blocks((folder / "README.md").read_text(encoding="utf-8")):
            if not (bin_folder := places[runtime]):
                print(f"--- {runtime}: not given", flush=True)
                continue
            environment = {
                **os.environ, "PATH": f"{bin_folder.absolute()}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1",
                "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
            }  # fmt: skip
            arguments = command(language, code, folder)
            if runtime == "vllm" and not code.startswith("curl"):
                servers.append(arguments)
            elif runtime == "vllm":
                with served(servers, Path(scratch), environment):
                    ask(runtime, arguments, Path(scratch), environment)
            else:
                ask(runtime, arguments, Path(scratch), environment)


if __name__ == "__main__":
    main()
