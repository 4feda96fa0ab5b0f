"""The certificate: what `verify` measured, as it stands in the manifest."""

from collections.abc import Mapping
from typing import Any

from ..live.log_loss import Difference
from .bytes import Bytes
from .logits import Logits


def make_certificate(found: Bytes, logits: Logits | None) -> dict[str, Any]:
    """What goes into the manifest: figures rounded to what they are worth, no times, no paths."""
    result: dict[str, Any] = {
        "bytes": {
            "passed": not found.problems,
            "edited_tensors": found.tensors,
            "changed_columns": found.columns,
            "identical_tensors": found.other_tensors,
            "problems": list(found.problems),
        }
    }
    if logits:
        measured = logits.measured
        result["logits"] = {
            "passed": not logits.problems,
            "bound": logits.bound,
            "problems": list(logits.problems),
            "by_language": {
                language: _figures(difference) for language, difference in measured.difference["hooked"].items()
            },
        }
        if logits.approximation:
            found_there = logits.approximation
            deviation = found_there.deviation
            result["approximation"] = {
                "by_language": {language: _figures(d) for language, d in found_there.difference.items()},
                "log_loss_exact": {language: round(loss, 4) for language, loss in found_there.log_loss.items()},
                "activation": {
                    "all": float(f"{deviation['all']:.3g}"),
                    "worst_layer": float(f"{max(deviation['layers'].values(), default=0.0):.3g}"),
                    "first_token": float(f"{max(map(abs, deviation['first_token'].values()), default=0.0):.3g}"),
                },
            }
        result["effect"] = {
            "tokens": measured.tokens,
            "log_loss": {
                name: {language: round(value, 4) for language, value in by_language.items()}
                for name, by_language in measured.log_loss.items()
                if name not in ("hooked", "exact")
            },
        }
    return result


def with_earlier(made: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A certificate of the bytes alone, with what an earlier one says of the logits, which are compared only when the bytes
    are what the recipe makes of the base: where they are now, they are the same bytes."""
    earlier = before if isinstance(before, Mapping) else {}
    if not made["bytes"]["passed"] or not isinstance(earlier.get("logits"), Mapping):
        return made
    return {**earlier, **made}


def failures(certificate: Mapping[str, Any]) -> list[str]:
    """All that is not as the recipe says."""
    return [*certificate["bytes"]["problems"], *certificate.get("logits", {"problems": []})["problems"]]


def _figures(difference: Difference) -> dict[str, Any]:
    return {
        "positions": difference.positions,
        "max_logit": float(f"{difference.max_logit:.3g}"),
        "largest_logit": float(f"{difference.scale:.3g}"),
        "kl": float(f"{difference.kl:.3g}"),
        "same_top": round(difference.same_top, 5),
    }
