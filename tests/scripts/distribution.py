"""Builds the sdist, and the wheel from it, and runs both where there is no source tree: `make dist`.

Each has exactly the files that it should, and what is installed lies under `monoglot` alone. They are left in dist/.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
ROOMS = ("cards", "cli", "editor")
TORCH = "torch==2.13.0"  # first, as in the Makefile: which build of it is had must not hang on the order of a resolver
TOP = {
    "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "RELEASE.md",
    "SECURITY.md", "constraints-oldest.txt", "constraints.txt", "mkdocs.yml", "pyproject.toml",
}  # fmt: skip
MADE = {"PKG-INFO", "setup.cfg"}  # by setuptools, beside the folder monoglot.egg-info


def run(*command: str | Path, cwd: Path) -> str:
    """stdout of a command, which must not fail; it is shown when it does."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def files(folder: str) -> set[str]:
    """What lies in a folder of the source tree, by its path from the root."""
    below = (ROOT / folder).rglob("*")
    return {path.relative_to(ROOT).as_posix() for path in below if path.is_file() and path.parent.name != "__pycache__"}


def same(what: str, found: set[str], wanted: set[str]) -> None:
    if lacking := sorted(wanted - found):
        sys.exit(f"{what} lacks {', '.join(lacking)}. See pyproject.toml and MANIFEST.in.")
    if more := sorted(found - wanted):
        sys.exit(f"{what} has {', '.join(more)} besides. See pyproject.toml and MANIFEST.in.")


def build() -> tuple[Path, Path]:
    """The sdist and the wheel, in dist/, each checked for what is in it."""
    for stale in (DIST, ROOT / "build", ROOT / "monoglot.egg-info"):  # setuptools would take up what stands in them
        shutil.rmtree(stale, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT, cwd=ROOT)
    (sdist,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    package = files("monoglot") | {f"monoglot/{name}" for name in set().union(*map(files, ROOMS))}
    with tarfile.open(sdist) as archive:
        names = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    same(sdist.name, {name for name in names if name.split("/")[0] != "monoglot.egg-info"},
         package | files("docs") | files("tests") | TOP | MADE)  # fmt: skip
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    same(wheel.name, names, package)
    return sdist, wheel


def installed(python: Path, cwd: Path) -> set[str]:
    """The files of the installed package; nothing of it may be importable under another name than `monoglot`."""
    ask = "from importlib.metadata import files; print('\\n'.join(str(one) for one in files('monoglot')))"
    names = {name for name in run(python, "-I", "-c", ask, cwd=cwd).split("\n") if name and "__pycache__" not in name}
    about = {name for name in names if ".dist-info/" in name or name.startswith("..")}  # and the script in bin/
    if strays := sorted(name for name in names - about if not name.startswith("monoglot/")):
        sys.exit(f"{strays[0]} lies beside the package in site-packages.")
    ask = f"import importlib.util as u; print(*[name for name in {(*ROOMS, 'tests')} if u.find_spec(name)])"
    if strays := run(python, "-I", "-c", ask, cwd=cwd).split():
        sys.exit(f"`import {strays[0]}` finds something in an environment that has nothing but monoglot.")
    return names - about


def main() -> None:
    print("building", flush=True)
    sdist, wheel = build()
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    with tempfile.TemporaryDirectory() as scratch:
        elsewhere = Path(scratch) / "elsewhere"
        elsewhere.mkdir()
        run(sys.executable, "-m", "venv", Path(scratch) / "venv", cwd=elsewhere)
        scripts = Path(scratch) / "venv" / ("Scripts" if os.name == "nt" else "bin")
        python, monoglot = scripts / "python", scripts / "monoglot"
        pip = (python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt")
        print("installing the wheel", flush=True)
        run(*pip, TORCH, cwd=elsewhere)
        run(*pip, wheel, cwd=elsewhere)
        run(python, "-m", "pip", "check", cwd=elsewhere)
        of_wheel = installed(python, elsewhere)
        commands: dict[Path, tuple[str, str]] = {
            wheel: ("demo", "answers in fr, to prompts in"),
            sdist: ("inspect embedded", "llama"),
        }
        for package, (command, said) in commands.items():
            if package == sdist:
                print("installing the sdist", flush=True)
                run(*pip, "--no-deps", "--force-reinstall", sdist, cwd=elsewhere)
                same("what the sdist installs", installed(python, elsewhere), of_wheel)
            if (answer := run(monoglot, "--version", cwd=elsewhere)) != f"monoglot, version {version[1]}\n":
                sys.exit(f"{package.name} says of itself: {answer}")
            print(f"monoglot {command}", flush=True)
            if said not in run(monoglot, *command.split(), cwd=elsewhere):
                sys.exit(f"`monoglot {command}` of {package.name} does not print {said!r}.")
    print(f"{sdist.name} and {wheel.name} install and run; they are in {DIST.name}/.")


if __name__ == "__main__":
    main()
