"""How long to wait before a server is asked again."""

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

WAIT = 60.0  # s, at most, between two tries


def retry_after(value: str | None) -> float | None:
    """The seconds, at most WAIT, that a Retry-After header asks to wait: it has seconds or a date. None where it has none."""
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
