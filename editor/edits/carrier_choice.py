"""Carriers: where a constant can live in a checkpoint.

    native       the file has biases on the FFN's input. Exact
    flag         a key of config.json turns them on; every bias that the key creates is written, zeros included. Exact, but
                 some runtimes drop such biases in silence
    llama        the same function as another model_type, which has the flag. Exact; asked for, never chosen: another name
                 of the architecture is a surprise
    calibrated   no bias anywhere: a direction w with w·x ≈ 1 on real text stands in for 1. Shapes, names and config stay
                 the base's. Approximate, with a measured error

`auto` is native where the file has biases, else calibrated, which loads everywhere.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RecipeError
from ..files.checkpoint import Shard, Tensor
from ..models import as_llama as llama
from ..models.families import text_config, uncarried
from ..models.target import Target
from .byte_edits import is_packed_layer

EXACT = ("native", "flag", "llama")


@dataclass(frozen=True)
class Rewrite:
    """The changes of a carrier in a checkpoint besides the edits.

    They are keys of config.json, tensors that are split by rows into (name, rows), and new biases: name -> (length, name
    of the edit that fills it, or None: zeros).
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    split: Callable[[Tensor], list[tuple[str, int]]] | None = None
    biases: Mapping[str, tuple[int, str | None]] = field(default_factory=dict)


def choose(carrier: str, target: Target) -> str:
    """Return the carrier that `carrier` stands for.

    Raises RecipeError when the model can't have it, with those that it can.
    """
    if why := _uncarried(target, biased=has_biases(target)):
        raise RecipeError(f"{target.source.name} can hold no constants: {why}. Use deactivate or scale.")
    if carrier == "auto":
        return "native" if has_biases(target) else "calibrated"
    found = refusals(target)
    if found[carrier]:
        possible = [name for name, why in found.items() if not why]
        if not possible:
            raise RecipeError(f"{target.source.name} can hold no constants by {carrier}: {found[carrier]}.")
        raise RecipeError(
            f"{target.source.name} cannot carry constants by {carrier}: {found[carrier]}. It can by {', '.join(possible)}: "
            f"`carrier` {possible[0]}."
        )
    return carrier


def refusals(target: Target) -> dict[str, str | None]:
    """Each carrier, and why this model can't have it (None: it can)."""
    family, model_type = target.feed_forward.family, target.feed_forward.model_type
    biased = has_biases(target)
    if why := _uncarried(target, biased=biased):
        return dict.fromkeys(("native", "flag", "llama", "calibrated"), why)
    if target.feed_forward.mixture:
        why = "a mixture of experts holds constants in its own biases alone"
        return {"native": None, **dict.fromkeys(("flag", "llama", "calibrated"), why)}
    if target.quantised:
        why = "its weights are quantised"
        packed = all(is_packed_layer(target, number) for number in range(len(target.feed_forward.located)))
        return {
            "native": None if biased else "its feed-forward layers have no biases",
            "flag": f"{why}, and their kernels are not known to take biases that were not there",
            "llama": f"{why}, and their rows can't be told apart by name",
            "calibrated": f"{why}, so no neuron can be made to hold one exactly" if packed else None,
        }
    return {
        "native": None if biased else "its feed-forward layers have no biases",
        "flag": (
            f"{model_type} has no config key that turns biases on" if not family.flag
            else f"{family.flag} is on already" if biased else None
        ),
        "llama": llama.refusal(target.checkpoint),
        "calibrated": None,
    }  # fmt: skip


def _uncarried(target: Target, *, biased: bool) -> str | None:
    """Why no carrier at all can hold a constant."""
    if target.feed_forward.mixture and not biased:
        return "its experts have no biases, and no direction is known that is 1 for an expert's tokens"
    return uncarried(target.checkpoint.config)


def has_biases(target: Target) -> bool:
    """Whether the file has biases at both ends of every feed-forward network."""
    feed_forward = target.feed_forward
    names = {tensor.name for _, tensor in target.checkpoint.tensors()}
    return all(
        feed_forward.name(projection, number, "bias") in names
        for number, each in enumerate(feed_forward.located)
        for projection in (each.network.into, each.network.out)
    )


def ignored_biases(target: Target) -> list[str]:
    """Return the biases of feed-forward projections that are in the file and that the config does not ask for."""
    family, config = target.feed_forward.family, text_config(target.checkpoint.config)
    if family.bias is True or (family.bias and config.get(str(family.bias), True)) or config.get(str(family.flag)):
        return []
    own = {
        target.feed_forward.name(projection, number, "bias")
        for number, each in enumerate(target.feed_forward.located)
        for projection in each.network.projections
    }
    return sorted(own & {tensor.name for _, tensor in target.checkpoint.tensors()})


def rewrite(target: Target, carrier: str | None) -> Rewrite:
    """Return what choosing `carrier` (flag or llama; the others change nothing) does to the files."""
    feed_forward, family = target.feed_forward, target.feed_forward.family
    tensors = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    if carrier == "flag":
        projections = (*filter(None, (family.into, family.up, family.out)), *family.flagged)
        return Rewrite({str(family.flag): True}, None, dict(_biases(target, tensors, projections)))
    if carrier == "llama":
        config = text_config(target.checkpoint.config)
        if family.fused:
            biases: dict[str, tuple[int, str | None]] = {}
            for layer in range(feed_forward.layers):
                filled = feed_forward.name(family.into, layer, "bias")
                biases[filled.replace("gate_up_proj", "gate_proj")] = (feed_forward.width, filled)
                biases[filled.replace("gate_up_proj", "up_proj")] = (feed_forward.width, None)
                out = feed_forward.name(family.out, layer, "bias")
                biases[out] = (feed_forward.hidden, out)
        else:
            biases = dict(_biases(target, tensors, filter(None, (family.into, family.up, family.out))))
        if feed_forward.model_type == "qwen2":
            biases |= _biases(target, tensors, ("self_attn.o_proj",))
        keys = llama.config_keys(target.checkpoint)
        return Rewrite(keys, lambda tensor: llama.split(tensor, feed_forward, config), biases)
    return Rewrite()


def _biases(
    target: Target, tensors: Mapping[str, tuple[Shard, Tensor]], projections: Any
) -> Iterator[tuple[str, tuple[int, str | None]]]:
    """Yield a bias for each of the projections, in every layer, as long as its weight has rows."""
    for projection in projections:
        for layer in range(len(target.feed_forward.located)):
            weight, bias = (target.feed_forward.name(projection, layer, kind) for kind in ("weight", "bias"))
            if weight not in tensors:
                raise RecipeError(f"{target.source.name} has no {weight}, so its bias would have no length.")
            yield bias, (tensors[weight][1].shape[0], bias)
