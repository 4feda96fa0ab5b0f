"""Thousands of damaged and hostile files of every format that monoglot reads, given to the commands that read them.

    PYTHONPATH=tests python -m scripts.fuzz [-n 10000] [--seed 0] [--first 0] [--only FORMAT] [--input NUMBER]

Each input is one file of a working example, changed (see `support.mutate`). The commands run in this process. Each has to
end within LONGEST seconds and with no more than MEMORY bytes beyond what the libraries took before, in success or in one
message, without a traceback; after a refusal every file is as it was, and after anything no left-over lies about. What a
successful bake wrote is read by other means (numpy on the bytes that `safetensors` loads, the package `gguf`) and held
against what the input says. What a verification let pass has the weights that it had before the change.

Input NUMBER of a seed is always the same file: `--input` runs one alone and shows what the command says.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file
from support import ggufs, mutate, tiny
from support.bad_input import Ended, monoglot

from monoglot.cli.main import TRACEBACK
from monoglot.editor.errors import MonoglotError
from monoglot.editor.measures import findings
from monoglot.editor.text import corpus, prompts
from monoglot.editor.text.foreign import printable

LONGEST = 10  # seconds of work, and LONGEST * BUSY by the clock, as others may want the machine too
BUSY = 12
MEMORY = 2**30  # bytes
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EDIT = ("--deactivate", "zh")
Change = Callable[[bytes, Random], mutate.Drawn]


class TooLong(BaseException):
    """The alarm. Not an Exception, so that nothing takes it for an error of its own."""


@dataclass(frozen=True)
class Format:
    """A file of the example that is changed, how, and the runs that read it. `{}` in a run is the working folder."""

    file: str
    change: Change
    runs: tuple[tuple[str, ...], ...]
    weight: int = 1


BAKE = ("bake", "{}/model", "{}/neurons.json", *EDIT, "-o", "{}/new")
BAKE_GGUF = ("bake", "{}/m.gguf", "{}/neurons.json", *EDIT, "-o", "{}/new.gguf")
ON = ("bake", "{}/model", "{}/neurons.json", "--activate", "fr", "--op", "pin", "--strength", "1", "--calibration",
      "{}/calibration.monoglot", "--tolerance", "99", "-o", "{}/new")  # fmt: skip
BY_RECIPE = ("bake", "{}/model", "{}/neurons.json", "--recipe", "{}/recipe.yaml", "-o", "{}/new")
VERIFY = ("verify", "{}/out", "--base", "{}/model", "--fast")
CARD, TO_STDOUT = (("card", "{}/out", "--base", "{}/model", *more) for more in ((), ("--stdout",)))
PROFILE = ("evaluate", "{}/out", "--profile", "--base", "{}/model")
REBUILD = ("rebuild", "{}/out", "--base", "{}/model", "-o", "{}/new")
PUSH = ("push", "{}/out", "somebody/model", "--dry-run")
DIFF = ("diff", "{}/model", "{}/out")
FIND = ("find", "{}/stats", "--rate", "0.3", "--quantile", "0.5", "-o", "{}/found.json")
IMPORT = ("find", "--import", "{}/mask.neuron.pth", "--languages", "en,fr,zh", "-o", "{}/found.json")


def inspect(file: str) -> tuple[str, ...]:
    return ("inspect", f"{{}}/{file}")


FORMATS = {
    "config": Format("model/config.json", mutate.json_text, (BAKE, inspect("model")), 3),
    "weights": Format("model/model.safetensors", mutate.safetensors, (BAKE, inspect("model"), DIFF), 4),
    "index": Format("shards/model.safetensors.index.json", mutate.json_text,
                    (("bake", "{}/shards", *BAKE[2:]), inspect("shards")), 2),
    "generation": Format("model/generation_config.json", mutate.json_text, (BAKE,)),
    "tokenizer": Format("model/tokenizer_config.json", mutate.json_text, (BAKE, inspect("model"))),
    "base's card": Format("model/README.md", mutate.text, (BAKE,), 2),
    "neurons": Format("neurons.json", mutate.json_text, (BAKE, inspect("neurons.json"), BAKE_GGUF), 4),
    "recipe": Format("recipe.yaml", mutate.text, (BY_RECIPE, inspect("recipe.yaml")), 2),
    "recipe's values": Format(
        "recipe.yaml", lambda old, random: mutate.data(yaml.safe_load(old), random),
        (BY_RECIPE, inspect("recipe.yaml")), 3,
    ),
    "statistics": Format("stats", mutate.safetensors, (FIND, inspect("stats")), 4),
    "calibration": Format("calibration.monoglot", mutate.safetensors, (ON, inspect("calibration.monoglot")), 3),
    "mask": Format("mask.neuron.pth", mutate.any_bytes, (IMPORT,), 2),
    "manifest": Format("out/monoglot.json", mutate.json_text,
                       (VERIFY, CARD, TO_STDOUT, inspect("out"), PROFILE, REBUILD, PUSH), 6),
    "checkpoint's weights": Format("out/model.safetensors", mutate.safetensors, (VERIFY, inspect("out")), 2),
    "checkpoint's neurons": Format("out/neurons.json", mutate.json_text, (VERIFY, CARD, REBUILD)),
    "checkpoint's recipe": Format("out/recipe.yaml", mutate.text, (VERIFY, REBUILD)),
    "checkpoint's config": Format("out/config.json", mutate.json_text, (VERIFY, inspect("out"))),
    "checkpoint's card": Format("out/README.md", mutate.text, (VERIFY, CARD, ("card", "{}/out", "--check"), PUSH), 2),
    "journal": Format("out/.monoglot.json.pending", mutate.json_text, (VERIFY,)),
    "gguf": Format("m.gguf", mutate.gguf, (BAKE_GGUF, inspect("m.gguf")), 4),
    "gguf, edited": Format("out.gguf", mutate.gguf, (("verify", "{}/out.gguf", "--base", "{}/m.gguf"),), 2),
    "sidecar": Format("out.gguf.json", mutate.json_text,
                      (("verify", "{}/out.gguf", "--base", "{}/m.gguf"), inspect("out.gguf")), 2),
    "converted": Format("m.gguf.convert.json", mutate.json_text, (BAKE_GGUF, inspect("m.gguf"))),
    "findings": Format("findings/evaluation.json", mutate.json_text,
                       (("report", "{}/findings", "--format", "markdown", "-o", "-"), ("findings",)), 2),
    "text": Format("texts/en.txt", mutate.text, (("corpus",),)),
    "jsonl": Format("texts/fr.jsonl", mutate.text, (("corpus",),)),
    "csv": Format("texts/zh.csv", mutate.text, (("corpus",),)),
    "gzip": Format("texts/es.jsonl.gz", mutate.any_bytes, (("corpus",),)),
    "prompts": Format("prompts.jsonl", mutate.text, (("prompts",),)),
}  # fmt: skip
WRITTEN = {"bake": ("new", "new.gguf", "new.gguf.json"), "rebuild": ("new",), "find": ("found.json",)}
CHANGED = ("out/monoglot.json", "out/README.md", "out/README.md.bak", "out/.monoglot.json.pending", "out.gguf.json")


def example(folder: Path) -> Path:
    """Make one working file of every format."""
    from monoglot.editor.models.source import resolve
    from monoglot.editor.models.target import model_info, open_target
    from monoglot.editor.neurons import neurons
    from monoglot.editor.neurons.mask import write_mask

    tiny.save_model(folder / "model")
    (folder / "model" / "README.md").write_text(
        "---\nlicense: mit\ntags: [small]\nlanguage: [en]\n---\n# A model\n\nText.\n"
    )
    tiny.save_model(folder / "shards", shards=True)
    texts = folder / "texts"
    texts.mkdir()
    lines = {code: [f"{text} {number}." for number in range(6)] for code, text in tiny.TEXT.items()}
    records = "".join(json.dumps({"text": line}) + "\n" for line in lines["fr"])
    (texts / "en.txt").write_text("\n\n".join(lines["en"]), encoding="utf-8")
    (texts / "fr.jsonl").write_text(records, encoding="utf-8")
    (texts / "es.jsonl.gz").write_bytes(gzip.compress(records.encode(), mtime=0))
    (texts / "zh.csv").write_text("id,text\n" + "".join(f'{n},"{line}"\n' for n, line in enumerate(lines["zh"])))
    asked = ({"language": code, "prompt": line} for code in lines for line in lines[code][:2])
    (folder / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    target = open_target(resolve(str(folder / "model")))
    indices: dict[str, Any] = {"en": ([0, 5], [], [23]), "fr": ([3, 5, 7], [1], [2, 4]), "zh": ([6, 7], [9, 11], [12])}
    of = {code: tuple(np.array(layer, np.int64) for layer in layers) for code, layers in indices.items()}
    means = {code: tuple(np.full(len(layer), 0.5) for layer in layers) for code, layers in of.items()}
    own = neurons.Neurons(of, {"mean": means}, model_info(target), {"name": "hand"})
    neurons.save(own, folder / "neurons.json")
    write_mask(own, folder / "mask.neuron.pth")
    edits = [{"language": "zh", "op": "deactivate"}, {"language": "fr", "op": "scale", "strength": 0.5}]
    recipe = {"format": 1, "base": {"model": "tiny"}, "edits": edits, "shared": "keep"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    _detect(folder)
    for run in ((*BAKE[:-1], "{}/out"), VERIFY, PROFILE):
        _do(run, folder)
    shutil.copytree(folder / "out", folder / "findings")
    (folder / "findings" / "monoglot.json").unlink()
    measured = json.loads((folder / "out" / "monoglot.json").read_text())
    ggufs.write(folder / "m.gguf")
    _do((*BAKE_GGUF[:-1], "{}/out.gguf"), folder)
    _do(("verify", "{}/out.gguf", "--base", "{}/m.gguf"), folder)
    shutil.rmtree(folder / "findings")
    _do(("evaluate", "{}/model", "{}/neurons.json", "--profile", "--overlap", "-o", "{}/findings"), folder)
    data = (folder / "m.gguf").read_bytes()
    about = {"format": 1, "monoglot": "0.1.0", "checkpoint": {key: measured[key] for key in ("base", "recipe")},
             "type": "q8_0", "file": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)},
             "survival": None}  # fmt: skip
    (folder / "m.gguf.convert.json").write_text(json.dumps(about))
    card = (folder / "out" / "README.md").read_bytes()
    pending = {"files": {"README.md": {"from": "x", "sha256": hashlib.sha256(card).hexdigest()}}}
    (folder / "journal").write_text(json.dumps(pending))
    return folder


def _detect(folder: Path) -> None:
    """Statistics and a calibration of the tiny model, on text that nobody would measure on."""
    small = tiny.save_corpus(folder / "much")
    _do(("detect", "{}/model", "--corpus", str(small), "--tokens", "2000", "--context", "64", "--minimum", "100",
         "--calibrate", "--device", "cpu", "-o", "{}/stats"), folder)  # fmt: skip
    _do(tuple(part.replace("calibration.monoglot", "stats").replace("/new", "/on") for part in ON), folder)
    (folder / "on" / "calibration.monoglot").rename(folder / "calibration.monoglot")
    shutil.rmtree(folder / "on")
    shutil.rmtree(small)


def _do(run: tuple[str, ...], folder: Path) -> Ended:
    ended = monoglot(*(part.replace("{}", str(folder)) for part in run))
    if ended.code:
        raise RuntimeError(f"the example itself fails: {' '.join(run)}: {ended.err}")
    return ended


def by_library(what: str, folder: Path) -> Ended:
    """Read what no quick command reads."""
    try:
        if what == "corpus":
            for text in corpus.open_corpus([str(folder / "texts")]).values():
                for _ in text.documents():
                    pass
        elif what == "prompts":
            prompts.load(folder / "prompts.jsonl")
        else:
            findings.read(folder / "findings")
    except MonoglotError as error:
        return Ended(1, "", f"Error: {printable(str(error))}\n")  # as the command line shows it
    return Ended(0, "", "")


@contextmanager
def bounded() -> Iterator[None]:
    """An alarm after LONGEST seconds of work or by the clock, and an end of memory."""

    def ring(*_: object) -> None:
        raise TooLong

    before = {number: signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGPROF)}
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if Path("/proc/self/statm").is_file():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.alarm(LONGEST * BUSY)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() or p.is_symlink()
    }


def problems_of(run: tuple[str, ...], folder: Path, origin: dict[str, bytes], *, show: bool = False) -> list[str]:
    """Run a command on a working folder, and say what is wrong with what it did."""
    before = contents(folder)
    try:
        with bounded(), mock.patch.dict(os.environ, {TRACEBACK: "1"}):
            ended = (
                by_library(run[0], folder) if len(run) == 1 else monoglot(*(p.replace("{}", str(folder)) for p in run))
            )
    except TooLong:
        return [f"it runs longer than {LONGEST} s"]
    except Exception:
        return [f"a traceback: {traceback.format_exc(limit=-3)}"]
    if show:
        print(ended.code, ended.out, ended.err)
    found = []
    said = ended.out + ended.err
    if ended.code not in (0, 1, 2):
        found.append(f"exit code {ended.code}")
    if "Traceback" in said or "not foreseen" in said:
        found.append(f"not one message, but {said[-600:]!r}")
    if "out of memory" in said:
        found.append(f"more than {MEMORY:,} bytes")
    if ended.code == 1 and not ended.err.strip():
        found.append("it failed and said nothing")
    if run[0] != "card" and (control := CONTROL.search(said)):
        found.append(f"a control character {control[0]!r} in {said[-200:]!r}")
    after = contents(folder)
    told = ended.code == 0 or "DIFFERS" in said  # a rebuilt checkpoint that differs is there to be looked at
    own = WRITTEN.get(run[0], ()) if told else ()
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name) or name.split("/")[0] in own:
            continue
        if not (run[0] in ("verify", "card", "evaluate") and name in CHANGED):
            found.append(f"{name} is {'left behind' if name not in before else 'another'} (exit code {ended.code})")
    if ended.code == 0 and run[0] == "bake":
        found += wrong_gguf(folder) if run[-1].endswith(".gguf") else wrong_bake(run, folder)
    if ended.code == 0 and run[0] == "verify" and (folder / "out").is_dir() and run[1].endswith("/out"):
        found += let_pass(folder, origin)
    return found


def expected_columns(run: tuple[str, ...], folder: Path) -> dict[str, dict[int, float]] | None:
    """By weight the factors of columns, as plain data says; None where an edit needs more than a factor."""
    said = json.loads((folder / "neurons.json").read_bytes())["languages"]
    edits: list[dict[str, Any]] = [{"language": "zh", "op": "deactivate"}]
    shared = "keep"
    if "--activate" in run:
        return None
    if "--recipe" in run:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_bytes())
        edits, shared = recipe["edits"], recipe.get("shared", "keep")
        if any(edit["op"] not in ("deactivate", "scale") or edit.get("layers") for edit in edits):
            return None
    edits = sorted(edits, key=lambda edit: edit["op"] == "deactivate")  # which wins; else the later one does
    wishes = {_code(edit): (edit["op"], float(edit.get("strength") or 0)) for edit in edits}
    found: dict[str, dict[int, float]] = {}
    for layer in range(len(next(iter(said.values())))):
        asked: dict[int, list[tuple[str, float] | None]] = {}
        for language in (*wishes, *(said.keys() - wishes.keys())):
            for neuron in said[language][layer]["neurons"]:
                asked.setdefault(neuron, []).append(wishes.get(language))
        columns = {}
        for neuron, of_languages in asked.items():
            wanted = [wish for wish in of_languages if wish]
            if wanted and (shared == "edit" or len(set(of_languages)) == 1):
                columns[neuron] = wanted[-1][1]
        found[f"model.layers.{layer}.mlp.down_proj.weight"] = columns
    return found


def _code(edit: dict[str, Any]) -> str:
    return "no" if edit["language"] is False else str(edit["language"])


def wrong_bake(run: tuple[str, ...], folder: Path) -> list[str]:
    """What a baked checkpoint has that its base and the edits do not say, by what `safetensors` loads."""
    source = folder / run[1].removeprefix("{}/")
    base = {name: own for path in sorted(source.glob("*.safetensors")) for name, own in load_file(path).items()}
    made = {
        name: own for path in sorted((folder / "new").glob("*.safetensors")) for name, own in load_file(path).items()
    }
    columns = expected_columns(run, folder)
    if columns is None:
        return [f"{n} is not its base's" for n in base if "mlp" not in n and base[n].tobytes() != made[n].tobytes()]
    found = [] if base.keys() == made.keys() else [f"other tensors: {sorted(base.keys() ^ made.keys())}"]
    for name in base.keys() & made.keys():
        should = base[name].copy()
        for column, factor in columns.get(name, {}).items():
            if factor == 0.0:
                should[..., column] = 0
            else:
                with np.errstate(all="ignore"):
                    should[..., column] = (should[..., column].astype(np.float64) * factor).astype(should.dtype)
        same = should.shape == made[name].shape and np.array_equal(
            should, made[name], equal_nan=should.dtype.kind == "f"
        )
        if not same:
            found.append(f"{name} is not the base's with its edit")
    return found


def wrong_gguf(folder: Path) -> list[str]:
    """What a baked GGUF file has other than zeros in the base's place."""
    base, made = (np.frombuffer((folder / name).read_bytes(), np.uint8) for name in ("m.gguf", "new.gguf"))
    if base.shape != made.shape:
        return ["new.gguf has another size"]
    if made[base != made].any():
        return ["new.gguf has other bytes that are no zeros"]
    said = json.loads((folder / "neurons.json").read_bytes())["languages"]
    try:
        tensors = ggufs.read(folder / "m.gguf")
    except Exception:  # the package may refuse more than monoglot does
        return []
    should = np.array(base)
    for layer in range(len(said["zh"])):
        kept = {n for language in said.keys() - {"zh"} for n in said[language][layer]["neurons"]}
        up = tensors[f"blk.{layer}.ffn_up.weight"]
        row = up.raw.shape[1]
        for neuron in set(said["zh"][layer]["neurons"]) - kept:
            should[up.begin + neuron * row : up.begin + (neuron + 1) * row] = 0
    return [] if np.array_equal(should, made) else ["new.gguf has not the rows of its neurons cleared"]


