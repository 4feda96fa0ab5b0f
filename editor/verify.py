"""The proof: that a checkpoint is what its manifest says.

    (a) bytes     against the base's files, without a model: exactly the recipe's columns changed, to exactly what the
                  recipe says; every other byte is the base's; every file has the sha256 of the manifest
    (b) logits    the checkpoint as transformers loads it, against the base with the same edits as forward hooks
    (c) effect    log-loss per language on text that the neurons were not chosen on, with random neurons beside it

    (d) distance  for a calibrated carrier, whose hooks in (b) use its stand-in for 1: how far the checkpoint is from the
                  base with the exact constants, in KL, top token and the activation itself

(a) and (b) pass or fail, (c) and (d) are reported. Rounding in (b): deactivation is exact in every dtype, so base and
checkpoint differ by the noise of float32 arithmetic alone, which is bounded by 10⁻⁴ of the largest logit; a scaled column,
a constant and a row that carries one are rounded once to the checkpoint's dtype, half a unit in the last place of each
weight, which the bounds below allow for.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .edits import manifest as manifest_file
from .edits.bake import OWN_FILES, side_files
from .edits.carriers import Carried
from .edits.hooks import calibrated, random_plan, steered
from .edits.layout import Layout, layout
from .edits.manifest import carried_in
from .edits.tensor_edits import Editing
from .errors import MonoglotError, RecipeError, VerificationError
from .files import floats
from .files.checkpoint import Shard, Tensor, read_checkpoint
from .files.streams import _sha256, same_bytes
from .live.load import hooked as attached
from .live.load import load_model
from .live.log_loss import Difference, Measured, measure
from .live.logits import Variant
from .live.modules import activation_modules, input_modules
from .models.target import Target
from .neurons.neurons import Neurons
from .progress import Progress
from .text.corpus import Text
from .text.tokens import Packed, read_texts, require

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
class Approximation:
    """How far a calibrated checkpoint is from what it stands for: per language the difference of its logits from the
    exactly pinned base's, and the log-loss of that; and how far its pinned activations are from their constants."""

    difference: dict[str, Difference]
    log_loss: dict[str, float]
    deviation: dict[str, Any]


@dataclass(frozen=True)
class Logits:
    """The outcome of (b) and (c), of one run over the text."""

    measured: Measured
    bound: float
    problems: tuple[str, ...] = field(default=())
    approximation: Approximation | None = None


def verify_bytes(folder: Path, target: Target, neurons: Neurons) -> Bytes:
    """(a), from the bytes alone, in constant memory."""
    record = manifest_file.read(folder)
    try:
        expected = layout(target, carried_in(folder, target, neurons))
    except RecipeError as error:
        raise VerificationError(f"what {folder} says of itself cannot be carried out: {error}") from None
    hasher = ThreadPoolExecutor(1)  # goes through a shard beside the comparison, so that the disk is asked once
    try:
        hashes = {name: hasher.submit(_sha256, folder / name) for name in record["files"] if (folder / name).is_file()}
        found = _compare(folder, target, expected, hashes)
        notes: list[str] = []
        problems = (*_file_problems(folder, record, hashes, notes), *found.problems)
    finally:
        hasher.shutdown(cancel_futures=True)
    return replace(found, files=len(record["files"]), problems=problems, notes=tuple(notes))


def _compare(folder: Path, target: Target, expected: Layout, hashes: Mapping[str, Future[str]]) -> Bytes:
    """The checkpoint against its base, file by file; waits for the hash of each shard before the next."""
    problems = []
    base_files, _ = side_files(target.checkpoint)
    for name in base_files:
        ours, theirs = folder / name, target.source.folder / name
        if name in expected.made:
            continue
        if not ours.is_file():
            problems.append(f"{name} of the base is missing.")
        elif ours.stat().st_size != theirs.stat().st_size or not same_bytes(ours, theirs, 0, 0, theirs.stat().st_size):
            problems.append(f"{name} differs from the base's.")
    for name, data in expected.made.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            problems.append(f"{name} is not what the recipe makes of it.")
    try:
        shards = {shard.path.name: shard for shard in read_checkpoint(folder).shards}
    except MonoglotError as error:
        return Bytes(0, 0, 0, 0, (*problems, str(error)))
    if sorted(shards) != sorted({*expected.shards, *(name for name in expected.made if name.endswith(".safetensors"))}):
        return Bytes(0, 0, 0, 0, (*problems, "the shards have other names than they should."))
    rows = others = edited = 0
    for name, (header, base) in expected.shards.items():
        shard = shards[name]
        if shard.header != header or shard.size - len(header) != base.size - len(base.header):
            problems.append(f"{name} has another header than it should.")
            continue
        shift = len(header) - len(base.header)
        for tensor in base.tensors:
            if tensor.name in expected.edits:
                edited += 1
                problem, changed = _compare_edited(
                    shard, base, tensor, Editing(tensor, expected.edits[tensor.name]), shift
                )
                rows += changed
                if problem:
                    problems.append(problem)
            else:
                others += 1
                if not same_bytes(shard.path, base.path, tensor.begin + shift, tensor.begin, tensor.end - tensor.begin):
                    problems.append(f"{tensor.name} changed, which the recipe doesn't touch.")
        if name in hashes:
            hashes[name].result()
    return Bytes(edited, rows, others, 0, tuple(problems))


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


