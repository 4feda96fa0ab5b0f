"""The proof: that a checkpoint is what its manifest says.

    (a) bytes     against the base's files, without a model: exactly the recipe's columns changed, to exactly what the
                  recipe says; every other byte is the base's; every file has the sha256 of the manifest
    (b) logits    the checkpoint as transformers loads it, against the base with the same edits as forward hooks
    (c) effect    log-loss per language on text that the neurons were not chosen on, with random neurons beside it

(a) and (b) pass or fail, (c) is reported. Rounding in (b): deactivation is exact in every dtype, so base and checkpoint
differ by the noise of float32 arithmetic alone, which is bounded by 10⁻⁴ of the largest logit; a scaled column is rounded
once to the checkpoint's dtype, half a unit in the last place of each weight, which the bounds below allow for.
"""

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import floats
from . import manifest as manifest_file
from .bake import OWN_FILES, Target, edits_by_tensor, scaled, side_files
from .checkpoint import Shard, Tensor, read_checkpoint
from .corpus import Packed, Text, require
from .detect import read_texts
from .errors import MonoglotError, NeuronsError, VerificationError
from .evaluate import Measured, Progress, Variant, measure
from .families import activation_modules
from .hooks import random_plan, steered
from .live import load_model
from .neurons import Neurons
from .recipe import Edit, Plan, Recipe, plan

CHUNK = 2**20
MINIMUM_TOKENS = 64  # a language, for measuring
FLOAT32_NOISE = 1e-4  # of the largest logit
ROUNDING = {"F32": 1e-4, "F16": 2e-3, "BF16": 2e-2}  # the same with scaled columns rounded to the dtype
KL_BOUND = {"F32": 1e-6, "F16": 1e-5, "BF16": 1e-3}  # nats
SAME_TOP = {"exact": 0.999, "rounded": 0.97}


@dataclass(frozen=True)
class Bytes:
    """The outcome of (a). `problems` is empty when it passed."""

    tensors: int
    columns: int
    other_tensors: int
    files: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Logits:
    """The outcome of (b) and (c), of one run over the text."""

    measured: Measured
    bound: float
    problems: tuple[str, ...] = field(default=())


def recipe_of(record: Mapping[str, Any], target: Target) -> Recipe:
    """The recipe that a manifest records. Raises VerificationError when it can't be read."""
    try:
        edits = tuple(Edit(**edit) for edit in record["recipe"]["edits"])
        return Recipe(target.base, edits, record["recipe"]["shared"])
    except (KeyError, TypeError) as error:
        raise VerificationError(f"the manifest's recipe cannot be read ({error!r}).") from None


def check_base(record: Mapping[str, Any], target: Target) -> None:
    """Raise VerificationError when `target` is not the model that the checkpoint was made from."""
    if record["base"]["fingerprint"] != target.fingerprint:
        raise VerificationError(
            f"{target.source.name} is not the model this checkpoint was made from ({record['base']['model']}): "
            f"its fingerprint is {target.fingerprint[:12]}…, not {str(record['base']['fingerprint'])[:12]}…."
        )


def verify_bytes(folder: Path, target: Target, neurons: Neurons) -> Bytes:
    """(a), from the bytes alone, in constant memory."""
    record = manifest_file.read(folder)
    check_base(record, target)
    recipe = recipe_of(record, target)
    try:
        steps = plan(recipe, neurons, layers=target.feed_forward.layers, width=target.feed_forward.width)
    except NeuronsError as error:
        raise VerificationError(str(error)) from None
    hasher = ThreadPoolExecutor(1)  # goes through a shard beside the comparison, so that the disk is asked once
    try:
        hashes = {name: hasher.submit(_sha256, folder / name) for name in record["files"] if (folder / name).is_file()}
        found = _compare(folder, target, steps, hashes)
        notes: list[str] = []
        problems = (*_file_problems(folder, record, hashes, notes), *found.problems)
    finally:
        hasher.shutdown(cancel_futures=True)
    return replace(found, files=len(record["files"]), problems=problems, notes=tuple(notes))