def let_pass(folder: Path, origin: dict[str, bytes]) -> list[str]:
    """A verification passed: the weights are those that were baked."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(origin["out/model.safetensors"])
        file.flush()
        right, now = load_file(file.name), load_file(folder / "out" / "model.safetensors")
    if right.keys() != now.keys() or any(right[name].tobytes() != now[name].tobytes() for name in right):
        return ["verify passed a checkpoint with other weights"]
    return []


def one(number: int, seed: int, folder: Path, only: str | None, *, show: bool = False) -> tuple[str, list[str]]:
    """Draw and run an input in the example's folder, which is as it was afterwards. Its name and what is wrong."""
    random = Random(f"{seed} {number}")
    names = [only] if only else [name for name, own in FORMATS.items() for _ in range(own.weight)]
    name = random.choice(names)
    about = FORMATS[name]
    run = random.choice(about.runs)
    path = folder / about.file
    origin = contents(folder)
    old = origin["journal" if about.file.endswith(".pending") else about.file]
    changed, what = about.change(old, random)
    path.write_bytes(changed)
    called = f"input {number}: {name} ({what}): {' '.join(run)}"
    try:
        return called, problems_of(run, folder, origin, show=show)
    finally:
        for left, own in contents(folder).items():
            if own != origin.get(left):
                (folder / left).unlink()
        for left, own in origin.items():
            if not (folder / left).is_file():
                (folder / left).parent.mkdir(parents=True, exist_ok=True)
                (folder / left).write_bytes(own)
        for place in ("new",):
            shutil.rmtree(folder / place, ignore_errors=True)


