"""The proof by bytes, part (a) below: a checkpoint's files differ from the base's only as the recipe says.

    (a) bytes     against the base's files, without a model: exactly the recipe's columns changed, to exactly what the
                  recipe says; every other byte is the base's; every file has the sha256 of the manifest
    (b) logits    the checkpoint as transformers loads it, against the base with the same edits as forward hooks
    (c) effect    log-loss per language on text that the neurons were not chosen on, with random neurons beside it

    (d) distance  for a calibrated carrier, whose hooks in (b) use its stand-in for 1: how far the checkpoint is from the
                  base with the exact constants, in KL, top token and the activation itself

(a) and (b) pass or fail, (c) and (d) are reported. Rounding in (b): deactivation is exact in every dtype, so base and
checkpoint differ by the noise of float32 arithmetic alone, which is bounded by 10⁻⁴ of the largest logit; a scaled column,
a constant and a row that carries one are rounded once to the checkpoint's dtype, half a unit in the last place of each
weight, which the bounds below allow for. Rows of the embedding table are rounded by the hooks too: what the layers make of
that rounding is more than any bound at single positions of text that a model reads as another language.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..edits import manifest as manifest_file
from ..edits.bake import OWN_FILES, side_files
from ..edits.byte_edits import ByteEdit
from ..edits.layout import Layout, layout
from ..edits.manifest import Manifest
from ..edits.manifest_base import carried_in
from ..edits.tensor_edits import Editing, TensorEdit
from ..errors import MonoglotError, RecipeError, VerificationError
from ..files import floats
from ..files.checkpoint import Shard, Tensor, read_checkpoint
from ..files.packed import seen, write
from ..files.streams import equal_files, row_blocks, same_bytes, sha256
from ..models.target import Target
from ..neurons.neurons import Neurons


@dataclass(frozen=True)
class Bytes:
    """The outcome of (a). `problems` is empty when it passed."""

    tensors: int
    columns: int
    other_tensors: int
    files: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def verify_bytes(
    folder: Path, target: Target, neurons: Neurons, progress: Callable[[int, int], None] | None = None
) -> Bytes:
    """Prove (a), from the bytes alone, in constant memory. `progress` gets the bytes compared so far, and those in all."""
    manifest = manifest_file.read(folder)
    try:
        expected = layout(target, carried_in(folder, target, neurons))
    except RecipeError as error:
        raise VerificationError(f"what {folder} says of itself cannot be carried out: {error}") from None
    hasher = ThreadPoolExecutor(1)  # goes through a shard beside the comparison, so that the disk is asked once
    try:
        hashes = {name: hasher.submit(sha256, folder / name) for name in manifest.files if (folder / name).is_file()}
        found = _compare(folder, target, expected, hashes, progress or (lambda done, whole: None))
        notes: list[str] = []
        problems = (*file_problems(folder, manifest, hashes, notes), *found.problems)
    finally:
        hasher.shutdown(cancel_futures=True)
    return replace(found, files=len(manifest.files), problems=problems, notes=tuple(notes))


def _compare(
    folder: Path,
    target: Target,
    expected: Layout,
    hashes: Mapping[str, Future[str]],
    progress: Callable[[int, int], None],
) -> Bytes:
    """Compare the checkpoint with its base, file by file; waits for the hash of each shard before the next."""
    problems = []
    base_files, _ = side_files(target.checkpoint)
    for name in base_files:
        ours, theirs = folder / name, target.source.folder / name
        if name in expected.made:
            continue
        if not ours.is_file():
            problems.append(f"{name} of the base is missing.")
        elif not equal_files(ours, theirs):
            problems.append(f"{name} differs from the base's.")
    for name, data in expected.made.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            problems.append(f"{name} is not what the recipe makes of it.")
    try:
        shards = {shard.path.name: shard for shard in read_checkpoint(folder, quantised=True).shards}
    except MonoglotError as error:
        return Bytes(0, 0, 0, 0, (*problems, str(error)))
    made = {*expected.shards, *expected.copies, *(name for name in expected.made if name.endswith(".safetensors"))}
    if sorted(shards) != sorted(made):
        return Bytes(0, 0, 0, 0, (*problems, "the shards have other names than they should."))
    rows = others = edited = done = 0
    whole = sum(tensor.end - tensor.begin for _, base in expected.shards.values() for tensor in base.tensors)
    for name, (header, base) in expected.shards.items():
        shard = shards[name]
        if shard.header != header or shard.size - len(header) != base.size - len(base.header):
            problems.append(f"{name} has another header than it should.")
            continue
        shift = len(header) - len(base.header)
        for tensor in base.tensors:
            if tensor.name in expected.edits:
                edited += 1
                edit = expected.edits[tensor.name]
                if isinstance(edit, ByteEdit):
                    problem, changed = _compare_bytes(shard, base, tensor, edit, shift)
                else:
                    problem, changed = _compare_edited(shard, base, tensor, Editing(tensor, edit), shift)
                rows += changed
                if problem:
                    problems.append(problem)
            else:
                others += 1
                if not same_bytes(shard.path, base.path, tensor.begin + shift, tensor.begin, tensor.end - tensor.begin):
                    problems.append(f"{tensor.name} changed, which the recipe doesn't touch.")
            done += tensor.end - tensor.begin
            progress(done, whole)
        if name in hashes:
            hashes[name].result()
    for name, copy in expected.copies.items():
        length, start = copy.tensor.end - copy.tensor.begin, len(copy.header)
        if shards[name].header != copy.header or shards[name].size != start + length:
            problems.append(f"{name} has another header than it should.")
        elif isinstance(own := expected.edits.get(copy.name), TensorEdit):
            edited += 1
            shift = start - copy.tensor.begin
            problem, changed = _compare_edited(
                shards[name], copy.shard, copy.renamed, Editing(copy.renamed, own), shift
            )
            rows += changed
            problems += [problem] if problem else []
        elif not same_bytes(shards[name].path, copy.shard.path, start, copy.tensor.begin, length):
            problems.append(f"{copy.name} is not the base's {copy.tensor.name}.")
    return Bytes(edited, rows, others, 0, tuple(problems))


def file_problems(
    folder: Path, manifest: Manifest, hashes: Mapping[str, Future[str]], notes: list[str]
) -> Iterator[str]:
    """sha256 of every file; what is there but not in the manifest. A card that a person edited is a note, no problem."""
    for name, entry in manifest.files.items():
        if name not in hashes:
            yield f"{name} is missing."
        elif hashes[name].result() != entry.sha256:
            if name == "README.md":
                notes.append("README.md was edited after monoglot wrote it.")
            else:
                yield f"{name} has another sha256 than the manifest says."
    known = {*manifest.files, *OWN_FILES}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known and not any(part.startswith(".") for part in name.split("/")):
            if name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".gguf")):
                yield f"{name} is not in the manifest, and a runtime may load it."
            else:
                notes.append(f"{name} is not in the manifest.")


def _rows(shard: Shard, editing: Editing, shift: int) -> Iterator[floats.Array]:
    """Yield a tensor in blocks of rows, as stored `shift` bytes on in a shard; each block is valid until the next."""
    return (editing.block(view) for _, view in row_blocks(_moved(shard, editing.tensor, shift)))


def _moved(shard: Shard, tensor: Tensor, shift: int) -> tuple[Shard, Tensor]:
    """Give the place of a tensor that lies `shift` bytes further on in a shard."""
    return shard, tensor._replace(begin=tensor.begin + shift, end=tensor.end + shift)


def _compare_edited(ours: Shard, theirs: Shard, tensor: Tensor, editing: Editing, shift: int) -> tuple[str | None, int]:
    """Return the first problem of an edited tensor, and how many of its rows or columns changed, as seen in the bytes."""
    changed: set[int] = set()
    axis, wanted = editing.edit.axis, set(editing.edit.where.tolist())
    row = 0
    pairs = zip(_rows(ours, editing, shift), _rows(theirs, editing, 0), strict=True)
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


def _compare_bytes(ours: Shard, theirs: Shard, tensor: Tensor, edit: ByteEdit, shift: int) -> tuple[str | None, int]:
    """Return the same of a quantised tensor, in which bits are written: how many of its neurons changed."""
    changed = np.zeros(len(edit.runs), np.bool_)
    at = 0
    for (_, ours_view), (_, theirs_view) in zip(
        row_blocks(_moved(ours, tensor, shift)), row_blocks((theirs, tensor)), strict=True
    ):
        new, old = np.frombuffer(ours_view, np.uint8), np.frombuffer(theirs_view, np.uint8)
        right = old.copy()
        write(edit.runs, right, at)
        if len(wrong := np.flatnonzero(new != right)):
            problem = f"{tensor.name}: byte {at + int(wrong[0]):,} is not what the recipe makes of it."
            return problem, int(changed.sum())
        changed |= seen(edit.runs, new != old, at)
        at += len(new)
    return None, min(edit.neurons, int(changed.sum()))
