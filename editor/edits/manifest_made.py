"""The manifest of a checkpoint that was just baked: what was carried out, in numbers."""

from typing import Any

from ..models import identity
from ..models.identity import ModelInfo
from ..models.target import Target, is_sampled
from ..version import VERSION
from .carriers import Carried
from .manifest import Base, CalibratedLayer, Carrier, FileEntry, Manifest, Moved, OutputTable, Read, SilencedScript
from .one_table import TableError
from .recipe import Recipe


def new(
    target: Target,
    recipe: Recipe,
    what: Carried,
    rounding: dict[str, float],
    files: dict[str, FileEntry],
    left_out: tuple[str, ...],
    one_table: dict[str, TableError] | None = None,
    found_in: ModelInfo | None = None,
) -> Manifest:
    """Make the manifest of a freshly baked checkpoint, of neurons that were `found_in` a model."""
    own = target.feed_forward
    base = Base(
        recipe.base.model, recipe.base.revision, target.fingerprint, target.source.hub, own.model_type, own.layers, own.width,
        len(own.blocks) or None, own.neurons if own.blocks else None,
    )  # fmt: skip
    return Manifest(
        monoglot=VERSION, base=base, recipe=recipe, edited=what.plan.edited, kept=what.plan.kept,
        neurons_edited=what.plan.size, carrier=_carrier(what), rounding=rounding, left_out=left_out, files=files,
        certificate=None, quantised=target.quantised, one_table=one_table, **_of_tokens(recipe, what),
        experts=tuple(f"{layer}.{expert}" for layer, expert in what.plan.experts) or None,
        found_in=_found_in(found_in, target) if recipe.needs_neurons else None,
    )  # fmt: skip


def _found_in(model: ModelInfo | None, target: Target) -> identity.Base | None:
    """Name the model that neurons were found in, where it is another than the edited one; imported masks don't say."""
    if model is None or model.fingerprint == target.fingerprint or is_sampled(target, model.fingerprint):
        return None
    return identity.Base(model.name, model.revision, model.fingerprint)


def _of_tokens(recipe: Recipe, what: Carried) -> dict[str, Any]:
    """Return what it says of edited tokens."""
    table = what.table
    found: dict[str, Any] = {}
    if table is not None and what.untied:
        added = 0 if table.has_output else table.tensor.end - table.tensor.begin
        found["output_table"] = OutputTable(table.output, added)
    if what.silenced:
        known = what.silenced.silence
        found["silenced"] = {
            script: SilencedScript(len(known.ids[script]), own.whole, own.mixed, own.pieces, len(own.staying))
            for script, own in known.tokens.items()
        }
        found["floor"] = known.floor
    if what.vocabulary is None:
        return found
    counted = {language: what.vocabulary.tokens(language) for language in what.vocabulary.languages}
    reading = [each for each in what.vectors if each.gate is not None]
    read = tuple(
        Read(
            edit.language, str(edit.to), vector.layer, int(str(vector.slot)),
            **what.vocabulary.readers[edit.language, vector.layer].record(),
        )
        for edit, vector in zip(recipe.readers, reading, strict=True)
    )  # fmt: skip
    found |= {"readers": read or None, "vocabulary": counted}
    if what.tokens is None:
        return found
    reached = (what.tokens.redirection.shares > 0).sum(axis=0).tolist()  # vectors come last
    moved = zip(recipe.of_tokens, reached[: len(recipe.of_tokens)], strict=True)
    return found | {
        "redirected": {edit.language: Moved(str(edit.to), count) for edit, count in moved} or None,
    }


def _carrier(what: Carried) -> Carrier | None:
    if what.carrier is None:
        return None
    layers = [CalibratedLayer(**layer) for layer in what.calibration.record()] if what.calibration else None
    return Carrier(
        name=what.carrier, layers_left_out=what.left_out, spare_neurons=what.spared,
        calibration=tuple(layers) if layers is not None else None,
    )  # fmt: skip