def _compare(folder: Path, target: Target, steps: Plan, hashes: Mapping[str, Future[str]]) -> Bytes:
    """The checkpoint against its base, file by file; waits for the hash of each shard before the next."""
    problems = []
    base_files, _ = side_files(target.checkpoint)
    for name in base_files:
        ours, theirs = folder / name, target.source.folder / name
        if not ours.is_file():
            problems.append(f"{name} of the base is missing.")
        elif ours.stat().st_size != theirs.stat().st_size or not _same_bytes(ours, theirs, 0, theirs.stat().st_size):
            problems.append(f"{name} differs from the base's.")
    try:
        baked = read_checkpoint(folder)
    except MonoglotError as error:
        return Bytes(0, 0, 0, 0, (*problems, str(error)))
    if [shard.path.name for shard in baked.shards] != [shard.path.name for shard in target.checkpoint.shards]:
        return Bytes(0, 0, 0, 0, (*problems, "the shards have other names than the base's."))
    edits = edits_by_tensor(target.feed_forward, steps)
    columns = others = 0
    for new, old in zip(baked.shards, target.checkpoint.shards, strict=True):
        if new.header != old.header:
            problems.append(f"{new.path.name} has another header than the base's.")
            continue
        for tensor in old.tensors:
            if tensor.name in edits:
                layer, axis = edits[tensor.name]
                problem, changed = _compare_edited(new, old, tensor, layer.neurons, layer.factors, axis)
                columns += changed
                if problem:
                    problems.append(problem)
            else:
                others += 1
                if not _same_bytes(new.path, old.path, tensor.begin, tensor.end):
                    problems.append(f"{tensor.name} changed, which the recipe doesn't touch.")
        if new.path.name in hashes:
            hashes[new.path.name].result()
    return Bytes(len(edits), columns, others, 0, tuple(problems))


