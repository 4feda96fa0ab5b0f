"""Show a certificate."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..console import answer, note, table
from ..terminal import say

if TYPE_CHECKING:
    from ...editor.edits.certificate import Agreement, Certificate
    from ...editor.proof.prove import Proof


def show_proof(proof: "Proof", fast: bool, *, as_json: bool = False, silent: bool = False) -> None:
    """Show the certificate, unless `silent`, and say whether the checkpoint is what its recipe says."""
    certificate, problems = proof.certificate, proof.problems
    for line in proof.notes:
        note(f"Note: {line}")
    if fast and certificate.logits:
        note("The bytes are those whose logits were compared before: that part of the certificate is kept.")
    if as_json:
        answer(certificate.to_data())
    elif not silent:
        _show_tables(certificate, adapter=proof.adapter is not None)
    for problem in problems[:10]:
        note(f"Failed: {problem}")
    if len(problems) > 10:
        note(f"… and {len(problems) - 10} more.")
    note(f"{proof.folder} is {'NOT ' if problems else ''}what its recipe says.")


def _show_tables(certificate: "Certificate", *, adapter: bool) -> None:
    from ...cards.words.amounts import change, perplexity

    proof = certificate.bytes
    where = f"{proof.changed_columns:,} {{}} {proof.edited_tensors} {{}}"
    say(
        f"bytes: {where.format('rows and columns of', 'weights')} are changed by the adapter, all as the recipe says"
        if adapter
        else f"bytes: {where.format('rows and columns changed in', 'tensors')}, {proof.identical_tensors} tensors identical"
    )
    if certificate.logits:
        _show_difference(
            "adapter against hooked" if adapter else "baked against hooked", certificate.logits.by_language
        )
    if cut := certificate.cut:
        lost = ", ".join(f"{language} {count}" for language, count in cut.left_out.items() if count)
        _show_difference(f"adapter against all neurons, of which its rank left out {lost}", cut.by_language)
    if found := certificate.approximation:
        off = found.activation
        meant = "the exact constants, which a direction" if off else "a second table, which one for both"
        _show_difference(f"baked against {meant} approximates", found.by_language)
        if off:
            say(
                f"activations that should be constant are off by {off.all:.1%} (root mean square; worst layer "
                f"{off.worst_layer:.1%}), on a text's first token by up to {off.first_token:.0%}"
            )
    if certificate.effect:
        loss = certificate.effect.log_loss
        table(
            "effect on held-out text",
            ("text in", "perplexity, base", "this model", "random neurons", "Δ log-loss", "Δ by random"),
            [
                (
                    k,
                    perplexity(loss["base"][k]),
                    perplexity(loss["this model"][k]),
                    perplexity(loss["random neurons"][k]),
                    change(loss["this model"][k] - loss["base"][k]),
                    change(loss["random neurons"][k] - loss["base"][k]),
                )
                for k in loss["base"]
            ],
        )


def _show_difference(title: str, by_language: "Mapping[str, Agreement]") -> None:
    table(
        title,
        ("text in", "positions", "largest difference", "of logits up to", "KL, nats", "same top token"),
        [
            (
                k,
                row.positions,
                f"{row.max_logit:.1e}",
                f"{row.largest_logit:.0f}",
                f"{row.kl:.1e}",
                f"{row.same_top:.2%}",
            )
            for k, row in by_language.items()
        ],
    )
