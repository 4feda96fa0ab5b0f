"""What commands print of a baked checkpoint."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .console import answer, note, print_tables, table
from .terminal import say

if TYPE_CHECKING:
    from ..cards.words.changes import Edited
    from ..editor.edits.bake import Baked
    from ..editor.edits.manifest import Carrier

SHOWN = (
    "neurons_edited", "edited", "kept", "found_in", "one_table", "carrier", "rounding", "strength", "candidates", "left_out",
)  # fmt: skip


def show_baked(baked: "Baked", as_json: bool) -> None:
    manifest = baked.manifest
    if as_json:
        data = manifest.to_data()
        answer(
            {
                "folder": str(baked.folder),
                **{key: data.get(key) for key in SHOWN},
                "sha256": {name: entry.sha256 for name, entry in manifest.files.items()},
            }
        )
        return
    from ..cards.words.origin import found_in

    if manifest.strength:
        show_curve(manifest.strength)
    if manifest.candidates:
        from ..cards.words.tables import candidates

        print_tables(candidates(manifest.candidates))
    show_edits(baked.folder.name, manifest)
    if sentence := found_in(manifest):
        say(sentence)
    for one in manifest.readers or ():
        table(
            f"reader of {one.language}, layer {one.layer}: unseen text",
            ("text in", "mean answer", "fires on"),
            [(code, f"{one.response[code]:.2f}", f"{share:.1%}") for code, share in one.fires.items()],
        )
    if manifest.one_table:
        table(
            "one table to read and to write with: what that does to what is written, on held-out text",
            ("text in", "mean KL, nats", "change of log-loss"),
            [(code, f"{error.kl:.3g}", f"{error.loss:+.3g}") for code, error in manifest.one_table.items()],
        )
    if manifest.carrier:
        _show_carrier(manifest.carrier, manifest.rounding)
    if manifest.experts:
        note(f"No token is sent to {len(manifest.experts):,} experts: {', '.join(manifest.experts)}.")
    if not manifest.candidates:  # a search has tried that
        note_shared(manifest)
    if manifest.left_out:
        note(f"Left behind, as they are no part of the model: {', '.join(manifest.left_out)}.")


def show_edits(name: str, manifest: "Edited") -> None:
    """Show what was done to which language."""
    from ..cards.words.changes import amounts, scripts
    from ..cards.words.wording import operation

    rows = [(edit.language, operation(edit), *amounts(manifest, edit)) for edit in manifest.recipe.edits]
    if manifest.recipe.of_vocabulary or manifest.recipe.scripts:
        rows += scripts(manifest)
        of = "language or script" if manifest.recipe.scripts else "language"
        table(f"{name}: what was changed", (of, "operation", "neurons or tokens edited", "kept, shared"), rows)
        return
    table(
        f"{name}: {manifest.neurons_edited:,} neurons edited",
        ("language", "operation", "neurons edited", "kept, shared"),
        rows,
    )


def note_shared(manifest: "Edited") -> None:
    for language, kept in manifest.kept.items():
        if kept > manifest.edited[language]:
            note(
                f"Most neurons of {language} are shared with other languages and were kept, so the effect is weaker: "
                "--shared edit takes them too."
            )


def _show_carrier(carrier: "Carrier", rounding: Mapping[str, float]) -> None:
    """Where the constants went, and what that costs."""
    cast = ", ".join(f"{what} {error:.1e}" for what, error in rounding.items())
    say(f"carrier: {carrier.name}; rounding to the checkpoint's dtype, relative: {cast or 'none'}")
    if not carrier.calibration:
        return
    table(
        "calibration, on text that it was not fitted to",
        ("layer", "w·x", "deviation", "first token", "worst on", "there", "level", "error of the activation"),
        [
            (
                number,
                f"{row.mean:.3f}",
                f"{row.deviation:.3f}",
                "–" if row.first_token is None else f"{row.first_token:.2f}",
                row.worst_kind,
                f"{row.worst:.2f}",
                f"{row.level:g}",
                f"{row.after:.1%}" + (" left out" if number in carrier.layers_left_out else ""),
            )
            for number, row in enumerate(carrier.calibration)
        ],
    )


def show_curve(curve: Mapping[str, Any]) -> None:
    """Show the curve as a table, and what the checkpoint wrote."""

    rows = [("0, the base", curve["base"]), *((f"{p['strength']:g}, hooks", p) for p in curve["points"])]
    rows += [(f"{p['strength']:g}, checkpoint", p) for p in curve["checkpoint"]]

    def figure(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    table(
        f"strength, for answers in {curve['language']}",
        ("strength", "in the language", "perplexity to the base", "repetition", "KL, nats", ""),
        [
            (
                name,
                f"{point['accuracy']:.0%}",
                figure(point["perplexity"], ".1f"),
                figure(point["repetition"], ".0%"),
                figure(point["kl"], ".2f"),
                "falls apart" if point["fallen_apart"] else "",
            )
            for name, point in rows
        ],
    )
    for sample in curve["samples"]:
        say(f"  {sample['prompt']} …  {' '.join(sample['answer'].split())}")