def _file_problems(
    folder: Path, record: Mapping[str, Any], hashes: Mapping[str, Future[str]], notes: list[str]
) -> Iterator[str]:
    """sha256 of every file; what is there but not in the manifest. A card that a person edited is a note, no problem."""
    for name, entry in record["files"].items():
        if name not in hashes:
            yield f"{name} is missing."
        elif hashes[name].result() != entry["sha256"]:
            if name == "README.md":
                notes.append("README.md was edited after monoglot wrote it.")
            else:
                yield f"{name} has another sha256 than the manifest says."
    known = {*record["files"], *OWN_FILES}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known and not any(part.startswith(".") for part in name.split("/")):
            if name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".gguf")):
                yield f"{name} is not in the manifest, and a runtime may load it."
            else:
                notes.append(f"{name} is not in the manifest.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def _rows(shard: Shard, tensor: Tensor) -> Iterator[floats.Array]:
    """A two-dimensional tensor in blocks of rows, as stored; each block is valid until the next."""
    dtype = np.dtype(floats.STORED[tensor.dtype])
    row_bytes = tensor.shape[1] * dtype.itemsize
    rows = max(1, CHUNK // row_bytes)
    buffer = np.empty((rows, tensor.shape[1]), dtype)
    with shard.path.open("rb") as file:
        file.seek(tensor.begin)
        for first in range(0, tensor.shape[0], rows):
            block = buffer[: tensor.shape[0] - first]
            if file.readinto(block.data) != block.nbytes:
                raise VerificationError(f"{shard.path} became shorter while it was read.")
            yield block


def _compare_edited(
    ours: Shard, theirs: Shard, tensor: Tensor, neurons: Any, factors: Any, axis: int
) -> tuple[str | None, int]:
    """The first problem of an edited W_out, and how many of its columns changed, as seen in the bytes."""
    changed: set[int] = set()
    wanted = dict(zip(neurons.tolist(), factors.tolist(), strict=True))
    row = 0
    for new, old in zip(_rows(ours, tensor), _rows(theirs, tensor), strict=True):
        bits_new, bits_old = (block.view(f"u{block.itemsize}") for block in (new, old))
        differing = (bits_new != bits_old).any(axis=1 - axis)  # along the neurons
        seen = np.flatnonzero(differing) + (row if axis == 0 else 0)
        changed.update(seen.tolist())
        if stray := sorted(set(seen.tolist()) - wanted.keys()):
            return f"{tensor.name}: column {stray[0]} changed, which the recipe doesn't touch.", len(changed)
        here = [j for j in wanted if axis == 1 or row <= j < row + len(new)]
        where = np.asarray([j - (row if axis == 0 else 0) for j in here], np.int64)
        factor = np.asarray([wanted[j] for j in here])
        got, had = np.take(new, where, axis=axis), np.take(old, where, axis=axis)
        right = scaled(had, factor if axis == 1 else factor[:, None], tensor.dtype)
        if (got.view(f"u{got.itemsize}") != right.view(f"u{right.itemsize}")).any():
            return f"{tensor.name}: an edited column is not what the recipe makes of it.", len(changed)
        row += len(new)
    return None, len(changed)


def _same_bytes(ours: Path, theirs: Path, begin: int, end: int) -> bool:
    """Whether two files hold the same bytes from `begin` to `end`."""
    buffers = np.empty((2, CHUNK), np.uint8)
    with ours.open("rb") as new, theirs.open("rb") as old:
        new.seek(begin)
        old.seek(begin)
        for at in range(begin, end, CHUNK):
            here, there = buffers[:, : end - at]
            if new.readinto(memoryview(here)) != len(here) or old.readinto(memoryview(there)) != len(there):
                return False
            if not np.array_equal(here, there):
                return False
    return True


def verify_live(
    folder: Path,
    target: Target,
    neurons: Neurons,
    texts: Mapping[str, Text],
    *,
    tokens: int,
    context: int,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Logits:
    """(b) and (c) on at most `tokens` held-out tokens a language: loads both models and runs `verify_logits`."""
    recipe = recipe_of(manifest_file.read(folder), target)
    steps = plan(recipe, neurons, layers=target.feed_forward.layers, width=target.feed_forward.width)
    packed = read_texts(target, texts, tokens=tokens, context=context, held_out=True)
    for one in packed.values():
        require(one, min(tokens, MINIMUM_TOKENS))
    base, baked = (load_model(each, device=device, dtype=dtype) for each in (target.source.folder, folder))
    return verify_logits(baked, base, target, steps, packed, progress)


def verify_logits(
    baked: Any,
    base: Any,
    target: Target,
    steps: Plan,
    texts: Mapping[str, Packed],
    progress: Progress | None = None,
) -> Logits:
    """(b) and (c): `baked` and `base` are live models of the checkpoint and its base."""
    modules = activation_modules(base, target.feed_forward.family)
    control = random_plan(steps, target.feed_forward.width)
    variants = (
        Variant("base", base),
        Variant("this model", baked),
        Variant("hooked", base, lambda: steered(modules, steps)),
        Variant("random neurons", base, lambda: steered(modules, control)),
    )
    measured = measure(variants, texts, compare=("hooked", "this model"), progress=progress)
    exact = all(not np.any(np.log2(np.abs(f[f != 0])) % 1) for f in (layer.factors for layer in steps.layers))
    dtype = target.feed_forward.outputs[0][1].dtype
    relative = FLOAT32_NOISE if exact else ROUNDING[dtype]
    kl_bound = KL_BOUND["F32" if exact else dtype]
    agree = SAME_TOP["exact" if exact else "rounded"]
    problems = []
    for language, difference in measured.difference.items():
        bound = relative * max(1.0, difference.scale)
        if not difference.max_logit <= bound:
            problems.append(f"{language}: a logit differs by {difference.max_logit:.2e}, more than {bound:.2e}.")
        if not abs(difference.kl) <= kl_bound:
            problems.append(f"{language}: KL is {difference.kl:.2e} nats, more than {kl_bound:.0e}.")
        if not difference.same_top >= agree:
            problems.append(f"{language}: the top token agrees in {difference.same_top:.1%}, less than {agree:.1%}.")
    return Logits(measured, relative, tuple(problems))


def certificate(found: Bytes, logits: Logits | None) -> dict[str, Any]:
    """What goes into the manifest: figures rounded to what they are worth, no times, no paths."""
    result: dict[str, Any] = {
        "bytes": {
            "passed": not found.problems,
            "edited_tensors": found.tensors,
            "changed_columns": found.columns,
            "identical_tensors": found.other_tensors,
            "problems": list(found.problems),
        }
    }
    if logits:
        measured = logits.measured
        result["logits"] = {
            "passed": not logits.problems,
            "bound": logits.bound,
            "problems": list(logits.problems),
            "by_language": {
                language: {
                    "positions": d.positions,
                    "max_logit": float(f"{d.max_logit:.3g}"),
                    "largest_logit": float(f"{d.scale:.3g}"),
                    "kl": float(f"{d.kl:.3g}"),
                    "same_top": round(d.same_top, 5),
                }
                for language, d in measured.difference.items()
            },
        }
        result["effect"] = {
            "tokens": measured.tokens,
            "log_loss": {
                name: {language: round(value, 4) for language, value in by_language.items()}
                for name, by_language in measured.log_loss.items()
                if name != "hooked"
            },
        }
    return result
