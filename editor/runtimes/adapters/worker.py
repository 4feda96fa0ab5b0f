"""The far side: runs in a runtime's own environment, which need not have monoglot.

    PYTHON -I worker.py probe NAME          the versions of what the runtime takes, as JSON on stdout
    PYTHON -I worker.py answer REQUEST FD   {"runtime", "folder", "scratch", "prompts", "tokens", "answers"}: writes the
                                            answers, {"version", "answers": [[ids, log-probabilities or null], …]}
    PYTHON -I worker.py call REQUEST FD     {"runtime", "function", "answers", …}: writes what that function of the
                                            runtime's module makes of the request

Whatever runtimes print goes where it goes; the answers go to a file. FD is the reading end of a pipe: once the host is gone,
however it ended, nobody holds the other end, and what runs here ends too.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def runtimes() -> Any:
    """Import the package around this file under a name of its own, whether or not monoglot is installed here."""
    folder = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        "monoglot_runtimes", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not the package of runtimes")
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)
    return package


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def probe(name: str) -> dict[str, Any]:
    """Return {"version": of the runtime, or None, "missing": other packages that it needs and that are not there}."""
    runtime = runtimes().module(name)
    found = next((one for one in map(version, runtime.PACKAGES) if one), None)
    missing = [distribution for distribution in runtime.NEEDS if version(distribution) is None]
    return {"version": found, "missing": missing}


def refuse_code(folder: Path) -> None:
    """Let no Python file run that lies in a model's folder, or where transformers copies a model's code to.

    Python tells of code before it runs it. This also keeps monoglot honest: were a model's code ever handed on by mistake,
    the run would fail.
    """
    copies = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "modules"
    places = tuple(f"{os.path.realpath(place)}{os.sep}" for place in (folder, copies))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "exec" and hasattr(arguments[0], "co_filename"):
            file = os.path.realpath(arguments[0].co_filename)
            if file.startswith(places):
                raise ImportError(f"code that a model brings is not run ({Path(file).name})")

    sys.addaudithook(hook)


def answer(request: dict[str, Any]) -> None:
    refuse_code(Path(request["folder"]))
    runtime = runtimes().module(request["runtime"])
    ask = runtime.load(Path(request["folder"]), Path(request["scratch"]))
    answers = [ask(prompt, request["tokens"]) for prompt in request["prompts"]]
    Path(request["answers"]).write_text(
        json.dumps({"version": probe(request["runtime"])["version"], "answers": answers})
    )


def call(request: dict[str, Any]) -> None:
    if "folder" in request:
        refuse_code(Path(request["folder"]))
    made = getattr(runtimes().module(request["runtime"]), request["function"])(request)
    Path(request["answers"]).write_text(json.dumps(made))


def end_with_host(fd: int) -> None:
    """Wait for the host's end; then end this process and all that it started, which are a group of their own."""
    os.set_inheritable(fd, False)

    def wait() -> None:
        while os.read(fd, 1):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    if sys.argv[1] == "probe":
        print(json.dumps(probe(sys.argv[2])))
    else:
        end_with_host(int(sys.argv[3]))
        {"answer": answer, "call": call}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # the answers are written: what a runtime does on its way out (threads, servers) is no matter


if __name__ == "__main__":
    main()
