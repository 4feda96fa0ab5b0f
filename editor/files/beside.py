"""The files beside a checkpoint's weights, chosen once for all who open, bake, prove or show it to a runtime."""

from .checkpoint import Checkpoint
from .companions import Companions, companions


def beside(checkpoint: Checkpoint) -> Companions:
    """Choose what comes along with a checkpoint, as `companions` does, and raise what that raises.

    The shards and their index are in neither list.
    """
    return companions(checkpoint.folder, checkpoint.config, set(checkpoint.files))
