"""mypy over the packages under their installed names.

The folders `editor`, `cli`, `cards` are the packages `monoglot.editor`, …; links in a temporary folder give mypy the tree
as it is installed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

with tempfile.TemporaryDirectory() as scratch:
    package = Path(scratch) / "monoglot"
    package.mkdir()
    for name in ("editor", "cli", "cards"):
        (package / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "monoglot"]
    environment = {**os.environ, "MYPYPATH": scratch}
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)
