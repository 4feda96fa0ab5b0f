"""What was proved of a checkpoint, in words, from its certificate."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ...editor.edits.certificate import Agreement, Approximation, BytesProof, Certificate, Cut, LogitsProof
from .amounts import small
from .foreign import cell


class Verdict(NamedTuple):
    """A sentence about a proof; `alarm` is what a failed one is called, and comes first."""

    text: str
    alarm: str = ""

    def markdown(self) -> str:
        return f"**{cell(self.alarm)}**: {cell(self.text)}" if self.alarm else cell(self.text)


def verdicts(certificate: Certificate | None, *, adapter: bool = False) -> list[Verdict]:
    """List what was proved of a checkpoint, or an adapter; what was not looked at is left out."""
    if certificate is None:
        return []
    found = [bytes_verdict(certificate.bytes, adapter=adapter)]
    if certificate.logits:
        found.append(
            logits_verdict(certificate.logits, stand_in=certificate.approximation is not None, adapter=adapter)
        )
    if certificate.cut:
        found.append(cut_verdict(certificate.cut))
    if certificate.approximation:
        found.append(distance(certificate.approximation))
    return found


def bytes_verdict(found: BytesProof, *, adapter: bool = False) -> Verdict:
    if not found.passed:
        return Verdict(_first(found.problems), "The bytes are not what the recipe says")
    if adapter:
        return Verdict(
            f"Made again from the base and compared byte for byte: it changes {found.changed_columns:,} rows and columns of "
            f"{found.edited_tensors} weights, exactly the recipe's."
        )
    return Verdict(
        f"Compared with the base byte for byte: {found.changed_columns:,} rows and columns in "
        f"{found.edited_tensors} tensors changed, exactly the recipe's; the other {found.identical_tensors} tensors "
        "are identical."
    )


def logits_verdict(found: LogitsProof, *, stand_in: bool, adapter: bool = False) -> Verdict:
    what = "The base with the adapter" if adapter else "The checkpoint"
    if not found.passed:
        return Verdict(_first(found.problems), f"{what} does not behave like the hooked base")
    rows = found.by_language.values()
    same = ", with the same stand-in for the constant," if stand_in else ""
    how = (
        f"{'The base with the adapter, added at run time, compared' if adapter else 'Compared'} with the base under forward "
        f"hooks that do the same at run time{same} on "
        f"{sum(row.positions for row in rows):,} positions in {len(rows)} language{'s' * (len(rows) != 1)}: "
    )
    if max((row.max_logit for row in rows), default=0) == 0:
        return Verdict(f"{how}every logit is the same, to the bit.")
    return Verdict(how + _difference(rows))


def cut_verdict(found: Cut) -> Verdict:
    """Say what a highest rank lost."""
    lost = ", ".join(f"{language} {count:,}" for language, count in found.left_out.items() if count)
    return Verdict(
        f"Its rank has a limit, and the neurons that matter least were left out ({lost}). Against the base with all of them "
        f"edited by hooks: {_difference(found.by_language.values())}"
    )


def _first(problems: Sequence[str]) -> str:
    return problems[0] if problems else "No reason is given."


def _difference(rows: Collection[Agreement]) -> str:
    return (
        f"the largest difference of a logit is {small(max(row.max_logit for row in rows))} (logits reach "
        f"{max(row.largest_logit for row in rows):.0f}), mean KL at most {small(max(row.kl for row in rows))} nats, "
        f"the same top token in at least {min(row.same_top for row in rows):.2%}."
    )


def distance(found: Approximation) -> Verdict:
    """How far a checkpoint is from exact constants, or from one with a second table."""
    off = found.activation
    if off is None:
        how = "Against the base with a second table to write with, which one table for both approximates: "
        return Verdict(f"{how}{_difference(found.by_language.values())}")
    how = "Against the base with the exact constants, which the stand-in approximates: "
    return Verdict(
        f"{how}{_difference(found.by_language.values())} The activations themselves are off by {off.all:.1%} in the "
        f"root mean square (worst layer {off.worst_layer:.1%}), on the first token of a text by up to "
        f"{off.first_token:.0%}."
    )
