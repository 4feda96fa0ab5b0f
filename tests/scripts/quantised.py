"""Quantised checkpoints of the real libraries, baked and held against what those libraries compute.

    python -m scripts.quantised --python NAME=PYTHON … [--kinds KIND,…] [--folder DIR]

For each kind of `quantised_far.KINDS` a tiny model is quantised by its library, in an environment of its own, and neurons are
switched off in it by `monoglot bake`. Then, in that environment again:

    weights   what monoglot reads is what the library computes from the stored codes
    logits    the baked model's are those of the base with the neurons switched off by hooks, bit by bit, wherever two runs of
              the base give the same bits
    bytes     `verify` finds nothing else changed

A library that isn't named is left out, and said so. The exit code is the number of kinds that failed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from monoglot.editor import embedded
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.files.packed import is_packed
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.proof.bytes import verify_bytes
from scripts.quantised_far import KINDS

FAR = Path(__file__).with_name("quantised_far.py")
LAYERS, WIDTH, HIDDEN, OFF = 2, 256, 128, 12
HALF = 2**-8  # what rounding to bfloat16 may cost a weight that the library computes in it


def original(folder: Path) -> None:
    """A tiny model with random weights, and a tokenizer, which some of the libraries ask for."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=json.loads((embedded.MODEL / "config.json").read_text())["vocab_size"], hidden_size=HIDDEN,
        intermediate_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=None,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(folder)
    for path in embedded.MODEL.glob("*token*.json"):
        shutil.copy(path, folder / path.name)


def far(python: str, *arguments: str) -> list[str]:
    """Run the far side; what it says of each kind, last line first where one failed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run([python, str(FAR), *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
        failed = [line for line in done.stdout.splitlines() if line.endswith("FAILED")]
        print(*errors, *failed, sep="\n", file=sys.stderr)
    return [line for line in done.stdout.splitlines() if line.endswith((" done", " FAILED"))]


def compare(folder: Path, neurons: Sequence[Sequence[int]], form: str) -> list[str]:
    """What is wrong with a kind, from what the library computed of its base and its baked model."""
    if not all((folder / f"{name}.npz").is_file() for name in ("base", "baked")):
        return ["the library did not run it"]
    base, baked = (np.load(folder / f"{name}.npz") for name in ("base", "baked"))
    problems = []
    same = np.array_equal(base["plain"], base["again"])
    difference = float(np.abs(base["hooked"] - baked["plain"]).max())
    moved = float(np.abs(base["plain"] - baked["plain"]).max())
    if not (difference == 0 if same else difference < 1e-5 * np.abs(base["plain"]).max()):
        problems.append(f"baked and hooked logits differ by {difference:.2e}")
    if moved < 1e-3:
        problems.append(f"the edit moved no logit by more than {moved:.2e}")
    if not np.isfinite(baked["plain"]).all():
        problems.append("a logit is not finite")
    target = open_target(resolve(str(folder / "base")))
    weights, worst = 0, 0.0
    for number in range(LAYERS):
        for name in ("up_proj", "down_proj"):
            if (key := f"{number}.{name}") not in base:
                continue
            theirs, matrix = base[key], target.weights[f"model.layers.{number}.mlp.{name}"]
            ours = matrix.read(0, matrix.rows)
            error = np.abs(rounded_as(ours, theirs) - theirs)
            worst = max(worst, float((error / np.maximum(np.abs(theirs), 1e-6)).max()))
            weights += theirs.size
            if (error > HALF * np.abs(theirs) + 1e-6).any():
                problems.append(f"{key}: monoglot reads other weights, by up to {error.max():.2e}")
        up = target.weights[f"model.layers.{number}.mlp.up_proj"]
        if is_packed(up) and (key := f"{number}.up_proj") in baked and np.any(baked[key][list(neurons[number])]):
            problems.append(f"{key}: the library computes other weights than 0 of cleared rows")
    close = "the same" if worst == 0 else f"within {worst:.1e}"
    read = f"{weights:,} weights {close}" if weights else "the library gives no weights"
    print(f"{folder.name:22} {form:62} logits differ by {difference:.1e} (moved {moved:.1e}); {read}", flush=True)
    return problems


def rounded_as(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Our weights rounded to the dtype that the library computes its own in: the narrowest that holds them."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(torch.from_numpy(theirs).to(dtype).float(), torch.from_numpy(theirs)):
            return torch.from_numpy(ours).to(dtype).float().numpy()
    return ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--kinds", default="", help="only these, by name, with commas between")
    parser.add_argument("--folder", type=Path, help="where what is made stays; a temporary one otherwise")
    arguments = parser.parse_args()
    pythons = dict(one.split("=", 1) for one in arguments.python)
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(prove(arguments.folder or Path(scratch), pythons, set(filter(None, arguments.kinds.split(",")))))


def prove(folder: Path, pythons: dict[str, str], wanted: set[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "original").is_dir():
        original(folder / "original")
    own = [sorted(np.random.default_rng(number).choice(WIDTH, OFF, replace=False).tolist()) for number in range(LAYERS)]
    (folder / "neurons.json").write_text(json.dumps(own))
    neurons = Neurons(
        {"zh": tuple(np.array(each, np.int64) for each in own)}, {"mean": {"zh": tuple(np.ones(OFF) for _ in own)}}
    )
    failed = 0
    for library, kinds in KINDS.items():
        chosen = [kind for kind in kinds if not wanted or kind in wanted]
        if library not in pythons:
            print(f"{library} is not installed: {', '.join(kinds)} left out")
            continue
        far(
            pythons[library],
            "make",
            str(folder / "original"),
            str(folder),
            *(kind for kind in chosen if not (folder / kind).is_dir()),
        )
        forms: dict[str, Any] = {}
        missing = [kind for kind in chosen if not (folder / kind / "base" / "config.json").is_file()]
        for kind in missing:
            print(f"{kind} FAILED: {library} did not make it", flush=True)
        failed += len(missing)
        chosen = [kind for kind in chosen if kind not in missing]
        for kind in chosen:
            target = open_target(resolve(str(folder / kind / "base")))
            bake(target, neurons, Recipe(target.base, (Edit("zh", "deactivate"),)), folder / kind / "baked", force=True)
            forms[kind] = (target.quantised, verify_bytes(folder / kind / "baked", target, neurons))
        for name in ("base", "baked"):
            far(pythons[library], "run", str(folder), name, *chosen)
        for kind in chosen:
            form, proved = forms[kind]
            problems = [*proved.problems, *compare(folder / kind, own, form)]
            for problem in problems:
                print(f"{kind} FAILED: {problem}", flush=True)
            failed += bool(problems)
    return failed


if __name__ == "__main__":
    main()
