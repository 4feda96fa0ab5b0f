"""A model that is understood: where it is from, its files, and its feed-forward network."""

from dataclasses import dataclass

from ..errors import CheckpointError
from ..files.checkpoint import Checkpoint, read_checkpoint
from ..files.companions import check_no_adapter, companions
from ..files.fingerprint import fingerprint, sampled
from .feed_forward import FeedForward, locate, unstacked
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
    check_no_adapter(source.folder)
    checkpoint = unstacked(read_checkpoint(source.folder))
    companions(checkpoint.folder, checkpoint.config, {shard.path.name for shard in checkpoint.shards})
    return Target(source, checkpoint, locate(checkpoint), fingerprint(checkpoint))


def check_unchanged(target: Target) -> None:
    """Raise CheckpointError when a model is no longer what it was when it was opened. Costs a look at its files' times."""
    if fingerprint(read_checkpoint(target.source.folder)) != target.fingerprint:
        raise CheckpointError(
            f"{target.source.folder} was changed while it was worked with, so what was made is of no model. Leave it alone "
            "and run it again."
        )


def is_sampled(target: Target, recorded: str) -> bool:
    """Whether a recorded fingerprint is the one that earlier versions gave this model, who looked at parts of it only."""
    return recorded == sampled(target.checkpoint)


def about_sampled(target: Target, recorded: str) -> str:
    """A sentence for whoever is told that something is another model's, where an earlier version made it; else nothing."""
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
