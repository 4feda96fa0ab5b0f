"""SIGKILL at many moments of bake, export and verify, then the same command once more: what is at OUT is absent, or whole and
what it says, and nothing stays beside it.

    PYTHONPATH=tests python -m scripts.kills [--times 100] [--seed 0] [bake|export|verify …]

Each run is killed after a random part of the time that it takes undisturbed; every second one replaces a checkpoint. The
looks at OUT are of this script's own: hashes of files against the manifest, read as plain JSON, and weights against those of
a run that nobody disturbed.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from monoglot.editor import embedded

COMMANDS = ("bake", "export", "verify")
SMALL = ("--tokens", "2048", "--context", "128", "--minimum", "1000", "--rate", "0.27", "--verify-tokens", "64")
Problem = str


def monoglot(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "monoglot.cli", *map(str, arguments)]


def finish(command: list[str]) -> float:
    """Run a command to its end, and give the seconds that it took."""
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


def killed(command: list[str], after: float) -> bool:
    """Whether a command was still running when it was killed."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            running.wait(after)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            return True
    return False


def weights_of(out: Path) -> dict[str, str]:
    """The sha256 of each shard of a checkpoint."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.glob("*.safetensors"))}


def problems(out: Path, language: str, undisturbed: dict[str, dict[str, str]], *, again: bool) -> list[Problem]:
    """What is wrong with a checkpoint, which edits one of two languages. After `again` it must be there, and nothing else.

    `undisturbed`: the weights of each language as a run writes them that is not killed.
    """
    found: list[Problem] = []
    if not out.exists():
        return ["OUT is absent after the second run"] if again else []
    record = json.loads((out / "monoglot.json").read_text())
    for name, entry in record["files"].items():
        path = out / name
        right = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        if not right and (again or name != "README.md"):  # card and manifest are finished together by the next run
            found.append(f"{name} is not what the manifest lists")
    if weights_of(out) not in undisturbed.values():
        found.append("the weights are not those of an undisturbed run")
    if again:
        if weights_of(out) != undisturbed[language]:
            found.append(f"the weights are not those without {language}")
        if record["recipe"]["edits"][0]["language"] != language:
            found.append("OUT is another language's")
        extra = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        found += [f"{name} is left in OUT" for name in sorted(extra - record["files"].keys() - {"monoglot.json"})]
        beside = {path.name for path in out.parent.iterdir()} - {"OUT", "OUT.work", "neurons.json", "texts"}
        found += [f"{name} is left beside OUT" for name in sorted(beside)]
    return found


def prepare(folder: Path) -> dict[str, dict[str, str]]:
    """Texts in three languages, and the neurons that `bake` needs; gives the weights of undisturbed runs, by language.

    At the end OUT is the one without Chinese.
    """
    (folder / "texts").mkdir()
    for language in ("en", "fr", "zh"):
        shutil.copy(embedded.MODEL.parent / "texts" / f"{language}.txt", folder / "texts")
    undisturbed = {}
    for language in ("fr", "zh"):
        finish(command_of("export", folder, language, force=True))
        undisturbed[language] = weights_of(folder / "OUT")
    assert undisturbed["fr"] != undisturbed["zh"]
    shutil.copy(folder / "OUT.work" / "neurons.json", folder)
    return undisturbed


def command_of(kind: str, folder: Path, language: str, *, force: bool) -> list[str]:
    more = ["--force"] if force else []
    if kind == "bake":
        return monoglot(
            "bake", embedded.NAME, folder / "neurons.json", "--deactivate", language, "-o", folder / "OUT", *more
        )
    if kind == "export":
        texts = ("--corpus", folder / "texts", *SMALL, "--fast")
        return monoglot("export", embedded.NAME, *texts, "--deactivate", language, "-o", folder / "OUT", *more)
    return monoglot("verify", folder / "OUT", "--fast")


def round_of(
    kind: str, folder: Path, number: int, seconds: float, chance: random.Random, undisturbed: dict[str, dict[str, str]]
) -> tuple[bool, float, list[Problem]]:
    """Kill one run and make the same once more; whether it was killed in time, how long the second took, what was wrong."""
    out, language = folder / "OUT", "zh" if kind == "verify" or number % 4 < 2 else "fr"
    force = kind != "verify" and number % 2 == 1
    if kind != "verify" and not force:
        shutil.rmtree(out, ignore_errors=True)
    if kind == "export" and number % 3 == 0:
        shutil.rmtree(folder / "OUT.work", ignore_errors=True)
    in_time = killed(command_of(kind, folder, language, force=force), seconds * chance.uniform(0.2, 1.05))
    found = problems(out, language, undisturbed, again=False)
    force = force or out.exists()
    began = time.monotonic()
    done = subprocess.run(command_of(kind, folder, language, force=force), capture_output=True, text=True)
    took = time.monotonic() - began
    if done.returncode or "Traceback" in done.stderr:
        found.append(f"the second run failed: {done.stderr.strip().splitlines()[-1:]}")
    elif kind == "verify" and "README.md" in done.stderr:
        found.append("the card counts as a person's")
    return in_time, took, found + problems(out, language, undisturbed, again=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    bad = 0
    for kind in asked.commands:
        chance = random.Random(asked.seed)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            undisturbed = prepare(folder)
            seconds = finish(command_of(kind, folder, "zh", force=kind != "verify"))
            rounds: list[tuple[bool, list[Problem]]] = []
            for number in range(asked.times):
                in_time, seconds, found = round_of(kind, folder, number, seconds, chance, undisturbed)
                rounds.append((in_time, found))
        for number, (_, found) in enumerate(rounds):
            for problem in found:
                print(f"{kind} {number}: {problem}")
        wrong = sum(bool(found) for _, found in rounds)
        bad += wrong
        print(f"{kind}: {sum(one for one, _ in rounds)} of {len(rounds)} runs killed, {wrong} wrong", flush=True)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
