"""The model that a quantised one was made from, whose neurons are taken for it: numbers of neurons are the same in both.

That it was made from it can't be known: the codes have no more of the original than layers and widths.
"""

from ..errors import NeuronsError
from ..models.source import resolve
from ..models.target import Target, open_target


def open_origin(model: str, target: Target) -> Target:
    """Open `model`, in which neurons for the quantised `target` are found.

    Raises NeuronsError where a target isn't quantised, or where layers, widths or families of the two disagree, and
    ModelError.
    """
    if not target.quantised:
        raise NeuronsError(
            f"{target.source.name} is not quantised, so its neurons are found in itself. Leave `neurons_of` out."
        )
    origin = open_target(resolve(model))
    if origin.quantised:
        raise NeuronsError(
            f"{origin.source.name} is quantised too ({origin.quantised}). Name the model that {target.source.name} was "
            "quantised from, or leave `neurons_of` out: then the neurons are found in the quantised model."
        )
    ours, theirs = target.feed_forward, origin.feed_forward
    pairs = {
        "model_type": (theirs.model_type, ours.model_type),
        "layers": (theirs.layers, ours.layers),
        "hidden size": (theirs.hidden, ours.hidden),
        "neurons a layer": (theirs.width, ours.width),
    }
    for what, (there, here) in pairs.items():
        if there != here:
            raise NeuronsError(_disagree(origin, target, f"{what} {there}", str(here)))
    if len(theirs.blocks) != len(ours.blocks):
        raise NeuronsError(_disagree(origin, target, f"{len(theirs.blocks)} networks", str(len(ours.blocks))))
    for there, here in zip(theirs.blocks, ours.blocks, strict=True):
        if there != here:
            raise NeuronsError(
                _disagree(origin, target, f"{there.width} neurons in {there.name}", f"{here.width} in {here.name}")
            )
    return origin


def _disagree(origin: Target, target: Target, there: str, here: str) -> str:
    return (
        f"{origin.source.name} has {there}, {target.source.name} has {here}: it was not quantised from that. Name the model "
        "that it was quantised from with `neurons_of`."
    )
