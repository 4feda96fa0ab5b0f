"""How figures are written, so that the console, the card and the page say the same."""

import math
from collections.abc import Callable
from typing import Any

NONE = "–"


def number(value: Any) -> float:
    """Return a finite number, or NaN for everything else: what is missing, infinite, or no number at all."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    return math.nan


def or_dash(value: Any, form: Callable[[float], str]) -> str:
    """Write a number in some form, or a dash where there is none."""
    found = number(value)
    return NONE if math.isnan(found) else form(found)


def share(value: Any) -> str:
    return or_dash(value, "{:.0%}".format)


def count(value: Any) -> str:
    return or_dash(value, "{:,.0f}".format)


def change(nats: float) -> str:
    """Write a change of log-loss with its sign; a change that rounds to nothing has no sign."""
    text = f"{nats:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def perplexity(log_loss: float) -> str:
    return perplexity_figure(math.exp(min(log_loss, 50)))


def perplexity_figure(value: float) -> str:
    if value >= 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def small(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else f"{value:.1e}"
