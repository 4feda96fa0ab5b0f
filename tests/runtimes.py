"""Checkpoints of every carrier in real runtimes, by the command a user types, held against what is known of them.

    python tests/runtimes.py --python PATH [--python NAME=PATH …] [--runtimes NAMES] [--real] [--write]

The embedded model: a language off, in one file and in shards; a language on by each carrier. With `--real` SmolLM2 135M and
Gemma 3 270M too, from REAL_MODELS and REAL_CORPUS as tests/real.py has them. Prints a table, carrier × runtime, each cell a
verdict that was measured in this run; `--write` puts it into the README. Exits with 1 where a verdict is another than
editor/capabilities.py says, or, of a model that it does not speak of, where one is neither "steered" nor "failed".
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from real import models, published

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- measured by `make runtimes` -->", "<!-- end of what was measured -->"
MONOGLOT = (sys.executable, "-m", "monoglot.cli")
ON = ("--activate", "fr", "--hold", "others", "--strength", "1")
REAL = (("smollm2", "SmolLM2 135M", ("calibrated", "flag")), ("gemma3", "Gemma 3 270M", ("calibrated",)))
SHORT = ("transformers", "llama.cpp", "ctranslate2", "onnxruntime")


def monoglot(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*MONOGLOT, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def made(*arguments: object) -> None:
    if monoglot(*arguments).returncode:
        sys.exit(f"runtimes.py: monoglot {' '.join(map(str, arguments))} failed")


def embedded(folder: Path) -> dict[tuple[str, str], tuple[Path, Path | None]]:
    """(model, carrier) -> (checkpoint, its base where the manifest doesn't lead to it)."""
    from monoglot.editor import embedded as own

    stats, neurons = folder / "stats.safetensors", folder / "neurons.json"
    made(
        "detect", "embedded", "--corpus", "embedded", "--tokens", 4096, "--context", 192, "--minimum", 1000, "--calibrate",
        "-o", stats,
    )  # fmt: skip
    made("find", stats, "--rate", 0.27, "-o", neurons)
    off = ("--deactivate", "zh")
    shards, biased = folder / "shards", folder / "biased"
    load_and_save(own.MODEL, shards, biased)
    made("bake", "embedded", neurons, *off, "-o", folder / "off")
    made("bake", shards, neurons, *off, "-o", folder / "off-sharded")
    made(
        "bake", "embedded", neurons, *ON, "--calibration", stats, "--carrier", "calibrated", "-o", folder / "calibrated"
    )
    made("bake", "embedded", neurons, *ON, "--carrier", "flag", "-o", folder / "flag")
    made("bake", biased, neurons, *ON, "--carrier", "native", "-o", folder / "native")
    return {
        ("embedded", "none"): (folder / "off", None),
        ("embedded, in shards", "none"): (folder / "off-sharded", shards),
        ("embedded", "calibrated"): (folder / "calibrated", None),
        ("embedded", "flag"): (folder / "flag", None),
        ("embedded, with biases of its own", "native"): (folder / "native", biased),
    }


def load_and_save(base: Path, shards: Path, biased: Path) -> None:
    """The embedded model in several files; and the same function with biases, all zero, that are its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(shards, max_shard_size="2MB")
    config = AutoConfig.from_pretrained(base)
    config.mlp_bias = True
    other = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict(), strict=False)
    other.save_pretrained(biased)
    for folder in (shards, biased):
        for name in ("tokenizer.json", "tokenizer_config.json"):  # as they are: older versions don't read newer ones'
            shutil.copy(base / name, folder / name)


def real(folder: Path, corpus: str) -> dict[tuple[str, str], tuple[Path, Path | None]]:
    where = models([name for name, _, _ in REAL])
    found: dict[tuple[str, str], tuple[Path, Path | None]] = {}
    for name, title, carriers in REAL:
        stats, neurons = folder / f"{name}.safetensors", folder / f"{name}.json"
        base = published(where / name, folder / name)
        made("detect", base, "--corpus", corpus, "--tokens", 4096, "--minimum", 1000, "--calibrate", "-o", stats)
        made("find", stats, "--rate", 0.02, "-o", neurons)
        made("bake", base, neurons, "--deactivate", "fr", "--shared", "edit", "-o", folder / f"{name}-off")
        found[title, "none"] = folder / f"{name}-off", base
        for carrier in carriers:
            out = folder / f"{name}-{carrier}"
            made("bake", base, neurons, *ON, "--carrier", carrier, "--calibration", stats, "--tolerance", 1, "-o", out)
            found[title, carrier] = out, base
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="PATH|NAME=PATH")
    parser.add_argument("--runtimes", default=",".join(SHORT))
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    from monoglot.editor import capabilities

    names = given.runtimes.split(",")
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = embedded(Path(scratch))
        if given.real:
            checkpoints |= real(Path(scratch), os.environ.get("REAL_CORPUS", ""))
        for (model, carrier), (out, base) in checkpoints.items():
            pythons = [word for python in given.python for word in ("--python", python)]
            named = ["--base", base] if base else []
            answer = monoglot("verify", out, "--runtime", given.runtimes, *pythons, *named, "--json")
            found: dict[str, Any] = json.loads(answer.stdout or "{}")
            if sorted(found) != sorted(names):
                sys.exit(f"runtimes.py: {model} by {carrier} was not run")
            rows.append((model, carrier, [found[name] for name in names]))
            model_type = json.loads((out / "config.json").read_text())["model_type"]
            for name in names:
                verdict = found[name]["verdict"]
                # a Llama that has biases because of the key reads them as one that was given them
                known = capabilities.seen(
                    name, "flag" if carrier == "native" and model_type == "llama" else carrier, model_type
                )
                if verdict != known if known else verdict not in ("steered", "failed"):
                    wrong.append(f"{model} by {carrier} in {name}: {verdict}, not {known or 'steered'}")
            print(f"{model} by {carrier}: " + ", ".join(f"{name} {said(found[name])}" for name in names), flush=True)
    lines = [
        f"| model | carrier | {' | '.join(f'{name} {one[0]}' for name, one in zip(names, versions(rows), strict=True))} |",
        "|---|---|" + "---|" * len(names),
        *(f"| {model} | {carrier} | {' | '.join(map(said, cells))} |" for model, carrier, cells in rows),
    ]
    print("\n".join(lines))
    if given.write:
        before, rest = README.read_text(encoding="utf-8").split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")
    for line in wrong:
        print(f"wrong: {line}")
    sys.exit(1 if wrong else 0)


def versions(rows: list[tuple[str, str, list[dict[str, Any]]]]) -> list[list[str]]:
    return [[str(one.get("version") or "")] for one in rows[0][2]]


def said(one: dict[str, Any]) -> str:
    largest = (one.get("to_steered") or {}).get("largest")
    bold = f"**{one['verdict']}**" if one["verdict"] != "steered" else "steered"
    return f"{bold}, {largest:.0e}" if largest is not None and one["verdict"] == "steered" else bold


if __name__ == "__main__":
    main()