def fuzz(count: int, seed: int, only: str | None = None, told: Callable[[str], None] = print, *, first: int = 0) -> int:
    """Run `count` inputs from number `first` on, and tell what is wrong. How many are wrong."""
    bad, began, spoken = 0, time.monotonic(), time.monotonic()
    with tempfile.TemporaryDirectory() as place, mock.patch("os.fsync"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning about a file is right
        folder = example(Path(place))
        for number in range(first, first + count):
            name, wrong = one(number, seed, folder, only)
            if wrong:
                bad += 1
                told("\n  ".join([name, *wrong]))
            if time.monotonic() - spoken > 30:
                spoken = time.monotonic()
                done = number + 1 - first
                told(f"{done:,} of {count:,}, {bad} wrong, {done / (spoken - began):.0f} a second")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first input, to go on where a run stopped"
    )
    parser.add_argument("--only", choices=FORMATS)
    parser.add_argument("--input", type=int)
    asked = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    if asked.input is not None:
        with tempfile.TemporaryDirectory() as place:
            print(*one(asked.input, asked.seed, example(Path(place)), asked.only, show=True), sep="\n")
        return
    bad = fuzz(asked.n, asked.seed, asked.only, first=asked.first)
    print(f"{asked.n:,} inputs of seed {asked.seed}: {bad} are wrong.")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
