"""Searches that need a model whole, refused beforehand where it would run layer by layer.

What makes a model answer in a language is searched for by what it writes, and each token that it writes needs every layer. A
search for what switches a language off reads text only, so it runs layer by layer too (see `off`).
"""

from ..edits.request import AUTO, Request
from ..models.target import Target
from ..statistics.detection import Detection


def check_whole(target: Target, request: Request, detection: Detection) -> None:
    """Raise ModelError where `request` leaves open what is searched for by answers, and the model can't be whole in memory.

    A search for a strength asks the checkpoint beside the base, so it needs both.
    """
    models = 2 if request.strength == AUTO else 1
    if request.strength == AUTO or request.searches_on:
        detection.streaming.require_whole(
            target.source.folder, "a search by what the model writes", "Give `strength` a number", device=detection.device,
            dtype=detection.dtype, models=models,
        )  # fmt: skip
