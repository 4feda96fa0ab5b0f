"""A stand-in for an environment in which a runtime is installed: an interpreter that does what a test says."""

import json
import sys
from pathlib import Path

READY = {"version": "1.0", "missing": []}


def environment(folder: Path, answer: str, probe: object = READY) -> str:
    """An interpreter whose runtime does what the Python text `answer` says, with `request` and `write` at hand."""
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, signal, subprocess, sys, time\n"
        "if sys.argv[3] == 'probe':\n"
        f"    print({json.dumps(json.dumps(probe))})\n"
        "    sys.exit()\n"
        "request = json.load(open(sys.argv[4]))\n"
        "def write(answers):\n"
        "    with open(request['answers'], 'w') as file:\n"
        "        json.dump({'version': '1.0', 'answers': answers}, file)\n"
        f"{answer}\n"
    )
    program.chmod(0o755)
    return str(program)
