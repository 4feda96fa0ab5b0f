"""An opened model that can be edited: its source, its files, and where its feed-forward network lies."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import CheckpointError
from ..files.beside import beside
from ..files.checkpoint import Checkpoint, read_checkpoint
from ..files.companions import check_no_adapter
from ..files.fingerprint import fingerprint, sampled
from ..files.packed import Matrix, is_packed, quantisation_of
from .feed_forward import FeedForward, locate, unstacked
from .identity import Base, ModelInfo
from .quantised import feed_forward_weights, seen_as_floats
from .source import Source


@dataclass(frozen=True)
class Target:
    """`weights`: of a quantised checkpoint, the weights of its feed-forward networks by module, those left in floats too."""

    source: Source
    checkpoint: Checkpoint
    feed_forward: FeedForward
    fingerprint: str
    weights: Mapping[str, Matrix] = field(default_factory=dict)

    @property
    def quantised(self) -> str | None:
        """The format of quantised feed-forward weights, with its settings; several where layers differ."""
        forms = dict.fromkeys(matrix.form for matrix in self.weights.values() if is_packed(matrix))
        return "; ".join(forms) or None

    @property
    def base(self) -> Base:
        return Base(self.source.name, self.source.revision, self.fingerprint)


def open_target(source: Source) -> Target:
    """Read and check everything that an edit needs to know of a model. Raises ModelError."""
    check_no_adapter(source.folder)
    with _all_kept():
        checkpoint = read_checkpoint(source.folder, quantised=True)
        beside(checkpoint)  # what is not what it seems to be is told before anything slow
        return target_of(source, checkpoint)


@contextmanager
def _all_kept() -> Iterator[None]:
    """Look for no garbage meanwhile: of 100,000 tensors nearly all that is made is kept, and looking takes a third."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def target_of(source: Source, checkpoint: Checkpoint) -> Target:
    """Return the same of files that were read already."""
    quantisation_of(checkpoint.config)  # what it refuses is told before an unknown family
    checkpoint = unstacked(checkpoint)
    weights = feed_forward_weights(checkpoint)
    feed_forward = locate(seen_as_floats(checkpoint, weights))
    return Target(source, checkpoint, feed_forward, fingerprint(checkpoint, source.hashes), weights)


def check_unchanged(target: Target) -> None:
    """Raise CheckpointError when a model is no longer what it was when it was opened. Costs a look at its files' times."""
    if fingerprint(read_checkpoint(target.source.folder, quantised=True)) != target.fingerprint:
        raise CheckpointError(
            f"{target.source.folder} was changed while it was worked with, so what was made is of no model. Leave it alone "
            "and run it again."
        )


def is_sampled(target: Target, recorded: str) -> bool:
    """Whether a recorded fingerprint is the one that earlier versions gave this model, who looked at parts of it only."""
    return recorded == sampled(target.checkpoint)


def about_sampled(target: Target, recorded: str) -> str:
    """Say to whoever is told that something is another model's that an earlier version made it; else nothing."""
    if not is_sampled(target, recorded):
        return ""
    return (
        " An earlier version made it, whose fingerprint looked at parts of the weights only: that it is of these weights is "
        "not certain, so it has to be made anew."
    )


def model_info(target: Target) -> ModelInfo:
    feed_forward = target.feed_forward
    return ModelInfo(
        target.source.name,
        target.source.revision,
        feed_forward.model_type,
        feed_forward.layers,
        feed_forward.width,
        target.fingerprint,
        feed_forward.blocks,
    )