def _rows(path: Path, editing: Editing, begin: int) -> Iterator[floats.Array]:
    """A tensor in blocks of rows, as stored, from byte `begin` of a file; each block is valid until the next."""
    tensor = editing.tensor
    rows = max(1, tensor.shape[0])
    row_bytes = (tensor.end - tensor.begin) // rows
    at_once = max(1, CHUNK // max(1, row_bytes))
    buffer = memoryview(bytearray(at_once * row_bytes))
    with path.open("rb") as file:
        file.seek(begin)
        for first in range(0, tensor.shape[0], at_once):
            view = buffer[: min(at_once, tensor.shape[0] - first) * row_bytes]
            if file.readinto(view) != len(view):
                raise VerificationError(f"{path} became shorter while it was read.")
            yield editing.block(view)


def _compare_edited(ours: Shard, theirs: Shard, tensor: Tensor, editing: Editing, shift: int) -> tuple[str | None, int]:
    """The first problem of an edited tensor, and how many of its rows or columns changed, as seen in the bytes."""
    changed: set[int] = set()
    axis, wanted = editing.edit.axis, set(editing.edit.where.tolist())
    row = 0
    pairs = zip(_rows(ours.path, editing, tensor.begin + shift), _rows(theirs.path, editing, tensor.begin), strict=True)
    for new, old in pairs:
        bits_new, bits_old = (block.view(f"u{block.itemsize}") for block in (new, old))
        seen = np.flatnonzero((bits_new != bits_old).any(axis=1 - axis)) + (row if axis == 0 else 0)  # along `axis`
        changed.update(seen.tolist())
        what = "column" if axis else "row"
        if stray := sorted(set(seen.tolist()) - wanted):
            return f"{tensor.name}: {what} {stray[0]} changed, which the recipe doesn't touch.", len(changed)
        where = editing.where(row, len(new))
        right = np.ascontiguousarray(editing.edited(old[where], row, len(new)))
        if (np.ascontiguousarray(new[where]).view(f"u{right.itemsize}") != right.view(f"u{right.itemsize}")).any():
            return f"{tensor.name}: an edited {what} is not what the recipe makes of it.", len(changed)
        row += len(new)
    return None, len(changed)


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
    what = carried_in(folder, target, neurons)
    packed = read_texts(target, texts, tokens=tokens, context=context, held_out=True)
    for one in packed.values():
        require(one, min(tokens, MINIMUM_TOKENS))
    base, baked = (load_model(each, device=device, dtype=dtype) for each in (target.source.folder, folder))
    return verify_logits(baked, base, target, what, packed, progress)


def verify_logits(
    baked: Any,
    base: Any,
    target: Target,
    what: Carried,
    texts: Mapping[str, Packed],
    progress: Progress | None = None,
) -> Logits:
    """(b) and (c): `baked` and `base` are live models of the checkpoint and its base."""
    family, steps = target.feed_forward.family, what.plan
    modules, control = activation_modules(base, family), random_plan(steps, target.feed_forward.width)
    deviations = Deviations(baked, target, what)
    exact = Variant("hooked", base, lambda: steered(modules, steps))
    hooked = (
        [exact] if what.calibration is None else [_stand_in(base, target, what, modules), replace(exact, name="exact")]
    )
    variants = (
        Variant("base", base),
        Variant("this model", baked, deviations.recorded),
        Variant("random neurons", base, lambda: steered(modules, control)),
        *hooked,
    )
    measured = measure(variants, texts, compare=[one.name for one in hooked], to="this model", progress=progress)
    approximation = None
    if what.calibration is not None:
        approximation = Approximation(measured.difference["exact"], measured.log_loss["exact"], deviations.result())
    dtype = target.feed_forward.outputs[0][1].dtype
    rounded = steps.constant or any(np.any(np.log2(np.abs(f[f != 0])) % 1) for f in (x.factors for x in steps.layers))
    relative = ROUNDING[dtype] if rounded else FLOAT32_NOISE
    kl_bound = KL_BOUND[dtype if rounded else "F32"]
    agree = SAME_TOP["rounded" if rounded else "exact"]
    problems = []
    for language, difference in measured.difference["hooked"].items():
        bound = relative * max(1.0, difference.scale)
        if not difference.max_logit <= bound:
            problems.append(f"{language}: a logit differs by {difference.max_logit:.2e}, more than {bound:.2e}.")
        if not abs(difference.kl) <= kl_bound:
            problems.append(f"{language}: KL is {difference.kl:.2e} nats, more than {kl_bound:.0e}.")
        if not difference.same_top >= agree:
            problems.append(f"{language}: the top token agrees in {difference.same_top:.1%}, less than {agree:.1%}.")
    return Logits(measured, relative, tuple(problems), approximation)


def _stand_in(base: Any, target: Target, what: Carried, modules: Sequence[Any]) -> Variant:
    """The base with w·x for 1, by hooks."""
    family = target.feed_forward.family
    inputs, calibration = input_modules(base, family), what.calibration
    names = {tensor.name for _, tensor in target.checkpoint.tensors()}
    exact_add = not family.gated and target.feed_forward.name(family.out, 0, "bias") in names
    if calibration is None:
        raise ValueError("a stand-in needs a calibration")
    return Variant("hooked", base, lambda: calibrated(modules, inputs, what.plan, calibration, exact_add=exact_add))


class Deviations:
    """Of a checkpoint with a calibrated carrier, while it runs: how far the activation of the neurons that carry a constant
    (those that are pinned, and the slots of `add`), which should be act(t) on every token, is from it: a/act(t) − 1. All of
    a layer are alike, so one is looked at."""

    def __init__(self, baked: Any, target: Target, what: Carried) -> None:
        self.squares: dict[int, float] = {}
        self.first_token: dict[int, float] = {}
        self.positions: dict[int, int] = {}
        if what.calibration is None:  # a Llama by another name has other modules than its base
            self.watched: list[tuple[int, Any, int, float]] = []
            return
        modules = activation_modules(baked, target.feed_forward.family)
        self.watched = [
            (number, module, int(carrying[0]), float(what.calibration.levels[number]))
            for number, (module, layer) in enumerate(zip(modules, what.plan.layers, strict=True))
            if len(carrying := layer.neurons[layer.pinned] if layer.pinned.any() else layer.freed[: layer.added.sum()])
        ]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        handles = [
            module.register_forward_hook(self._hook(number, neuron, level))
            for number, module, neuron, level in self.watched
        ]
        with attached(handles):
            yield

    def _hook(self, number: int, neuron: int, level: float) -> Any:
        import torch

        def look(module: Any, inputs: Any, output: Any) -> None:
            a = output[..., neuron].double()  # (B, T), or (B·T,) where a family flattens
            off = a / module.forward(torch.full_like(output[..., :1], level)).double()[..., 0] - 1
            if off.ndim > 1:
                self.first_token[number] = float(off[0, 0])
                off = off[:, 1:]
            self.squares[number] = self.squares.get(number, 0.0) + float(off.square().sum())
            self.positions[number] = self.positions.get(number, 0) + off.numel()

        return look

    def result(self) -> dict[str, Any]:
        """Root mean square per layer, that of all, and the deviation at a context's first token where it was told apart."""
        by_layer = {number: (self.squares[number] / max(1, self.positions[number])) ** 0.5 for number in self.squares}
        whole = sum(self.squares.values()) / max(1, sum(self.positions.values()))
        return {"all": whole**0.5, "layers": by_layer, "first_token": dict(self.first_token)}


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
                language: _figures(difference) for language, difference in measured.difference["hooked"].items()
            },
        }
        if logits.approximation:
            found_there = logits.approximation
            deviation = found_there.deviation
            result["approximation"] = {
                "by_language": {language: _figures(d) for language, d in found_there.difference.items()},
                "log_loss_exact": {language: round(loss, 4) for language, loss in found_there.log_loss.items()},
                "activation": {
                    "all": float(f"{deviation['all']:.3g}"),
                    "worst_layer": float(f"{max(deviation['layers'].values(), default=0.0):.3g}"),
                    "first_token": float(f"{max(map(abs, deviation['first_token'].values()), default=0.0):.3g}"),
                },
            }
        result["effect"] = {
            "tokens": measured.tokens,
            "log_loss": {
                name: {language: round(value, 4) for language, value in by_language.items()}
                for name, by_language in measured.log_loss.items()
                if name not in ("hooked", "exact")
            },
        }
    return result


def with_earlier(made: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A certificate of the bytes alone, with what an earlier one says of the logits, which are compared only when the bytes
    are what the recipe makes of the base: where they are now, they are the same bytes."""
    earlier = before if isinstance(before, Mapping) else {}
    if not made["bytes"]["passed"] or not isinstance(earlier.get("logits"), Mapping):
        return made
    return {**earlier, **made}


def problems(certificate: Mapping[str, Any]) -> list[str]:
    """All that is not as the recipe says."""
    return [*certificate["bytes"]["problems"], *certificate.get("logits", {"problems": []})["problems"]]


def _figures(difference: Difference) -> dict[str, Any]:
    return {
        "positions": difference.positions,
        "max_logit": float(f"{difference.max_logit:.3g}"),
        "largest_logit": float(f"{difference.scale:.3g}"),
        "kl": float(f"{difference.kl:.3g}"),
        "same_top": round(difference.same_top, 5),
    }
