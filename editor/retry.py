"""How long to wait before a server is asked again."""

import random
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

WAIT = 60.0  # s, at most, between two tries


def retry_after(value: str | None) -> float | None:
    """Return the seconds, at most WAIT, that a Retry-After header asks to wait, in seconds or as a date.

    None for no header.
    """
    if value is None:
        return None
    if re.fullmatch("[0-9]{1,9}", value.strip()):
        return min(WAIT, float(value))
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return min(WAIT, max(0.0, (when - datetime.now(timezone.utc)).total_seconds()))


def pause(tried: int, asked: float | None) -> float:
    """Seconds to wait after so many tries: what the server asked for, else 1, 2, 4 … with jitter, at most WAIT."""
    if asked is not None:
        return asked
    return min(WAIT, 2.0 ** (tried - 1)) * random.uniform(0.5, 1)  # noqa: S311  # no secret
