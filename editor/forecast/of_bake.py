"""What `bake` would write."""

from pathlib import Path

from ..edits.bake import check_place, side_files
from ..edits.byte_edits import ByteEdit
from ..edits.calibration import Calibration
from ..edits.carriers import carried
from ..edits.layout import layout
from ..edits.recipe import Recipe
from ..edits.request import AUTO, Request
from ..edits.silence import Silence
from ..files.output import check_free
from ..models.target import Target
from ..neurons.neurons import Neurons
from ..runtimes.capabilities import settled
from ..statistics.vocabulary import Vocabulary
from .costs import reading_speed
from .steps import Forecast, Step, free_memory, with_free

STARTING = 0.5  # seconds, of the program and of the card
MEMORY = 250_000_000  # bytes, of Python, numpy and the pieces that are under way


def forecast_bake(
    target: Target,
    neurons: Neurons,
    request: Request | Recipe,
    output: Path,
    *,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    silence: Silence | None = None,
    force: bool = False,
) -> Forecast:
    """Say what a request or a recipe would edit, and what would be written. Raises what `bake` raises before it writes.

    A strength that is to be searched for is taken to be 1: which neurons and tensors are edited does not depend on it.
    """
    check_place(target.source.folder, output)
    check_free(output, force=force)
    notes: tuple[str, ...] = ()
    if isinstance(request, Request):
        request = settled(request, target)
        strength = None if request.strength is None else 1.0 if request.strength == AUTO else float(request.strength)
        if request.strength == AUTO:
            notes = ("The model runs for a search of the strength, which is not counted here.",)
        counted = vocabulary.languages if vocabulary else ()
        request = request.recipe(target, neurons.languages, strength, counted=counted)
    what = carried(target, request, neurons, calibration, vocabulary, silence)
    files = layout(target, what)
    tensors = {tensor.name: tensor.end - tensor.begin for _, tensor in target.checkpoint.tensors()}
    written = sum(tensors[name] for name in files.edits if name in tensors)
    along, _ = side_files(target.checkpoint)
    size = sum(len(header) + shard.size - len(shard.header) for header, shard in files.shards.values())
    size += sum(len(copy.header) + copy.tensor.end - copy.tensor.begin for copy in files.copies.values())
    size += sum((target.source.folder / name).stat().st_size for name in along if name not in files.made)
    size += sum(map(len, files.made.values()))
    largest = max(
        (tensors.get(name, 0) for name, edit in files.edits.items() if not isinstance(edit, ByteEdit)), default=0
    )
    step = Step(
        "bake",
        f"{what.plan.size:,} neurons, {len(files.edits)} tensors of {written / 1e6:,.1f} MB are edited; "
        f"{len(files.shards) + len(files.copies) + len(files.made)} files of weights and settings are written",
        bake_seconds(target, size),
        MEMORY + largest,
    )
    return Forecast(
        target.source.name, size_of(target, weights_only=True), {}, (step,), with_free({output: size}), "cpu", None,
        free_memory("cpu"), notes,
    )  # fmt: skip


def size_of(target: Target, *, weights_only: bool = False) -> int:
    """Return the bytes of a model's files that a checkpoint of it has too."""
    shards = sum(shard.size for shard in target.checkpoint.shards)
    if weights_only:
        return shards
    along, _ = side_files(target.checkpoint)
    return shards + sum((target.source.folder / name).stat().st_size for name in along)


def bake_seconds(target: Target, size: int) -> float:
    """Return about how long it takes to write a checkpoint, from how fast its base is read and hashed."""
    return STARTING + size / reading_speed([shard.path for shard in target.checkpoint.shards])
