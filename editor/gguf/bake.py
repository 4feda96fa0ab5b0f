"""Baking a GGUF file: a copy of it, with the up rows of the recipe's neurons cleared.

Only `deactivate` can be done there: zero bytes are zeros in every quantisation, while every other operation would have to
quantise anew. So nothing is dequantised, and the cost is that of `cp`: the kernel copies the file piece by piece (sharing
blocks where the file system can), zeros are written over the rows, and the piece is hashed meanwhile as it was and as it
is, each on a thread of its own. Memory is constant. What neurons a GGUF's are can't be proved, as it keeps nothing of the
checkpoint it was converted from: that layers and width fit is all that is known.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..edits.manifest import FileEntry, entry
from ..edits.manifest_files import check_listed
from ..edits.plan import Plan, plan
from ..edits.recipe import Recipe
from ..errors import CheckpointError, NeuronsError, OutputError, RecipeError
from ..files.gguf import Gguf, read_gguf
from ..files.output import replace_file, staged_file, taken
from ..files.spans import copy_span, write_all
from ..files.streams import blocks
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons
from ..version import VERSION
from . import sidecar
from .sidecar import Base, Found, NeuronsOf, Sidecar
from .up_projection import Up, locate_up

PIECE = 16 * 2**20  # bytes, handed from thread to thread
AHEAD = 4  # pieces

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Range = tuple[int, int]


@dataclass(frozen=True)
class BakedGguf:
    """What `bake_gguf` made, and the sidecar as written."""

    path: Path
    sidecar: Sidecar


def bake_gguf(
    model: Path,
    neurons: Neurons,
    recipe: Recipe,
    destination: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> BakedGguf:
    """Write a copy of `model` with the recipe's neurons cleared, and its sidecar beside it, whole or not at all.

    The same model, neurons and recipe give the same bytes. Raises ModelError and CheckpointError (see `read_gguf` and
    `locate_up`), RecipeError for other operations than deactivate, NeuronsError when the neurons don't fit, OutputError.
    """
    check_operations(recipe)
    gguf = read_gguf(model)
    up = locate_up(gguf)
    planned = planned_for(gguf, up, recipe, neurons)
    cleared = [layer.neurons.tolist() for layer in planned.layers]
    ranges = merged(up.ranges(cleared))
    beside = sidecar.sidecar_of(destination)
    with staged_file(destination, size=gguf.size, beside=beside, check=_checker(model, force)) as staging:
        before, after = _copy(gguf, ranges, staging / destination.name, progress)
        about = Sidecar(
            monoglot=VERSION,
            base=Base(model.name, before, gguf.size, gguf.architecture, up.layers, up.width),
            recipe=recipe,
            neurons=_whose(neurons),
            edited=planned.edited,
            kept=planned.kept,
            neurons_edited=planned.size,
            cleared=tuple(map(tuple, cleared)),
            file=FileEntry(after, gguf.size),
            certificate=None,
        )
        said = sidecar.serialise(about)
        replace_file(staging / beside.name, said)
        check_listed(staging, {destination.name: about.file, beside.name: entry(said)}, "file")
    return BakedGguf(destination, about)


def check_operations(recipe: Recipe) -> None:
    """Raise RecipeError when the recipe does more than deactivate."""
    if recipe.experts:
        raise RecipeError(
            "experts can't be switched off in a GGUF file. Bake the model's safetensors checkpoint, then convert the result."
        )
    for edit in recipe.edits:
        if edit.op != "deactivate":
            raise RecipeError(
                f"{edit.op} ({edit.language}) can't be done in a GGUF file, where numbers are quantised: only deactivate is "
                "exact there. Bake the model's safetensors checkpoint, then convert the result to GGUF."
            )


def planned_for(gguf: Gguf, up: Up, recipe: Recipe, neurons: Neurons) -> Plan:
    """Plan what becomes of which neuron. Raises NeuronsError when the neurons are not of such a model."""
    try:
        return plan(recipe, neurons, layers=up.layers, width=up.width)
    except NeuronsError as error:
        raise NeuronsError(f"{gguf.path}: {error} Find the neurons in the checkpoint that it was made from.") from None


def merged(ranges: Iterator[Range]) -> list[Range]:
    """In order, neighbours joined."""
    joined: list[Range] = []
    for begin, end in sorted(ranges):
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


def clear(data: bytearray | memoryview, at: int, ranges: Sequence[Range]) -> None:
    """Zero what of the ranges lies in `data`, which begins at byte `at` of the file."""
    for begin, end in ranges:
        first, last = max(begin - at, 0), min(end - at, len(data))
        if first < last:
            data[first:last] = bytes(last - first)


def within(ranges: Sequence[Range], begin: int, end: int) -> list[Range]:
    """Return the parts of the ranges between two bytes of the file."""
    return [(max(a, begin), min(b, end)) for a, b in ranges if a < end and b > begin]


def _whose(neurons: Neurons) -> NeuronsOf:
    digest = hashlib.sha256(neurons_file.serialise(neurons).encode()).hexdigest()
    return NeuronsOf(digest, Found(neurons.model.name, neurons.model.fingerprint) if neurons.model else None)


def _checker(model: Path, force: bool) -> Callable[[Path], None]:
    def check(destination: Path) -> None:
        """Raise OutputError when the place is taken, or with `force` when it is by more than what monoglot wrote."""
        beside = sidecar.sidecar_of(destination)
        if destination.name and os.path.realpath(destination) == os.path.realpath(model):
            raise OutputError(f"{destination} is the model itself. Choose another place with -o.")
        ours = beside.is_file() and not beside.is_symlink() and sidecar.is_ours(beside)
        if not os.path.lexists(destination):
            if os.path.lexists(beside) and not ours:  # a killed run may have left its own
                raise OutputError(f"{beside}, which would describe {destination.name}, exists. Choose another place.")
        elif not force:
            raise taken(destination)
        elif destination.is_symlink() or not destination.is_file():
            raise OutputError(f"{destination} is not a file, so `force` does not replace it. Choose another place.")
        elif not ours:
            raise OutputError(
                f"{destination} was not made by monoglot (it has no {beside.name}), so `force` does not replace it. "
                "Choose another place, or remove it yourself."
            )

    return check


def _copy(gguf: Gguf, ranges: list[Range], path: Path, progress: Progress | None) -> tuple[str, str]:
    """Copy the file with zeros in the ranges, synced; the sha256 of what was read and of what was written.

    Up to the first range both are one. The copier and the hashers each read on their own, a few pieces apart at most, so
    that the disk is asked once.
    """
    before = after = hashlib.sha256()
    first = ranges[0][0] if ranges else gguf.size
    waiting: deque[list[Future[None]]] = deque()
    syncing: Future[None] | None = None
    with ExitStack() as stack:
        source, reader, again = (stack.enter_context(gguf.path.open("rb", buffering=0)) for _ in range(3))
        out = stack.enter_context(path.open("wb", buffering=0))
        copier, hasher, other, syncer = (stack.enter_context(ThreadPoolExecutor(1)) for _ in range(4))
        stamp = os.fstat(source.fileno())
        for begin, end in _pieces(first, gguf.size):
            if begin == first:
                _settle(waiting, 0)
                after = before.copy()
            inside = within(ranges, begin, end)
            jobs = [
                copier.submit(_copy_piece, source, out, begin, end, inside, gguf.path),
                hasher.submit(_hash_piece, reader, before, begin, end, [], gguf.path),
            ]
            if begin >= first:
                jobs.append(other.submit(_hash_piece, again, after, begin, end, inside, gguf.path))
            waiting.append(jobs)
            _settle(waiting, AHEAD)
            if syncing is None or syncing.done():
                syncing = syncer.submit(os.fsync, out.fileno())
            if progress:
                progress(end, gguf.size)
        _settle(waiting, 0)
        if syncing:
            syncing.result()
        os.fsync(out.fileno())
        now = os.fstat(source.fileno())
        if (now.st_size, now.st_mtime_ns) != (gguf.size, stamp.st_mtime_ns):
            raise CheckpointError(f"{gguf.path} was written to while it was read. Leave it alone and run it again.")
    return before.hexdigest(), after.hexdigest()


def _settle(waiting: deque[list[Future[None]]], left: int) -> None:
    """Wait until no more than `left` pieces are under way."""
    while len(waiting) > left:
        for job in waiting.popleft():
            job.result()


def _pieces(first: int, size: int) -> Iterator[Range]:
    """Yield the file in order, with a boundary at `first`."""
    for begin, end in ((0, first), (first, size)):
        for at in range(begin, end, PIECE):
            yield at, min(at + PIECE, end)


def _copy_piece(source: BinaryIO, out: BinaryIO, begin: int, end: int, zeros: list[Range], path: Path) -> None:
    copy_span(source, out, begin, end, begin, path)
    for first, last in zeros:
        out.seek(first)
        write_all(out, bytes(last - first))


def _hash_piece(source: BinaryIO, digest: Any, begin: int, end: int, zeros: list[Range], path: Path) -> None:
    at = begin
    for data in blocks(source, begin, end, path):
        clear(data, at, zeros)
        digest.update(data)
        at += len(data)
