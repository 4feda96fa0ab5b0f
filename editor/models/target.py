"""A model that is understood: where it is from, its files, and its feed-forward network."""

from dataclasses import dataclass

from ..files.checkpoint import Checkpoint, fingerprint, read_checkpoint
from .families import FeedForward, locate
from .identity import Base, ModelInfo
from .source import Source


@dataclass(frozen=True)
class Target:
    source: Source
    checkpoint: Checkpoint
    feed_forward: FeedForward
    fingerprint: str

    @property
    def base(self) -> Base:
        return Base(self.source.name, self.source.revision, self.fingerprint)


def open_target(source: Source) -> Target:
    """Read and check everything that an edit needs to know of a model. Raises ModelError."""
    checkpoint = read_checkpoint(source.folder)
    return Target(source, checkpoint, locate(checkpoint), fingerprint(checkpoint))


def model_info(target: Target) -> ModelInfo:
    feed_forward = target.feed_forward
    return ModelInfo(
        target.source.name,
        target.source.revision,
        feed_forward.model_type,
        feed_forward.layers,
        feed_forward.width,
        target.fingerprint,
    )
