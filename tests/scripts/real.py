"""The main job on real models, by the commands a user types, held against the figures it should reach.

    REAL_MODELS=DIR REAL_CORPUS=DIR python tests/real.py [--short]

DIR/gemma3 and DIR/smollm2 are folders of Gemma 3 270M and SmolLM2-135M-Instruct; where they are missing, the script that
REAL_MODELS_TOOL names is run as `TOOL DIR gemma3 smollm2`. REAL_CORPUS is a folder of {en,zh,fr,es,vi,id,ja}.txt.
`--short` runs Gemma alone. Exits with 1 when a figure is missed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from monoglot.editor.models.compat_config import unread_tokenizer

LANGUAGES = ("en", "zh", "fr", "es", "vi", "id", "ja")
TOKENS = 8192


def models(names: list[str]) -> Path:
    folder = Path(os.environ.get("REAL_MODELS", "real-models")).absolute()
    absent = [name for name in names if not (folder / name / "config.json").is_file()]
    tool = os.environ.get("REAL_MODELS_TOOL", "")
    if absent and Path(tool).is_file():
        subprocess.run([sys.executable, tool, str(folder), *absent], check=True)
    elif absent:
        sys.exit(f"real.py: put {' and '.join(absent)} into {folder} (REAL_MODELS), for example with `hf download`.")
    return folder


def published(folder: Path, copy: Path) -> Path:
    """A copy of a folder that transformers 5 saved whose tokenizer older ones read too, as those on the Hub are."""
    shutil.copytree(folder, copy)
    file = copy / "tokenizer_config.json"
    if unread_tokenizer(copy):
        file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}))
    return copy


def export(model: Path, corpus: str, language: str, out: Path, work: Path, verify_tokens: int) -> dict[str, Any]:
    """One `monoglot export`; its answer with the wall time."""
    command = [
        sys.executable, "-m", "monoglot.cli", "export", str(model), "--corpus", corpus, "--deactivate", language,
        "--shared", "edit", "--tokens", str(TOKENS), "--verify-tokens", str(verify_tokens), "--work", str(work),
        "-o", str(out), "--json",
    ]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"real.py: {' '.join(command[2:])} exited with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    answer["seconds"] = time.monotonic() - started
    return answer


def report(title: str, answer: dict[str, Any]) -> dict[str, float]:
    """Print the figures; the change of log-loss per language of the text."""
    loss = answer["certificate"]["effect"]["log_loss"]
    change = {k: loss["this model"][k] - loss["base"][k] for k in LANGUAGES}
    random = {k: loss["random neurons"][k] - loss["base"][k] for k in LANGUAGES}
    logits = answer["certificate"]["logits"]["by_language"]
    print(f"\n{title}: {answer['neurons_edited']} neurons, {answer['seconds']:.0f} s")
    print("  change of log-loss  " + "  ".join(f"{k} {change[k]:+.2f}" for k in LANGUAGES))
    print("  by random neurons   " + "  ".join(f"{k} {random[k]:+.2f}" for k in LANGUAGES))
    print(f"  baked against hooked: largest difference of a logit {max(r['max_logit'] for r in logits.values()):.1e}")
    return change


def activate(model: Path, corpus: str, language: str, out: Path, work: Path) -> list[str]:
    """Export a model that answers in a language, let it answer prompts in the others, print the shares; what is missed."""
    monoglot = [sys.executable, "-m", "monoglot.cli"]
    command = [
        *monoglot, "export", str(model), "--corpus", corpus, "--activate", language, "--hold", "others", "--rate", "0.02",
        "--tokens", str(TOKENS), "--fast", "--work", str(work), "-o", str(out), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)["strength"]
    command = [*monoglot, "evaluate", str(out), "--generate", "--base", str(model), "--json"]
    answers = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)["activated"]
    rows = answers["by_language"]
    share = {name: sum(row[name]["accuracy"] for row in rows.values()) / len(rows) for name in ("base", "this model")}
    print(f"\n{out.name}: strength {found['checkpoint'][-1]['strength']:g}, answers in {language}:")
    print("  " + "  ".join(f"from {code} {row['this model']['accuracy']:.0%}" for code, row in rows.items()))
    print(f"  mean {share['this model']:.0%}, base {share['base']:.0%}")
    for sample in answers["samples"]:
        print(f"  {sample['prompt']} … {' '.join(sample['this model'].split())}")
    missed = []
    if share["this model"] < 0.85:
        missed.append(f"{share['this model']:.0%} of the answers are {language}, less than 85%")
    if share["base"] > 0.05:
        missed.append(f"{share['base']:.0%} of the base's answers are {language}, more than 5%")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description="The main job on real models.")
    parser.add_argument("--short", action="store_true", help="Gemma only, on less text")
    short = parser.parse_args().short
    corpus = os.environ.get("REAL_CORPUS", "")
    if not Path(corpus).is_dir():
        sys.exit("real.py: name a folder of {lang}.txt with REAL_CORPUS.")
    folder = models(["gemma3"] if short else ["gemma3", "smollm2"])
    verify_tokens = 256 if short else 512
    missed = []
    with tempfile.TemporaryDirectory() as scratch:
        for language in ("zh", "fr"):
            out, work = Path(scratch) / f"gemma3-no-{language}", Path(scratch) / "gemma3.work"
            answer = export(folder / "gemma3", corpus, language, out, work, verify_tokens)
            change = report(f"Gemma 3 270M without {language}", answer)
            spared = [k for k in ("en", "zh", "es", "fr") if k != language]
            if change[language] < 0.7:
                missed.append(f"{language} rises by {change[language]:.2f}, less than 0.7")
            if language == "zh":
                missed += [f"{k} rises by {change[k]:.2f}, more than 0.1" for k in spared if change[k] > 0.1]
        if not short:
            out, work = Path(scratch) / "gemma3-zh", Path(scratch) / "gemma3-zh.work"
            missed += activate(folder / "gemma3", corpus, "zh", out, work)
            out, work = Path(scratch) / "smollm2-no-fr", Path(scratch) / "smollm2.work"
            change = report(
                "SmolLM2-135M without fr", export(folder / "smollm2", corpus, "fr", out, work, verify_tokens)
            )
            if change["fr"] < max(change[k] for k in LANGUAGES if k != "fr"):
                missed.append("SmolLM2: another language than fr suffers more")
    for line in missed:
        print(f"missed: {line}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
