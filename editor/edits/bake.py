"""Baking: a recipe becomes a checkpoint, as an edit of files.

The model is never built. Each file streams through a few buffers: read, edit the rows at hand if they are of an edited
tensor, then hash and write, each on a thread of its own, and what is written is synced meanwhile. So the cost is that of
copying, the memory constant, and every byte that no edit touches stays as it was, headers included.
What becomes of which tensor is `tensor_edits`' to say, which files there are `layout`'s; tokenizer and every other file of
the base come along byte for byte.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CheckpointError, OutputError, RecipeError
from ..files import card_text
from ..files.checkpoint import Checkpoint, Shard, Tensor
from ..files.companions import companions
from ..files.kinds import FILE
from ..files.output import check_free, claimed, staged_folder
from ..files.streams import CHUNK, fill
from ..models.target import Target, about_sampled, check_unchanged
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons
from ..statistics import vocabulary as vocabulary_file
from ..statistics.vocabulary import Vocabulary
from . import calibration as calibration_file
from . import manifest as manifest_file
from . import recipe as recipe_file
from .byte_edits import ByteEdit, ByteEditing, editing
from .calibration import Calibration
from .card_maker import Describe
from .carriers import Carried, carried
from .layout import Copied, Layout, layout
from .manifest import FileEntry, Manifest
from .recipe import Recipe
from .tensor_edits import Editing, TensorEdit

BUFFERS = 8
SYNC_EVERY = 32 * 2**20  # bytes
OWN_FILES = (
    FILE,
    recipe_file.FILE,
    "neurons.json",
    calibration_file.FILE,
    vocabulary_file.FILE,
    "README.md",
)  # made anew, not copied
# What was measured of a checkpoint of ours says nothing of one that is made from it.
FIGURES = ("perplexity", "deactivate_each", "strength", "profile", "overlap", "similarity")
FINDINGS = (*(f"figures/{name}.png" for name in FIGURES), "report.html", "README.md.bak")

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Baked:
    """The result of `bake` on `target`.

    It has the manifest as written, what was carried out, and the base's files that did not come along.
    """

    target: Target
    folder: Path
    manifest: Manifest
    carried: Carried
    left_out: tuple[str, ...]


def bake(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    destination: Path,
    *,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    force: bool = False,
    describe: Describe | None = None,
    progress: Progress | None = None,
) -> Baked:
    """Write the edited checkpoint to `destination`, whole or not at all; `neurons.NONE` where only tokens are edited.

    The same base, neurons, recipe, calibration and vocabulary give the same bytes. Raises RecipeError (another model than the
    recipe's, no place for a constant), NeuronsError, CheckpointError (NaN in a tensor to edit), OutputError.
    """
    if recipe.base.fingerprint not in (None, target.fingerprint):
        raise RecipeError(
            f"the recipe is for {recipe.base.model} with fingerprint {str(recipe.base.fingerprint)[:12]}…, "
            f"{target.source.name} has {target.fingerprint[:12]}…. Use that model, or write a new recipe."
            f"{about_sampled(target, str(recipe.base.fingerprint))}"
        )
    folder = target.source.folder
    check_place(folder, destination)
    with claimed(destination, partial(check_free, force=force)):
        return _bake(target, neurons, recipe, destination, calibration, vocabulary, force, describe, progress)


def _bake(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    destination: Path,
    calibration: Calibration | None,
    vocabulary: Vocabulary | None,
    force: bool,
    describe: Describe | None,
    progress: Progress | None,
) -> Baked:
    """Bake to a destination that is held."""
    folder = target.source.folder
    what = carried(target, recipe, neurons, calibration, vocabulary)
    recipe = replace(
        recipe,
        base=target.base,
        neurons="neurons.json",
        vocabulary=vocabulary_file.FILE,
        carrier=what.carrier or "auto",
        compat_config=what.compat_config,
    )
    files = layout(target, what)
    others, left_out = side_files(target.checkpoint)
    copied = [name for name in others if name not in files.made]
    sources = {name: _of_shard(header, shard, files.edits) for name, (header, shard) in files.shards.items()}
    sources |= {name: _of_tensor(copy) for name, copy in files.copies.items()}
    sources |= {name: _of_file(folder / name) for name in copied}
    size = sum(source.end - source.begin for source in sources.values())
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, size)

    made = dict(files.made)
    if recipe.of_neurons:
        made["neurons.json"] = neurons_file.serialise(neurons).encode()
    made[recipe_file.FILE] = recipe_file.to_yaml(recipe).encode()
    if what.calibration:
        made[calibration_file.FILE] = calibration_file.serialise(what.calibration)
    if what.tokens:
        made[vocabulary_file.FILE] = vocabulary_file.serialise(what.tokens.vocabulary)
    with staged_folder(
        destination, size=size + sum(map(len, made.values())), force=force, whole=manifest_file.check_whole
    ) as staging:
        written = _write_files(sources, staging, files, advance)
        check_unchanged(target)
        written |= {name: _write(staging / name, data) for name, data in made.items()}
        manifest = manifest_file.new(target, recipe, what, files.rounding.relative, written, left_out)
        if describe:
            card = describe(manifest, folder)
            _write(staging / "README.md", card.encode())
            manifest = replace(manifest, card=card_text.memory(card)).with_file("README.md", card.encode())
        manifest_file.write(staging, manifest)
    return Baked(target, destination, manifest, what, left_out)


def side_files(checkpoint: Checkpoint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the base's files besides the shards, relative: those that come along, and those that are left behind."""
    found = companions(checkpoint.folder, checkpoint.config, {shard.path.name for shard in checkpoint.shards})
    ours = (*OWN_FILES, *(FINDINGS if (checkpoint.folder / FILE).is_file() else ()))
    along = dict.fromkeys([*found.along, *(name for name in checkpoint.files if name in found.left_behind)])
    left_behind = (
        name for name in found.left_behind if name not in along and not any(fnmatch(name, pattern) for pattern in ours)
    )
    return tuple(sorted(name for name in along if name not in OWN_FILES)), tuple(left_behind)


def check_place(folder: Path, destination: Path) -> None:
    real, base = (Path(os.path.realpath(path)) for path in (destination, folder))  # resolve() fails on a loop of links
    if real == base or base in real.parents:
        raise OutputError(f"{destination} lies inside the model's own folder. Choose another place with -o.")
    if real in base.parents:
        raise OutputError(f"{destination} holds the model's own folder. Choose another place with -o.")


@dataclass(frozen=True)
class _Source:
    """A file to write: a header, then bytes `begin` to `end` of a file of the base.

    The rows of some tensors edited. `whole` says that nothing comes after them.
    """

    header: bytes
    path: Path
    begin: int
    end: int
    edited: tuple[Tensor, ...] = ()
    whole: bool = True


def _of_shard(header: bytes, shard: Shard, edits: Mapping[str, TensorEdit | ByteEdit]) -> _Source:
    edited = tuple(tensor for tensor in shard.tensors if tensor.name in edits)
    return _Source(header, shard.path, len(shard.header), shard.size, edited)


def _of_tensor(copy: Copied) -> _Source:
    end = copy.tensor.end
    return _Source(copy.header, copy.shard.path, copy.tensor.begin, end, whole=end == copy.shard.size)


def _of_file(path: Path) -> _Source:
    return _Source(b"", path, 0, path.stat().st_size)


@dataclass(frozen=True)
class _Threads:
    """One thread for each thing that a piece goes through after it was read and edited, and one that syncs."""

    hasher: ThreadPoolExecutor
    writer: ThreadPoolExecutor
    syncer: ThreadPoolExecutor


def _write_files(
    files: Mapping[str, _Source], staging: Path, plan: Layout, advance: Callable[[int], None]
) -> dict[str, FileEntry]:
    """Stream every file to its name in the staging folder; their sizes and sha256, in the order of `files`."""
    synced: list[Future[None]] = []
    with ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as syncer:
        threads = _Threads(hasher, writer, syncer)
        written = {
            name: _write_file(file, staging / name, plan, threads, synced, advance) for name, file in files.items()
        }
        for future in synced:
            future.result()
    return written


def _write_file(
    file: _Source,
    path: Path,
    plan: Layout,
    threads: _Threads,
    synced: list[Future[None]],
    advance: Callable[[int], None],
) -> FileEntry:
    """Stream one file; its size and sha256. `synced` is to be awaited."""
    digest = hashlib.sha256(file.header)
    edits = plan.edits
    at_hand: Editing | ByteEditing | None = None
    longest = max([min(CHUNK, file.end - file.begin), *map(_row_bytes, file.edited)])
    buffers = [memoryview(bytearray(longest)) for _ in range(BUFFERS)]
    pending: list[tuple[Future[None], ...]] = [()] * BUFFERS
    path.parent.mkdir(parents=True, exist_ok=True)
    unsynced = 0
    with file.path.open("rb", buffering=0) as source, path.open("wb", buffering=0) as out:
        _as_private(source, out)
        source.seek(file.begin)
        _write_all(out, memoryview(file.header))
        try:
            for number, (size, tensor, row) in enumerate(_pieces(file)):
                slot = number % BUFFERS
                _await(pending[slot])
                view = buffers[slot][:size]
                fill(source, view, file.path)
                if tensor is not None:
                    if at_hand is None or at_hand.tensor is not tensor:
                        at_hand = editing(tensor, edits[tensor.name])
                    at_hand.apply(view, row, plan.rounding, place=file.path)
                pending[slot] = (
                    threads.hasher.submit(digest.update, view),
                    threads.writer.submit(_write_all, out, view),
                )
                unsynced += size
                if unsynced >= SYNC_EVERY and all(future.done() for future in synced[-1:]):
                    synced.append(threads.syncer.submit(_sync, os.dup(out.fileno())))
                    unsynced = 0
                advance(size)
            if file.whole and source.read(1):
                raise CheckpointError(
                    f"{file.path} became longer while it was read. Leave the model alone and run it again."
                )
            for futures in pending:
                _await(futures)
        finally:  # no thread may write to a file that is closed
            wait([future for futures in pending for future in futures])
        synced.append(threads.syncer.submit(_sync, os.dup(out.fileno())))
    return FileEntry(digest.hexdigest(), len(file.header) + file.end - file.begin)


def _as_private(source: Any, out: Any) -> None:
    """Let nobody read a copy who may not read the original."""
    allowed = stat.S_IMODE(os.fstat(source.fileno()).st_mode) | stat.S_IRUSR | stat.S_IWUSR
    os.fchmod(out.fileno(), stat.S_IMODE(os.fstat(out.fileno()).st_mode) & allowed)


def _await(futures: tuple[Future[None], ...]) -> None:
    for future in futures:
        future.result()


def _row_bytes(tensor: Tensor) -> int:
    return (tensor.end - tensor.begin) // max(1, tensor.shape[0])


def _pieces(file: _Source) -> Iterator[tuple[int, Tensor | None, int]]:
    """Yield the file's data in order, in pieces of about a chunk.

    (bytes, edited tensor or None, its first row in the piece).
    """
    at = file.begin
    for tensor in file.edited:
        yield from ((size, None, 0) for size in _chunks(tensor.begin - at, CHUNK))
        row_bytes = _row_bytes(tensor)
        rows = max(1, CHUNK // max(1, row_bytes))
        for first in range(0, tensor.shape[0], rows):
            yield min(rows, tensor.shape[0] - first) * row_bytes, tensor, first
        at = tensor.end
    yield from ((size, None, 0) for size in _chunks(file.end - at, CHUNK))


def _chunks(total: int, chunk: int) -> Iterator[int]:
    while total > 0:
        yield min(chunk, total)
        total -= chunk


def _write_all(out: Any, view: memoryview) -> None:
    at = 0
    while at < len(view):
        at += out.write(view[at:])


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> FileEntry:
    with path.open("wb") as writer:
        writer.write(data)
        _flush(writer)
    return manifest_file.entry(data)


def _flush(writer: BinaryIO) -> None:
    writer.flush()
    os.fsync(writer.fileno())
