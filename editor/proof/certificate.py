"""Make the certificate of what `verify` measured."""

from ..edits.certificate import (
    Agreement,
    Approximation,
    BytesProof,
    Certificate,
    Cut,
    Deviation,
    Effect,
    LogitsProof,
    Unwritten,
)
from ..edits.manifest import Adapter
from ..live.log_loss import Difference
from .bytes import Bytes
from .logits import Logits


def make_certificate(found: Bytes, logits: Logits | None, adapter: Adapter | None = None) -> Certificate:
    """Put what was found together for the manifest: figures rounded to what they are worth, no times, no paths."""
    proof = BytesProof(not found.problems, found.tensors, found.columns, found.other_tensors, found.problems)
    if not logits:
        return Certificate(proof)
    measured = logits.measured
    approximation = None
    if logits.approximation:
        deviation = logits.approximation.deviation
        approximation = Approximation(
            {language: _agreement(each) for language, each in logits.approximation.difference.items()},
            {language: round(loss, 4) for language, loss in logits.approximation.log_loss.items()},
            None
            if deviation is None
            else Deviation(
                _rounded(deviation["all"]),
                _rounded(max(deviation["layers"].values(), default=0.0)),
                _rounded(max(map(abs, deviation["first_token"].values()), default=0.0)),
            ),
        )
    by_language = {language: _agreement(each) for language, each in measured.difference["hooked"].items()}
    unwritten = {
        language: Unwritten(_rounded(each.max_logit), _rounded(each.highest), each.left_out)
        for language, each in measured.unwritten.get("hooked", {}).items()
    }
    log_loss = {
        name: {language: round(value, 4) for language, value in by.items()}
        for name, by in measured.log_loss.items()
        if name not in ("hooked", "exact", "uncut")
    }
    cut = None
    if adapter and "uncut" in measured.difference:
        whole = {language: round(loss, 4) for language, loss in measured.log_loss["uncut"].items()}
        parted = {language: _agreement(each) for language, each in measured.difference["uncut"].items()}
        cut = Cut(adapter.left_out, parted, whole)
    return Certificate(
        proof,
        LogitsProof(not logits.problems, logits.bound, logits.problems, by_language, unwritten or None),
        approximation,
        Effect(measured.tokens, log_loss),
        cut,
    )


def _agreement(difference: Difference) -> Agreement:
    return Agreement(
        difference.positions,
        _rounded(difference.max_logit),
        _rounded(difference.scale),
        _rounded(difference.kl),
        round(difference.same_top, 5),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
