"""What was done to a checkpoint and what it does to text, as tables, from its manifest."""

from collections.abc import Mapping
from typing import Any, Protocol

from ...editor.edits.certificate import Certificate
from ...editor.edits.manifest import Carrier
from ...editor.edits.recipe import REDIRECT, VECTOR, Edit, Recipe
from .amounts import NONE, change, count, number, or_dash
from .amounts import perplexity as of_log_loss
from .generated import MODELS
from .table import Table
from .wording import operation, script_operation


class Edited(Protocol):
    """A checkpoint or a GGUF file as its record says what was done: the recipe, and how many neurons of each language."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def edited(self) -> Mapping[str, int]: ...
    @property
    def kept(self) -> Mapping[str, int]: ...
    @property
    def neurons_edited(self) -> int: ...


def edits(manifest: Edited) -> Table:
    """Tabulate what was changed."""
    rows = [*((edit.language, operation(edit), *amounts(manifest, edit)) for edit in manifest.recipe.edits)]
    rows += scripts(manifest)
    of = "language or script" if manifest.recipe.scripts else "language"
    edited = (
        "neurons or tokens edited" if manifest.recipe.of_vocabulary or manifest.recipe.scripts else "neurons edited"
    )
    head = (of, "operation", edited, "kept, as another language measured shares them")
    return Table("what was changed", head, tuple(rows))


def scripts(manifest: Any) -> list[tuple[str, str, str, str]]:
    """List what became of each script, as rows of the table of edits."""
    return [
        (edit.script, script_operation(edit), f"{count(manifest.silenced[edit.script].tokens)} tokens", NONE)
        for edit in manifest.recipe.scripts
    ]


def amounts(manifest: Any, edit: Edit) -> tuple[str, str]:
    """Count the neurons or tokens that an edit of a recipe reached, and the neurons that were kept."""
    if edit.op == REDIRECT and edit.point is not None:
        return "1 neuron", NONE
    if edit.op == REDIRECT:
        return f"{count(manifest.redirected[edit.language].tokens)} tokens", NONE
    if edit.op == VECTOR:
        return "every token", NONE
    return count(manifest.edited[edit.language]), count(manifest.kept[edit.language])


def effect(certificate: Certificate | None) -> list[Table]:
    """Tabulate what a checkpoint does to text in each language, as `verify` measured it."""
    if certificate is None or certificate.effect is None:
        return []
    loss = certificate.effect.log_loss
    rows = []
    for code, tokens in certificate.effect.tokens.items():
        base, this, random = (number(loss.get(name, {}).get(code)) for name in MODELS)
        rows.append(
            (
                f"perplexity on {code} ({tokens:,} tokens)",
                *(or_dash(nats, of_log_loss) for nats in (base, this, random)),
                *(or_dash(nats - base, change) for nats in (this, random)),
            )
        )
    head = ("measure", *MODELS, "change of log-loss, nats", "change by random neurons")
    return [Table("effect on held-out text", head, tuple(rows))]


def calibration(carrier: Carrier | None) -> list[Table]:
    """How well a direction stands in for the constant 1, by layer."""
    layers = (carrier and carrier.calibration) or ()
    rows = tuple(
        (
            str(layer),
            f"{row.mean:.3f} ± {row.deviation:.3f}",
            or_dash(row.first_token, "{:.2f}".format),
            f"{row.worst_kind}, {row.worst:.2f}",
            f"{row.after:.1%}",
        )
        for layer, row in enumerate(layers)
    )
    head = ("layer", "w·x", "on the first token", "worst on", "error of the activation")
    return [Table("calibration", head, rows)] if rows else []
